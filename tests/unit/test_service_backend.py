"""The template of a service's backend, on services in this process that declare different abilities."""

import itertools
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar, NoReturn

import pytest

from clinops_prefect import (
    ArtifactNotFoundError,
    ClinopsPrefectError,
    OperationNotSupportedError,
    ServiceUnavailableError,
)
from clinops_prefect.storage.backend import Backend, Can, ObjectChangedError, ObjectInfo, UploadDroppedError, Writing
from clinops_prefect.storage.ranges import ByteRange, whole
from clinops_prefect.storage.service import ConditionFailedError, Fetched, ServiceBackend
from clinops_prefect.testing import BackendContract
from clinops_prefect.testing.contracts.objects import sample, write


class Service:
    """The objects, the unfinished uploads, and the number of requests of each kind."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, ObjectInfo]] = {}
        self.uploads: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.lock = threading.Lock()

    def store(self, key: str, data: bytes, writing: Writing) -> None:
        info = ObjectInfo(len(data), datetime.now(UTC), "", uuid.uuid4().hex, writing.metadata, writing.content_type)
        with self.lock:
            if not writing.overwrite and key in self.objects:
                raise ConditionFailedError
            self.objects[key] = (data, info)


class WholeOnly(ServiceBackend[tuple[str, str]]):
    """A backend that implements only what every service must."""

    service = "Test"
    can: ClassVar[frozenset[Can]] = frozenset({Can.READ_SUFFIXES, Can.MAKE_BUCKETS})
    part_bytes = 1 << 18
    copy_bytes = 1 << 20
    copy_part_bytes = 1 << 19

    def __init__(self, service: Service) -> None:
        self.there = service

    def uri(self, key: str) -> str:
        return f"test://place/{key}"

    def _put(self, key: str, data: bytes, writing: Writing) -> None:
        self.there.requests.append("put")
        self.there.store(key, data, writing)

    def _get(self, key: str, wanted: ByteRange, version: str, pin: str) -> Fetched:
        data, info = self.there.objects[f"{key}@{version}" if version else key]
        if pin and info.pin != pin:
            raise ConditionFailedError
        first, end = wanted.within(len(data))
        return Fetched(data[first:end], first, info)

    def _stat(self, key: str, version: str) -> ObjectInfo:
        return self.there.objects[f"{key}@{version}" if version else key][1]

    def _copy_whole(self, source: str, found: ObjectInfo, target: str) -> None:
        self.there.requests.append("copy")
        data = self._get(source, ByteRange(0, None), "", found.pin).data
        self.there.store(target, data, Writing(found.content_type, found.metadata, overwrite=True))

    def _list(self, prefix: str) -> Iterator[str]:
        yield from [key for key in list(self.there.objects) if key.startswith(prefix)]

    def _versions(self, key: str) -> Iterator[ObjectInfo]:
        if key in self.there.objects:
            yield self._head(key, "")

    def _remove(self, key: str) -> None:
        self.there.objects.pop(key, None)

    def _translate(self, error: Exception, uri: str) -> Exception | None:
        return ArtifactNotFoundError(f"there is no {uri}", uri=uri) if isinstance(error, KeyError) else None


class Parts:
    """The requests of a multipart upload, of which `_complete` can be conditional."""

    there: Service
    numbers = itertools.count()

    def _begin(self, key: str, _writing: Writing) -> tuple[str, str]:
        name = str(next(self.numbers))
        self.there.requests.append("begin")
        self.there.uploads[name] = {}
        return key, name

    def _put_part(self, upload: tuple[str, str], number: int, data: bytes) -> str:
        self.there.requests.append("part")
        self.there.uploads[upload[1]][str(number)] = data
        return str(number)

    def _copy_part(
        self, upload: tuple[str, str], number: int, source: str, found: ObjectInfo, wanted: ByteRange
    ) -> str:
        return self._put_part(upload, number, self._get(source, wanted, "", found.pin).data)  # type: ignore[attr-defined]

    def _complete(self, upload: tuple[str, str], receipts: list[str], writing: Writing) -> None:
        parts = self.there.uploads[upload[1]]
        self.there.store(upload[0], b"".join(parts[receipt] for receipt in receipts), writing)
        del self.there.uploads[upload[1]]

    def _abort(self, upload: tuple[str, str]) -> None:
        del self.there.uploads[upload[1]]


class InParts(Parts, WholeOnly):
    can = WholeOnly.can | {Can.UPLOAD_IN_PARTS}


class InPartsConditionally(Parts, WholeOnly):
    can = InParts.can | {Can.COMPLETE_CONDITIONALLY}


class Direct:
    def __init__(self, service: Service) -> None:
        self.there = service

    def keys(self) -> list[str]:
        return sorted(self.there.objects)

    def get(self, key: str) -> bytes:
        return self.there.objects[key][0]

    def put(self, key: str, data: bytes) -> None:
        self.there.store(key, data, Writing("application/octet-stream", {}, overwrite=True))

    def replace_bytes(self, key: str, data: bytes) -> None:
        self.there.objects[key] = (data, replace(self.there.objects[key][1], size=len(data)))

    def unfinished(self) -> list[str]:
        return [*self.there.uploads]

    def keep_versions(self) -> None:
        raise NotImplementedError


@pytest.fixture
def service() -> Service:
    return Service()


class _Suite(BackendContract):
    kind: type[WholeOnly]

    @pytest.fixture
    def backend(self, service: Service) -> Backend:
        return self.kind(service)

    @pytest.fixture
    def backend_without_bucket(self) -> Backend:
        return self.kind(Service())

    @pytest.fixture
    def direct(self, service: Service) -> Direct:
        return Direct(service)


class TestWholeOnly(_Suite):
    kind = WholeOnly


class TestInParts(_Suite):
    kind = InParts


class TestInPartsConditionally(_Suite):
    kind = InPartsConditionally


class ThroughHere(InParts):
    """It cannot copy an object itself."""

    def _copy_whole(self, source: str, found: ObjectInfo, target: str) -> None:
        self._copy_through_here(source, found, target)


@pytest.mark.parametrize(
    ("kind", "size", "requests"),
    [
        (InParts, 1 << 20, ["copy"]),
        (InParts, 1_200_000, ["begin", *["part"] * 3]),
        (InPartsConditionally, 1_200_000, ["begin", *["part"] * 3]),
        (ThroughHere, 900_000, ["begin", *["part"] * 4]),
        (ThroughHere, 1_000, ["put"]),
    ],
)
def test_a_copy_is_the_object_with_all_that_is_known_about_it(
    service: Service, kind: type[WholeOnly], size: int, requests: list[str]
) -> None:
    backend, data = kind(service), sample(size)
    write(backend, "x", data, metadata={"k": "v"})
    write(backend, "y", b"old", metadata={"old": "1"})
    service.requests.clear()
    backend.copy("x", "y")
    copied, info = service.objects["y"]
    assert copied == data
    assert (info.metadata["k"], info.metadata.get("old"), info.content_type) == ("v", None, "application/x-own")
    assert (service.requests, service.uploads) == (requests, {})


@pytest.mark.parametrize("kind", [InParts, ThroughHere])
def test_a_copy_has_no_bytes_of_a_later_object(service: Service, kind: type[WholeOnly]) -> None:
    class Rewritten(kind):  # type: ignore[misc, valid-type]
        def _begin(self, key: str, writing: Writing) -> tuple[str, str]:
            if key == "y":
                service.store("x", sample(size, 2), Writing("", {}, overwrite=True))
            return super()._begin(key, writing)  # type: ignore[no-any-return]

    size = 1_200_000 if kind is InParts else 900_000
    write(kind(service), "x", sample(size, 1))
    with pytest.raises(ObjectChangedError):
        Rewritten(service).copy("x", "y")
    assert (service.uploads, [*service.objects]) == ({}, ["x"])


def test_an_upload_that_the_service_dropped_is_named(service: Service) -> None:
    class Drops(InParts):
        def _complete(self, upload: tuple[str, str], receipts: list[str], writing: Writing) -> None:
            raise ConditionFailedError("NoSuchUpload")

    with pytest.raises(UploadDroppedError, match=r"^test://place/x: Test has dropped the upload \(NoSuchUpload\)"):
        write(Drops(service), "x", bytes(1 << 20))
    assert (service.uploads, service.objects) == ({}, {})


def test_a_service_that_has_no_conditional_writes_is_named(service: Service) -> None:
    class Overwrites(WholeOnly):
        def _put(self, key: str, data: bytes, writing: Writing) -> None:
            raise NotImplementedError if not writing.overwrite else KeyError

        def _translate(self, error: Exception, uri: str) -> Exception | None:
            kinds = {NotImplementedError: OperationNotSupportedError, KeyError: ArtifactNotFoundError}
            return kinds[type(error)]("from the service", uri=uri)

    with pytest.raises(OperationNotSupportedError) as caught:
        write(Overwrites(service), "x", b"", overwrite=False)
    assert "test://place/x: this Test service has no conditional writes" in str(caught.value)
    assert (caught.value.uri, type(caught.value.__cause__)) == ("test://place/x", NotImplementedError)


class Failing(WholeOnly):
    """Every request fails, with words of the service or with an error that does not know its URI."""

    words: ClassVar[Exception]

    def _fails(self, *_: object) -> NoReturn:
        raise self.words

    _put = _get = _stat = _copy_whole = _list = _versions = _remove = _fails  # type: ignore[assignment]

    def _translate(self, error: Exception, uri: str) -> Exception | None:
        kind = {KeyError: ArtifactNotFoundError, OSError: ServiceUnavailableError}.get(type(error))
        return kind and kind("in its words", uri=uri)


OPERATIONS: dict[str, Callable[[Backend], object]] = {
    "write": lambda backend: write(backend, "x", b""),
    "open": lambda backend: backend.open("x", whole()),
    "read": lambda backend: backend.read("x", whole(), version="", pin=""),
    "head": lambda backend: backend.head("x"),
    "copy": lambda backend: backend.copy("x", "y"),
    "list": lambda backend: [*backend.list("x")],
    "list_pinned": lambda backend: [*backend.list_pinned("x")],
    "versions": lambda backend: [*backend.versions("x")],
    "remove": lambda backend: backend.remove("x"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_error_names_what_it_was_about(service: Service, operation: str) -> None:
    for words in (ServiceUnavailableError("away"), OSError()):
        Failing.words = words
        with pytest.raises(ServiceUnavailableError) as caught:
            OPERATIONS[operation](Failing(service))
        assert caught.value.uri == "test://place/x"
    Failing.words = KeyError()
    with pytest.raises(ArtifactNotFoundError) as missing:
        OPERATIONS[operation](Failing(service))
    assert (missing.value.uri, "version" in str(missing.value)) == ("test://place/x", False)


@pytest.mark.parametrize(
    ("words", "version", "said"),
    [
        (KeyError(), "", "in its words"),
        (KeyError(), "1", "test://place/x has no version '1'; list_versions shows the versions it has"),
        (OSError(), "1", "in its words"),
    ],
)
def test_only_a_version_that_is_missing_is_said_in_our_words(
    service: Service, words: Exception, version: str, said: str
) -> None:
    Failing.words = words
    for read in (
        lambda: Failing(service).open("x", whole(), version=version),
        lambda: Failing(service).read("x", whole(), version=version, pin=""),
    ):
        with pytest.raises(ClinopsPrefectError) as caught:
            read()
        assert str(caught.value) == said


@pytest.mark.parametrize("together", [True, False])
def test_a_service_that_cannot_be_reached_is_asked_once_for_all_objects(service: Service, together: bool) -> None:
    class Away(WholeOnly):
        def _remove_together(self, keys: Sequence[str]) -> Sequence[str]:
            return self._away() if together else keys

        def _remove(self, key: str) -> None:
            self._away()

        def _away(self) -> Sequence[str]:
            service.requests.append("remove")
            raise ServiceUnavailableError("away")

    failed = Away(service).remove_many(["x", "y", "z"])
    assert ({key: str(error) for key, error in failed.items()}) == dict.fromkeys(["x", "y", "z"], "away")
    assert service.requests == ["remove"]


def test_the_template_uses_no_ability_that_a_service_does_not_declare(service: Service) -> None:
    write(WholeOnly(service), "x", bytes(3 << 20))
    WholeOnly(service).copy("x", "y")
    assert service.requests == ["put", "copy"]


def test_without_conditional_completion_a_large_conditional_write_sends_nothing(service: Service) -> None:
    with pytest.raises(OperationNotSupportedError, match=r"no conditional uploads in parts.*nothing was written"):
        write(InParts(service), "x", bytes(1 << 20), overwrite=False)
    assert (service.requests, service.objects) == ([], {})
    write(InParts(service), "x", b"small", overwrite=False)
    assert service.requests == ["put"]


def test_a_service_that_declares_multipart_uploads_must_implement_them() -> None:
    with pytest.raises(TypeError) as caught:
        type("Unfinished", (WholeOnly,), {"can": InParts.can, "_begin": Parts._begin, "_abort": Parts._abort})
    assert str(caught.value) == (
        "Unfinished declares Can.UPLOAD_IN_PARTS and must implement _put_part, _complete, _copy_part"
    )


def test_a_missing_import_of_the_backend_is_not_reported_as_a_fault_of_the_service(service: Service) -> None:
    class Forgets(WholeOnly):
        def _stat(self, key: str, version: str) -> ObjectInfo:
            return not_imported(key, version)  # type: ignore[name-defined,no-any-return] # noqa: F821

    with pytest.raises(NameError, match="not_imported"):
        Forgets(service).head("x")

    class CannotRead(WholeOnly):
        def _stat(self, key: str, version: str) -> ObjectInfo:
            raise AttributeError

    with pytest.raises(ServiceUnavailableError, match="AttributeError"):
        CannotRead(service).head("x")


def test_messages_name_only_fields_that_the_store_has(service: Service) -> None:
    class Unreached(WholeOnly):
        error: ClassVar[Exception] = ConnectionResetError()

        def _stat(self, key: str, version: str) -> ObjectInfo:
            raise self.error

    class Named(Unreached):
        address = "host and port"

    class Garbled(Named):
        error = AttributeError()

    class Incomplete(Named):
        def _stat(self, key: str, version: str) -> ObjectInfo:
            return replace(self.there.objects["x"][1], size=self._said(None, "a size", key))

    service.store("x", b"1", Writing("", {}, overwrite=True))
    for backend, error, advice in (
        (Unreached, ServiceUnavailableError, "check the network and the address of the service"),
        (Named, ServiceUnavailableError, "check the network and host and port"),
        (Garbled, ServiceUnavailableError, "check host and port"),
        (Incomplete, OperationNotSupportedError, "check host and port, and whether"),
    ):
        with pytest.raises(error, match=advice) as caught:
            backend(service).head("x")
        assert "endpoint_url" not in str(caught.value)


def test_an_error_that_no_client_should_raise_names_the_object(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise ValueError("generation")

    backend = WholeOnly(service)
    monkeypatch.setattr(backend, "_put", fail)
    with pytest.raises(
        ServiceUnavailableError, match=r"^test://place/x: what answers is not Test, .*ValueError"
    ) as caught:
        write(backend, "x", b"1")
    assert caught.value.uri == "test://place/x"
