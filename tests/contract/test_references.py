"""An `ArtifactRef` means one version of one artifact in every process, and its errors say if the version is gone."""

import json
import pickle

import pandas as pd
import pytest
from prefect.cache_policies import INPUTS
from prefect.serializers import JSONSerializer

from clinops_prefect import (
    ArtifactNotFoundError,
    ArtifactRef,
    DataFrameSerializer,
    FrameInputs,
    InvalidStoreError,
    LocalPipelineStore,
    PipelineStore,
    S3PipelineStore,
    StorageFormat,
    UntrustedResultError,
)
from clinops_prefect.results.guard import check_result
from tests.doors import Door
from tests.gallery import FRAMES, assert_same

FRAME = pd.DataFrame({"code": ["007", "b", "c"], "v": [1, 2, 3]})
NEWER = FRAME.assign(v=[7, 8, 9])


@pytest.fixture
def store(door: Door, format: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> PipelineStore:
    """A store opened by its URI, as a worker does."""
    for name, value in door.environment().items():
        monkeypatch.setenv(name, value)
    if door.scheme == "gs":
        # fake-gcs-server lists versions only for `versions=true`, and the client says `True`: the proxy mends that.
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("proxy").url)
    return PipelineStore.from_uri(f"{door.uri()}", prefix="p/q", format=StorageFormat(format))


def test_a_reference_gives_what_it_was_made_of(store: PipelineStore) -> None:
    store.upload(FRAMES["clinical"], "a/x", metadata={"site": "icu"})
    ref = store.ref("a/x")
    assert (ref.uri, ref.name) == (store.uri("a/x"), "a/x")
    assert ref == store.ref(ref.uri)
    assert_same(ref.download(), FRAMES["clinical"])
    assert ref.stat() == store.stat("a/x")
    store.upload(FRAME, "x")
    part = store.ref("x").download(columns=["v"], filters=[("code", "!=", "b")])
    assert part["v"].tolist() == [1, 3]
    assert store.ref("x").download(as_="arrow").num_rows == 3
    with pytest.raises(ArtifactNotFoundError):
        store.ref("nothing")


def test_a_reference_travels(store: PipelineStore) -> None:
    store.upload(FRAME, "x")
    ref = store.ref("x")
    serializers = (DataFrameSerializer(), JSONSerializer())
    copies = [pickle.loads(pickle.dumps(ref)), *(each.loads(each.dumps(ref)) for each in serializers)]
    nested = {"labs": [ref, 1], "more": (ref,)}
    copies.append(DataFrameSerializer().loads(DataFrameSerializer().dumps(nested))["more"][0])
    assert copies == [ref] * 4
    assert len({*copies, ref}) == 1
    assert all(type(copy) is ArtifactRef for copy in copies)
    assert_same(copies[1].download(), FRAME)
    assert_same(copies[2].download(), FRAME)
    # The result guard accepts results of both serializers.
    for serializer in serializers:
        check_result(serializer.dumps(ref), "s3://b/result")


def test_a_version_that_is_gone_is_told(store: PipelineStore) -> None:
    store.upload(FRAME, "x")
    ref = store.ref("x")
    store.upload(NEWER, "x")
    assert store.ref("x") != ref
    for read in (ref.download, ref.stat, lambda: ref.download(columns=["v"])):
        with pytest.raises(ArtifactNotFoundError, match="the version that this reference means is gone") as caught:
            read()
        assert caught.value.uri == store.uri("x")
    assert_same(store.ref("x").download(), NEWER)
    store.delete_artifact("x")
    with pytest.raises(ArtifactNotFoundError, match="is gone"):
        ref.download()


def test_where_the_bucket_keeps_versions_the_old_one_is_read(door: Door, store: PipelineStore) -> None:
    if not door.keep_versions():
        pytest.skip("it keeps none")
    store.upload(FRAME, "x")
    ref = store.ref("x")
    store.upload(NEWER, "x")
    assert_same(ref.download(), FRAME)
    assert ref.stat().version == ref.version
    assert_same(store.ref("x").download(), NEWER)


def test_of_two_writers_each_gets_the_reference_of_its_own_or_is_told(door: Door, store: PipelineStore) -> None:
    keeps = door.keep_versions()
    mark = {"clinops-owner": "mine"}
    store._upload(FRAME, "x", {}, True, mark)
    store.upload(NEWER, "x")
    if keeps:
        assert_same(store._ref("x", mark).download(), FRAME)
    else:
        with pytest.raises(ArtifactNotFoundError, match="overwritten by another writer"):
            store._ref("x", mark)


def test_cache_keys_are_made_of_the_version(store: PipelineStore) -> None:
    store.upload(FRAME, "x")
    ref, same = store.ref("x"), store.ref("x")
    store.upload(NEWER, "x")
    newer = store.ref("x")
    for policy in (FrameInputs(), INPUTS):
        keys = [policy.compute_key(None, {"ref": each}, {}) for each in (ref, same, newer)]  # type: ignore[arg-type]
        assert keys[0] == keys[1] != keys[2]


def test_a_folder_given_in_relation_to_another_is_found_from_everywhere(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # type: ignore[arg-type]
    store = LocalPipelineStore("./data #1", prefix="p?")
    store.upload(FRAME, "x")
    ref = store.ref("x")
    monkeypatch.chdir("/")
    assert_same(ref.download(), FRAME)


@pytest.mark.parametrize(
    "fields",
    [
        {"endpoint_url": "https://minio.example.org"},
        {"allow_http": True},
        {"endpoint_url": "http://minio:9000", "allow_http": True},
    ],
)
def test_a_store_with_an_address_of_its_own_has_to_be_a_block(fields: dict[str, object]) -> None:
    """Otherwise an attacker could edit a result so that a worker sends its credentials to the attacker's server."""
    with pytest.raises(InvalidStoreError, match=r"save the store as a block.*store\.save"):
        S3PipelineStore("b", **fields).ref("x")


def test_a_store_with_credentials_of_its_own_has_to_be_a_block() -> None:
    from prefect_aws import AwsCredentials

    secret = "wJalrXUtnFEMI"
    credentials = AwsCredentials(aws_access_key_id="AKIA", aws_secret_access_key=secret)
    with pytest.raises(InvalidStoreError, match="carries no credentials") as caught:
        S3PipelineStore("b", credentials=credentials).ref("x")
    assert secret not in str(caught.value)


def test_an_edited_reference_opens_no_other_server(tmp_path: object) -> None:
    store = LocalPipelineStore(tmp_path)  # type: ignore[arg-type]
    store.upload(FRAME, "x")
    stored = json.loads(DataFrameSerializer().dumps(store.ref("x")))
    stored["value"]["value"][-1] = {"endpoint_url": "https://evil.example.org"}
    with pytest.raises(Exception, match="endpoint_url"):
        DataFrameSerializer().loads(json.dumps(stored).encode())
    for edited in (
        {"__class__": "os.system", "data": "x"},
        {
            "__class__": "clinops_prefect.references.ArtifactRef",
            "data": {"uri": {"__class__": "os.system", "data": "x"}},
        },
        {"__class__": "clinops_prefect.references.ArtifactRef", "data": {}, "__exc_type__": "os.system"},
        {"__class__": "clinops_prefect.references.place_of", "data": {}},
    ):
        with pytest.raises(UntrustedResultError):
            check_result(json.dumps(edited).encode(), "s3://b/result")
