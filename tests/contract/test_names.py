"""Names, and what a listing says of them."""

from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from clinops_prefect import ArtifactNotFoundError, ClinopsPrefectError, InvalidArtifactNameError
from tests.contract.conftest import clouds
from tests.doors import Can, Door
from tests.proxy import Proxy

FRAME = pd.DataFrame({"a": [1, 2]})
GOOD = [
    "a", "a/b/c", "features/windows_2024_01", "date=2024-01-01/shard=3", "v1.2.3/x.y", "ä/漢字/😀", "with space",
    "x.parquet", "x.csv", ".hidden", "a%2Fb", "a+b", "a?b#c", "a:b", "a\\b", "a&b='\"<>", "~", "-", "…",
    "e\u0301", "\u00e9", "n" * 200,
]  # fmt: skip
BAD = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a\x00b", "a\nb", "a\x7f", "a\x85", "\ud800",
    "a\u2028b", "a\u202eb", "n" * 4000, "é" * 2000,
]  # fmt: skip


def test_every_good_name_round_trips_lists_and_deletes(door: Door, format: str) -> None:
    store = door.store(prefix="p/q", format=format)
    good = [name for name in GOOD if not name.endswith(f".{format}")]
    if Can.KEEP_BACKSLASHES not in door.can:
        good = [name for name in good if "\\" not in name]
    for number, name in enumerate(good):
        uri = store.upload(pd.DataFrame({"a": [number]}), name)
        assert uri == store.uri(name)
    # Not fewer: no two of them are one object.
    assert store.list_artifacts() == sorted(good)
    for number, name in enumerate(good):
        assert store.download(name)["a"].tolist() == [number]
        assert f"p/q/{name}.{format}" in door.keys()
    for name in good:
        store.delete_artifact(name)
    assert door.keys() == []


@pytest.mark.parametrize("name", ["labs.parquet", "a/labs.PARQUET", "labs.csv", "labs.Csv", "x.parquet.parquet"])
def test_the_stores_own_extension_is_refused_by_every_method_and_the_name_without_it_shown(
    door: Door, format: str, name: str
) -> None:
    store = door.store(format=format)
    if not name.lower().endswith(format):
        store.upload(FRAME, name)
        assert store.list_artifacts() == [name]
        return
    store.upload(FRAME, "x")
    before = door.keys()
    for call in (
        lambda n: store.upload(FRAME, n), lambda n: store.upload_batches([FRAME], n), store.download, store.stat,
        lambda n: list(store.iter_batches(n)), store.exists, store.delete_artifact, store.uri, store.list_versions,
        lambda n: store.copy_artifact(n, "x"), lambda n: store.copy_artifact("x", n),
    ):  # fmt: skip
        with pytest.raises(InvalidArtifactNameError, match=f"adds .{format} itself") as caught:
            call(name)
    assert ("use '" in str(caught.value)) == (name != "x.parquet.parquet")
    assert door.keys() == before
    # A plain object has its extension in its path.
    assert store.write_bytes(f"b/{name}", b"1").endswith(name)


def test_what_is_listed_can_be_downloaded_also_beside_an_extension_twice(door: Door, format: str) -> None:
    store = door.store(format=format)
    store.upload(FRAME, "x")
    door.put(f"y.{format}.{format}", b"another program's")
    assert [store.download(name).shape for name in store.list_artifacts()] == [FRAME.shape]


def test_a_bad_name_is_refused_by_every_method(door: Door, format: str) -> None:
    store = door.store(format=format)
    for name in [*BAD, None, 7, b"x"]:
        for call in (
            lambda n: store.upload(FRAME, n), lambda n: store.upload_batches([FRAME], n), store.download, store.stat,
            lambda n: list(store.iter_batches(n)), store.exists, store.delete_artifact, store.uri, store.list_versions,
            lambda n: store.copy_artifact(n, "x"), lambda n: store.copy_artifact("x", n), store.read_bytes,
            lambda n: store.write_bytes(n, b""),
        ):  # fmt: skip
            with pytest.raises(InvalidArtifactNameError) as caught:
                call(name)
            assert isinstance(caught.value, ValueError)
            assert len(str(caught.value)) < 1000
    assert door.keys() == []


@clouds
def test_a_bad_name_is_refused_before_any_request(door: Door, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url)
    for name in BAD:
        with pytest.raises(InvalidArtifactNameError):
            store.download(name)
    assert proxy.seen == []


def test_a_bad_prefix_is_refused(door: Door) -> None:
    for prefix in ("/a", "a//b", "..", "a/../b"):
        with pytest.raises(InvalidArtifactNameError):
            door.store(prefix=prefix)
        with pytest.raises(InvalidArtifactNameError):
            door.store().list_artifacts(prefix)
    assert door.store(prefix="a/b/").uri("x").endswith("/a/b/x.parquet")


def test_a_listing_is_sorted_and_of_its_own_path_and_format(door: Door) -> None:
    """Never a sibling that shares a beginning, a sidecar, a plain object, or another format."""
    store, old = door.store(prefix="clinops/prod"), door.store(prefix="clinops/prod-old")
    for name in ("features/b", "features/a", "features_old/c", "features", "z"):
        store.upload(FRAME, name)
    old.upload(FRAME, "features/old")
    door.store().upload(FRAME, "clinops/prod")
    door.store(prefix="clinops/prod", format="csv").upload(FRAME, "features/csv")
    store.write_bytes("features/report.html", b"")
    assert store.list_artifacts() == ["features", "features/a", "features/b", "features_old/c", "z"]
    assert store.list_artifacts("features") == ["features/a", "features/b"]
    assert store.list_artifacts("features/") == ["features/a", "features/b"]
    assert store.list_artifacts("feat") == []
    assert store.list_artifacts("none/such") == []
    assert door.store(prefix="clinops/prod", format="csv").list_artifacts() == ["features/csv"]
    assert door.store().list_artifacts("clinops/prod-old") == ["clinops/prod-old/features/old"]
    for name in store.list_artifacts():
        assert len(store.download(name)) == 2


def test_what_others_put_there_under_impossible_names_is_not_listed(door: Door) -> None:
    """Every listed name can be passed to `download`."""
    keys = [".parquet", "p/.parquet", "p/a.PARQUET", "p/aparquet"]
    if door.scheme != "file":
        keys += ["p/a\u202eb.parquet", "p/a\u2028b.parquet"]
    for key in keys:
        door.put(key, b"x")
    door.store(prefix="p").upload(FRAME, "good")
    assert door.store(prefix="p").list_artifacts() == ["good"]
    assert door.store().list_artifacts() == ["p/good"]


def test_2500_artifacts_are_all_listed(door: Door) -> None:
    store, data = door.store(prefix="many"), FRAME.to_parquet(None)
    names = [f"d{i % 7}/{i:05d}" for i in range(2_500)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: door.put(f"many/{name}.parquet", data), names))
    found = store.list_artifacts()
    assert found == sorted(names)
    assert store.list_artifacts("d3") == sorted(name for name in names if name.startswith("d3/"))
    assert store.download(found[-1]).equals(FRAME)


def test_an_empty_store_lists_nothing(door: Door) -> None:
    assert door.store(prefix="nowhere").list_artifacts() == []


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_a_name_that_is_a_directory_or_goes_through_a_file_is_an_error_of_ours(door: Door) -> None:
    store = door.store()
    store.upload(FRAME, "a")
    with pytest.raises(InvalidArtifactNameError):
        store.upload(FRAME, "a.parquet/b")
    store.upload(FRAME, "d.parquet/x")
    for call in (store.download, store.stat, store.delete_artifact, lambda n: list(store.iter_batches(n))):
        with pytest.raises(ArtifactNotFoundError):
            call("d")
    with pytest.raises(ClinopsPrefectError):
        store.upload(FRAME, "d")
    assert store.exists("d") is False
    assert store.list_artifacts() == ["a", "d.parquet/x"]
