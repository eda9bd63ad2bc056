"""The keys of assets: each artifact has its own, whatever characters its name has and however long it is."""

from pathlib import Path

import pytest
from prefect.assets import Asset

from clinops_prefect import LocalPipelineStore
from clinops_prefect.assets import _asset


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("s3://b/p/x.parquet", "s3://b/p/x.parquet"),
        ("s3://b/a b#c.parquet", "s3://b/a~20b~23c.parquet"),
        ("s3://b/a%20b.csv", "s3://b/a~2520b.csv"),
        ("s3://b/a~20b.csv", "s3://b/a~7E20b.csv"),
        ("file:///srv/a%20b%23c.csv", "file:///srv/a~20b~23c.csv"),
        ("file:///srv/%C3%BC.csv", "file:///srv/ü.csv"),
        ("file:///srv/100%25.csv", "file:///srv/100~25.csv"),
        ("gs://b/ü.csv", "gs://b/ü.csv"),
        ("file:///srv/%FF.csv", "file:///srv/~FF.csv"),
    ],
)
def test_a_key_is_the_uri_escaped_exactly_once(uri: str, key: str) -> None:
    assert _asset(uri).key == key


def test_a_file_and_an_object_of_the_same_name_have_keys_of_the_same_spelling(tmp_path: Path) -> None:
    uri = LocalPipelineStore(str(tmp_path / "a b")).uri("ward 7/x")
    assert _asset(uri).key == f"file://{tmp_path}/a~20b/ward~207/x.parquet"


@pytest.mark.parametrize("length", [480, 500, 505, 512, 600, 1000])
def test_long_uris_have_keys_and_no_two_have_the_same(length: int) -> None:
    uris = [f"s3://b/{'x ' * (length // 2)}{end}" for end in ("1", "2", "~", " ")]
    assets = [_asset(uri) for uri in uris]
    assert all(isinstance(asset, Asset) and len(asset.key) <= 512 for asset in assets)
    assert len({asset.key for asset in assets}) == len(uris)
