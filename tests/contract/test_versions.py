"""Versions of artifacts, if the bucket keeps them."""

import re

import pandas as pd
import pytest

from clinops_prefect import ArtifactNotFoundError, OperationNotSupportedError
from clinops_prefect.storage import backend as storage
from clinops_prefect.storage.ranges import span, suffix
from clinops_prefect.storage.s3.backend import S3Backend
from clinops_prefect.testing.contracts.objects import write
from tests.doors import Can, Door
from tests.gallery import assert_same
from tests.proxy import Headers, Proxy, Seen

FRAMES = [pd.DataFrame({"code": ["007"] * rows, "v": range(rows)}, index=range(1, rows + 1)) for rows in (1, 2, 3)]


def test_a_version_that_never_was_is_not_found(door: Door, format: str) -> None:
    # If a service ignores the requested version, the store notices and never returns another version.
    ignores = Can.TELL_UNKNOWN_VERSIONS not in door.can and not door.keep_versions()
    store = door.store(format=format)
    store.upload(FRAMES[0], "x")
    for version in ("17", "no such version", "0e5b8f42-51f2-4b1b-9b1e-6ad6a2c9a0b0"):
        # The message must not say that there is no artifact, since there is one.
        told = "keeps no versions" if door.scheme == "file" else f"{store.uri('x')} has no version '{version}'"
        for call in (
            lambda v: store.download("x", version=v),
            lambda v: store.download("x", columns=["v"], version=v),
            lambda v: store.stat("x", version=v),
        ):
            if ignores:
                with pytest.raises(OperationNotSupportedError):
                    call(version)
            else:
                with pytest.raises(ArtifactNotFoundError, match=re.escape(told)):
                    call(version)


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_the_mark_of_a_removal_is_no_version(door: Door, format: str, proxy: Proxy) -> None:
    """S3 lists the mark as a version, and answers 405 to a read, as it does to an unsupported request."""

    def as_s3(seen: Seen, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        # For GET, moto answers as S3 does for an unknown version. For HEAD, it answers as S3 does.
        is_mark = status == 404 and b"NoSuchVersion" in body
        return 405 if is_mark else status, headers, body.replace(b"NoSuchVersion", b"MethodNotAll") if is_mark else body

    if Can.TELL_UNKNOWN_VERSIONS not in door.can:
        return  # SeaweedFS answers 404 for the mark, and does not name the version
    door.keep_versions()
    store, key = door.store(format=format), f"x.{format}"
    store.upload(FRAMES[0], "x")
    store.delete_artifact("x")
    marks = door.client.list_object_versions(Bucket=door.bucket)["DeleteMarkers"]  # type: ignore[attr-defined]
    (mark,) = [entry["VersionId"] for entry in marks if entry["Key"] == key]
    proxy.edit = as_s3
    store = door.store(endpoint_url=proxy.url, format=format)
    for call in (
        lambda: store.download("x", version=mark),
        lambda: store.download("x", columns=["v"], version=mark),
        lambda: store._backend().head(key, version=mark),
    ):
        with pytest.raises(ArtifactNotFoundError, match=f"has no version '{mark}'"):
            call()
    assert {seen.status for seen in proxy.seen if "versionId" in seen.query} == {405}
    assert mark not in [info.version for info in store.list_versions("x")]


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_an_object_from_before_the_bucket_kept_versions_is_one_of_them(door: Door, format: str) -> None:
    """S3 calls this version "null", also when it is no longer the newest."""
    store = door.store(format=format)
    store.upload(FRAMES[0], "x")
    door.keep_versions()
    assert [info.version for info in store.list_versions("x")] == [""]
    store.upload(FRAMES[1], "x")
    newest, oldest = (info.version for info in store.list_versions("x"))
    assert (oldest, newest) == ("null", store.stat("x").version)
    assert_same(store.download("x", version=oldest), FRAMES[0])
    assert_same(store.download("x", version=newest), FRAMES[1])


class _WithoutSuffixes(S3Backend):
    """Declares nothing, so that it reads the end of an object as on Azure: first its size, then its bytes.

    Azure's emulator keeps no versions.
    """

    can = storage.Backend.can


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_the_end_of_an_old_version_is_read_in_two_requests(door: Door) -> None:
    door.keep_versions()
    backend = _WithoutSuffixes(door.bucket, lambda: door.client)  # type: ignore[attr-defined]
    bodies = [b"the old one", b"the new one, which is longer", b""]
    for body in bodies:
        write(backend, "x", body)
    versions = [info.version for info in backend.versions("x")]
    for version, body in zip(versions, bodies[::-1], strict=True):
        for length in (4, 1000):
            data, opened = backend.open("x", suffix(length), version=version)
            assert data == body[-length:]
            assert (opened.size, opened.version) == (len(body), version)


@pytest.mark.parametrize("door", ["gcs"], indirect=True)
def test_bytes_of_another_generation_are_not_taken_for_the_opened_object(door: Door, proxy: Proxy) -> None:
    """Cloud Storage is asked for a generation; a server that ignores the generation must not go unnoticed."""
    backend = door.store(endpoint_url=proxy.url)._backend()
    write(backend, "x", b"0123456789")
    opened = backend.open("x", span(0, 4))[1]
    assert backend.read("x", span(4, 6), version="", pin=opened.pin) == b"456789"
    proxy.edit = lambda _seen, status, headers, body: (
        status,
        [(name, "17" if name.casefold() == "x-goog-generation" else value) for name, value in headers],
        body,
    )
    with pytest.raises(storage.ObjectChangedError):
        backend.read("x", span(4, 6), version="", pin=opened.pin)
