"""Texts, paths and block references as locations: no mistyped text becomes a folder, and no message has a secret."""

import functools
import logging
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinops_prefect import InvalidStoreError, LocalPipelineStore, PipelineStore, registry
from clinops_prefect.locations import BlockReference, Location, parse
from clinops_prefect.tasks import open_store

SLUGS = ["gcs-pipeline-store", "local-pipeline-store", "s3-pipeline-store"]

FOLDERS = [
    "/srv/data", "/srv/a:b", "//srv/data", "./s3:/b/x", "./s3-pipeline-store/prod", "../s3://b/x", "~/data",
    "~nobody/s3://x", "demo/store", "demo", ".", "..", "my data/x", "gs/bucket", "store/x", "restore", "b/my-store",
    "s3-pipeline", "ünï/çødé", "a@b/c", "2024-01-01",
]  # fmt: skip

# A text, and the proposal in the message.
MISTYPED = [
    ("s3:/b/x", "'s3://b/x'"), ("s3:b/x", "'s3://b/x'"), ("s3//b/x", "'s3://b/x'"), ("s3:///b/x", "'s3://b/x'"),
    ("s3::/b/x", "did you mean"), ("S3://b/x", "'s3://b/x'"), ("s4://b/x", "'s3://b/x'"), ("s3a://b/x", "'s3://b/x'"),
    ("ss3://b", "'s3://b'"), ("s3n://b", "'s3://b'"), ("gs:/b/x", "'gs://b/x'"), ("gcs://b/x", "'gs://b/x'"),
    ("GS://b/x", "'gs://b/x'"), ("gs//b", "'gs://b'"), ("file:/srv/x", "'file:///srv/x'"),
    ("file:srv/x", "'file:///srv/x'"), ("file://srv/x", "'file:///srv/x'"), ("fil:///srv/x", "'file:///srv/x'"),
    ("FILE:///srv", "'file:///srv'"), ("file://LOCALHOST.example/srv", "did you mean"),
    ("wasbs://c/x", "'az://c/x'"), ("abfs://c/x", "'az://c/x'"), ("https://b.example.org/x", "did you mean"),
    ("azure://c/x", "'az://c/x'"), ("azure:/c", "'az://c'"), ("wasb://c", "'az://c'"), ("gcs:b/x", "'gs://b/x'"),
    ("abfss://c-1@icu.dfs.core.windows.net/x/y", "'az://c-1/x/y' with account_url='https://icu.blob.core.windows.net'"),
    ("wasbs://c@icu.blob.core.chinacloudapi.cn", "'az://c' with account_url='https://icu.blob.core.chinacloudapi.cn'"),
    ("az://c@icu.blob.core.windows.net/x", "'az://c/x' with account_url='https://icu.blob.core.windows.net'"),
    ("abfss://c@lake.example.org/x", "mean az://CONTAINER/PATH?"), ("abfss://C+/=@lake.example.org/x", "az://CONTAINER/PATH"),
    ("https://icu.blob.core.windows.net/c/x?sig=a", "'az://c/x' with account_url='https://icu.blob.core.windows.net'"),
    ("https://b.s3.amazonaws.com/x", "'s3://b/x'"), ("https://my.b.s3.eu-west-1.amazonaws.com/x", "'s3://my.b/x'"),
    ("https://s3.cn-north-1.amazonaws.com.cn/b/x", "'s3://b/x'"), ("https://b.s3-eu-west-1.amazonaws.com", "'s3://b'"),
    ("https://s3.amazonaws.com/b/x?X-Amz-Signature=a", "'s3://b/x'"), ("arn:aws:s3:::b/x", "'s3://b/x'"),
    ("arn:aws:s3:eu-west-1:123456789012:accesspoint/a", "'s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/a'"),
    ("https://a-123.s3-accesspoint.eu-west-1.amazonaws.com/x", "one of az://"),
    ("https://storage.googleapis.com/b/x", "'gs://b/x'"), ("https://storage.cloud.google.com/b/x#1", "'gs://b/x'"),
    ("s3://", "did you mean"), ("gs:///", "did you mean"), ("s3://b/x?region=eu", "'s3://b/x'"),
    ("s3://b/x#part", "'s3://b/x'"), ("s3://b:9000/x", "'s3://b/x'"), (" s3://b/x", "'s3://b/x'"),
    ("s3://b/x\n", "'s3://b/x'"), ("s3://b/x\u200b", "'s3://b/x'"), ("\ts3:/b", "'s3://b'"), ("://x", "s3://"),
    ("demo//store", "'./demo//store'"), ("demo:store", "'./demo:store'"), ("C:\\data", "./data"), ("C:/data", "./data"),
    ("\\\\server\\share", "did you mean"), ("data\\x", "did you mean"), (" demo", "did you mean"),
    ("s3-pipline-store/prod", "'s3-pipeline-store/prod'"), ("S3-Pipeline-Store/prod", "'s3-pipeline-store/prod'"),
    ("s3_pipeline_store/prod", "'s3-pipeline-store/prod'"), ("S3PipelineStore/prod", "'s3-pipeline-store/prod'"),
    ("s3-piepline-store/prod", "'s3-pipeline-store/prod'"), ("s3-pipeline-stor/prod", "'s3-pipeline-store/prod'"),
    ("s3-pipeline-stores/prod", "'s3-pipeline-store/prod'"), ("gs-pipeline-store/prod", "'gcs-pipeline-store/prod'"),
    ("gcs_pipeline-stor/prod", "'gcs-pipeline-store/prod'"), ("locl-pipeline-store/x", "'local-pipeline-store/x'"),
    ("pipeline-store/prod", "'./pipeline-store/prod'"), ("my-store", "'./my-store'"), ("my-STORE/x", "'./my-STORE/x'"),
    ("sftp-pipeline-store/prod", "'./sftp-pipeline-store/prod'"), ("s3-pipeline-store", "'s3-pipeline-store/NAME'"),
    ("s3-pipeline-store/", "'s3-pipeline-store/NAME'"), ("s3-pipeline-store/a/b", "'s3-pipeline-store/NAME'"),
    ("s3-pipeline-store/prod ", "did you mean"), ("s3-pipeline-store:prod", "did you mean"),
    ("step-functions-pipeline/prod", "'./step-functions-pipeline/prod'"), ("", "./data"), ("  ", "./data"),
    ("file://", "file:///srv"), ("file://localhost", "file:///srv"), ("file:///a%zz", "%25"), ("file:///a%2Fb", "%25"),
    ("file:///a%00b", "%25"), ("file:///a%", "%25"), ("file:///a?b", "did you mean"),
]  # fmt: skip


@pytest.mark.parametrize("find", [PipelineStore.from_uri, open_store])
@pytest.mark.parametrize("text", FOLDERS)
def test_a_text_is_a_folder_if_it_says_so_or_resembles_nothing_else(find: Any, text: str) -> None:
    store = find(text)
    assert isinstance(store, LocalPipelineStore)
    assert store.directory == text


@pytest.mark.parametrize("find", [PipelineStore.from_uri, open_store])
@pytest.mark.parametrize(("text", "proposed"), MISTYPED)
def test_a_mistyped_text_is_refused_with_a_proposal(
    find: Any, text: str, proposed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidStoreError) as refused:
        find(text).upload(pd.DataFrame({"a": [1]}), "x")
    assert isinstance(refused.value, ValueError)
    assert proposed in str(refused.value)
    assert len(str(refused.value)) <= 240
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("file:///srv/d", "/srv/d"), ("file://localhost/srv/d", "/srv/d"), ("file://LocalHost/srv", "/srv"),
        ("file:///a%20b%23c%3F", "/a b#c?"), ("file:///%C3%BC", "/ü"), ("file:///", "/"), ("file:////x", "//x"),
        ("file:///a:b//c", "/a:b//c"),
    ],
)  # fmt: skip
def test_a_file_uri_is_the_folder_that_it_names(text: str, folder: str) -> None:
    store = PipelineStore.from_uri(text)
    assert isinstance(store, LocalPipelineStore)
    assert store.directory == folder


@pytest.mark.parametrize("text", ["s3:/b/x", "s3-pipeline-store/prod", "a:b", "my-store", "C:\\data"])
def test_a_path_object_is_a_folder_whatever_its_name(text: str) -> None:
    class Named:
        def __fspath__(self) -> str:
            return text

    for where in (Path(text), PurePosixPath(text), Named()):
        for find in (PipelineStore.from_uri, open_store):
            store = find(where)  # type: ignore[operator]
            assert isinstance(store, LocalPipelineStore)
            assert store.directory == text


@pytest.mark.parametrize("where", [None, 7, b"s3://b", ["s3://b"]])
def test_another_type_is_a_type_error(where: Any) -> None:
    for find in (PipelineStore.from_uri, open_store):
        with pytest.raises(TypeError, match="text or by a path"):
            find(where)


@pytest.mark.parametrize("slug", SLUGS)
def test_from_uri_refuses_a_block_reference_and_names_open_store(slug: str) -> None:
    found = parse(f"{slug}/prod")
    assert isinstance(found, BlockReference)
    assert (found.kind.slug, found.name) == (slug, "prod")
    with pytest.raises(InvalidStoreError, match=rf"open_store\('{slug}/prod'\)"):
        PipelineStore.from_uri(f"{slug}/prod")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAEXAMPLE:hunter2@b/x", "s3://AKIAEXAMPLE:hun/ter2/hunter2@b/x", "s3:/AKIA:hunter2@b/x",
        "s3://AKIA:p@hunter2@b/x", "gs://hunter2@b", "https://u:hunter2@h/x", "s3://hunter2@b?x=1", "s3://AKIA:hunter2/b",
        "https://h/x?X-Amz-Signature=hunter2", "az://c/x?sig=hunter2", "s3://b/x?sig=hunter2", "file://u:hunter2@h/x",
        "s4:u:hunter2@b", "s3-pipline-store/hunter2@x:y",
    ],
)  # fmt: skip
def test_no_secret_of_a_uri_is_shown(uri: str) -> None:
    with pytest.raises(InvalidStoreError) as refused:
        open_store(uri)
    assert "hunter2" not in str(refused.value)
    assert "ter2" not in str(refused.value)


def test_a_prefix_may_be_given_only_once() -> None:
    assert PipelineStore.from_uri("s3://b", prefix="p").prefix == PipelineStore.from_uri("s3://b/p").prefix == "p"
    with pytest.raises(InvalidStoreError, match="twice"):
        PipelineStore.from_uri("s3://b/p", prefix="q")


def test_a_local_store_refuses_a_uri_as_directory_and_an_unknown_home() -> None:
    for uri in ("s3://b/x", "file:///srv", "gcs://x"):
        with pytest.raises(InvalidStoreError, match="from_uri"):
            LocalPipelineStore(uri)
    for store in (LocalPipelineStore(""), LocalPipelineStore("~no-such-user-here/x")):
        with pytest.raises(InvalidStoreError, match="directory"):
            store.list_artifacts()


def test_the_first_write_to_a_new_folder_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    for name in ("x", "y"):
        PipelineStore.from_uri("demo/data").upload(pd.DataFrame({"a": [1]}), name)
    said = [record.getMessage() for record in caplog.records if str(tmp_path / "demo/data") in record.getMessage()]
    assert len(said) == 1


@functools.cache
def edits(one: str, two: str) -> int:
    """Levenshtein's distance, by its definition."""
    if not one or not two:
        return len(one) + len(two)
    if one[0] == two[0]:
        return edits(one[1:], two[1:])
    return 1 + min(edits(one[1:], two), edits(one, two[1:]), edits(one[1:], two[1:]))


def may_be_a_folder(text: str) -> bool:
    """Whether the documented rule takes the text for a folder."""
    if text.startswith(("/", "./", "../", "~")):
        return True
    first = text.partition("/")[0].casefold()
    near = any(edits(first, slug) <= 2 for slug in [*SLUGS, "step-functions-pipeline"])
    return not (":" in text or "//" in text or near or first.endswith("-store"))


SLIPS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["", "x", "-", "/", ":", "S", " ", "_", "\\"])), max_size=3
)
MEANT = st.sampled_from([*(f"{slug}/prod" for slug in SLUGS), "s3://b/x", "gs://b/x", "file:///srv/x", "demo/store"])


@given(MEANT, SLIPS, st.booleans())
def test_no_typing_error_makes_a_folder_of_a_reference(meant: str, slips: list[tuple[int, str]], insert: bool) -> None:
    text = meant
    for at, character in slips:
        text = text[:at] + character + text[at + (not insert) :]
    try:
        found = parse(text)
    except InvalidStoreError:
        return
    if isinstance(found, Location) and not found.is_uri:
        assert may_be_a_folder(text), text


@given(st.text(st.sampled_from("abcs3-_./ gpilne"), min_size=1).map(str.strip).filter(bool))
def test_a_plain_text_is_a_folder_if_the_rule_says_so(text: str) -> None:
    if may_be_a_folder(text):
        assert parse(text) == Location(parse("/").kind, text, False)
    else:
        with pytest.raises(InvalidStoreError):
            parse(text)


@pytest.mark.parametrize("module", ["icu_features", "backfill", "quality_report"])
@pytest.mark.parametrize("store", ["s3:/b/x", "s3-pipline-store/prod", "demo-store", ""])
def test_the_command_line_refuses_a_mistyped_text_before_anything_runs(
    module: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.running import command_line

    main = {"icu_features": "features_main", "backfill": "backfill_main", "quality_report": "quality_report_main"}[
        module
    ]
    dates = {
        "icu_features": ["--date"],
        "backfill": ["--dates"],
        "quality_report": ["--reference", "2024-01-01", "--date"],
    }
    others: dict[str, tuple[object, ...]] = {
        "icu_features": (),
        "backfill": ({},),
        "quality_report": ({}, pytest.fail),
    }
    source = [] if module == "quality_report" else ["--source", str(tmp_path)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [module, "--store", store, *source, *dates[module], "2024-01-01"])
    with pytest.raises(SystemExit) as stopped:
        getattr(command_line, main)(pytest.fail, *others[module])
    assert stopped.value.code == 2
    assert f"{module}: --store: " in str(stopped.value)
    assert not list(tmp_path.iterdir())


def test_the_path_of_another_packages_uri_keeps_its_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = registry.RegisteredStore("sqlite", "their_store:SQLitePipelineStore", package="their-store")
    monkeypatch.setattr(registry, "_registered", lambda _path: (theirs,))
    for text, meant in {
        "sqlit:///srv/x": "sqlite:///srv/x", "sqlit://srv/x": "sqlite://srv/x", "S3:///bucket/x": "s3://bucket/x",
    }.items():  # fmt: skip
        with pytest.raises(InvalidStoreError, match=f"did you mean '{meant}'"):
            PipelineStore.from_uri(text)
