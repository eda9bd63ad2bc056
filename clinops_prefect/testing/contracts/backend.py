"""The contract of a backend: bytes under keys. It uses no frames, so a failing law names the wrong operation."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, unquote_plus

import pytest

from clinops_prefect.errors import ArtifactNotFoundError, OperationNotSupportedError, ServiceUnavailableError
from clinops_prefect.storage.backend import Backend, Can, ObjectChangedError, ObjectExistsError, ObjectInfo
from clinops_prefect.storage.ranges import span, suffix, whole
from clinops_prefect.testing.contracts.access import DirectAccess
from clinops_prefect.testing.contracts.buckets import BackendBucketLaws
from clinops_prefect.testing.contracts.object_copies import ObjectCopyLaws
from clinops_prefect.testing.contracts.object_versions import ObjectVersionLaws
from clinops_prefect.testing.contracts.objects import large_size, needs, race, sample, write
from clinops_prefect.testing.contracts.races import winners

# More than two pages of a listing. In most services, a page has 1,000 keys.
_MANY = 2_001
_RIVALS = 8
# Keys with characters that are special in URLs, shells, XML or file systems, and with two Unicode forms of one letter.
_KEYS = [
    "a", "a/b/c", "date=2024-01-01/shard=3", "v1.2/x.y", "ä/漢字/😀", "with space", ".hidden", "a%2Fb", "a+b", "a?b#c",
    "a:b", "a&b='\"<>", "~", "-", "e\u0301", "\u00e9",
]  # fmt: skip


class BackendContract(ObjectCopyLaws, ObjectVersionLaws, BackendBucketLaws):
    """The laws of a backend.

    Name your subclass `Test…`, and override the fixtures `backend`, `backend_without_bucket` and `direct`. A law is
    skipped if it needs something that is not in `Backend.can`.
    """

    @pytest.fixture
    def backend(self) -> Backend:
        """The backend, with an empty bucket. Override this fixture."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture `backend`")

    @pytest.fixture
    def direct(self) -> DirectAccess:
        """Direct SDK access to the same bucket. Override this fixture."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture `direct`")

    @pytest.fixture
    def can(self, backend: Backend) -> frozenset[Can]:
        """What the laws ask of the backend. Override this fixture if a test server can do less than the service."""
        return backend.can

    # --- whole objects ---

    @pytest.mark.parametrize("size", [0, 1, 70_000, -1])
    def test_bytes_come_back_as_they_were_written(self, backend: Backend, direct: DirectAccess, size: int) -> None:
        data = sample(large_size(backend) if size < 0 else size)
        write(backend, "a/x", data)
        assert direct.get("a/x") == data
        found, info = backend.open("a/x", whole())
        assert found == data
        assert (info.size, bool(info.pin)) == (len(data), True)
        assert direct.unfinished() == []

    def test_an_object_of_another_program_is_read(self, backend: Backend, direct: DirectAccess) -> None:
        direct.put("a/x", b"theirs")
        assert backend.open("a/x", whole())[0] == b"theirs"
        assert backend.head("a/x").size == 6

    def test_an_object_without_bytes_is_read(self, backend: Backend, direct: DirectAccess) -> None:
        direct.put("theirs", b"")
        write(backend, "ours", b"")
        for key in ("theirs", "ours"):
            found, info = backend.open(key, whole())
            assert (found, info.size, backend.head(key).size) == (b"", 0, 0)

    def test_a_write_replaces_all_of_the_object(self, backend: Backend, direct: DirectAccess) -> None:
        write(backend, "x", b"a longer text", metadata={"old": "1"})
        write(backend, "x", b"short", metadata={"new": "2"})
        assert (direct.get("x"), direct.keys()) == (b"short", ["x"])
        assert backend.open("x", whole())[0] == b"short"
        metadata = backend.head("x").metadata
        assert ("old" in metadata, metadata.get("new")) == (False, "2")

    def test_metadata_comes_back(self, backend: Backend) -> None:
        metadata = {"flow-run": "0b0e-42", "source_table": "icu/events", "n.rows": "1, 2 & 3 = 'six'"}
        write(backend, "x", b"1", metadata=metadata)
        for info in (backend.head("x"), backend.open("x", whole())[1]):
            if isinstance(info, ObjectInfo):
                assert {name: info.metadata.get(name) for name in metadata} == metadata

    def test_keeps_metadata_says_what_becomes_of_metadata(self, backend: Backend, direct: DirectAccess) -> None:
        write(backend, "x", b"1", metadata={"k": "v"})
        direct.put("theirs", b"1")
        is_kept = backend.head("x").metadata.get("k") == "v"
        assert [backend.keeps_metadata(key) for key in ("x", "theirs")] == [is_kept, is_kept]

    def test_the_time_of_a_write_is_aware_and_true(self, backend: Backend) -> None:
        before = datetime.now(UTC) - timedelta(seconds=2)
        write(backend, "x", b"1")
        created = backend.head("x").created
        if created is not None:
            assert created.tzinfo is not None
            assert before <= created <= datetime.now(UTC) + timedelta(seconds=2)

    @pytest.mark.parametrize("is_large", [False, True])
    def test_a_write_whose_chunks_fail_changes_nothing(
        self, backend: Backend, direct: DirectAccess, is_large: bool
    ) -> None:
        """The backend raises the error of the caller's iterator unchanged, and closes the iterator."""
        write(backend, "old", b"old")
        closed = []

        def chunks(failure: Exception) -> Iterator[bytes]:
            try:
                yield sample(large_size(backend)) if is_large else b"1"
                raise failure
            finally:
                closed.append(True)

        # Of these kinds, the backend translates errors of the service, but must not translate the caller's.
        for key, failure in (("old", FileNotFoundError("the caller's")), ("new", ConnectionError("the caller's"))):
            with pytest.raises(type(failure)) as caught:
                backend.write(key, chunks(failure), content_type="text/plain", metadata={}, overwrite=True)
            assert caught.value is failure
        assert closed == [True, True]
        assert (direct.keys(), direct.get("old")) == (["old"], b"old")
        assert direct.unfinished() == []

    def test_a_reader_beside_a_writer_sees_one_whole_object(self, backend: Backend) -> None:
        bodies = [b"a" * 30_000, b"b" * 50_000]
        write(backend, "x", bodies[0])
        done = threading.Event()

        def overwrite() -> None:
            try:
                for number in range(20):
                    write(backend, "x", bodies[number % 2])
            finally:
                done.set()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(overwrite)
            is_last = False
            while not is_last:
                is_last = done.is_set()
                try:
                    data, info = backend.open("x", whole())
                except ObjectChangedError:
                    continue
                assert data in bodies
                assert info.size == len(data)
            writing.result()

    # --- conditional writes ---

    @pytest.mark.parametrize("is_large", [False, True])
    def test_overwrite_false_writes_once_and_then_refuses(
        self, backend: Backend, direct: DirectAccess, is_large: bool
    ) -> None:
        data = sample(large_size(backend) if is_large else 10)
        if is_large and Can.UPLOAD_IN_PARTS in backend.can and Can.COMPLETE_CONDITIONALLY not in backend.can:
            with pytest.raises(OperationNotSupportedError):
                write(backend, "x", data, overwrite=False)
            assert (direct.keys(), direct.unfinished()) == ([], [])
            return
        write(backend, "x", data, overwrite=False)
        assert direct.get("x") == data
        for other in (b"other", data[::-1]):
            with pytest.raises(ObjectExistsError):
                write(backend, "x", other, overwrite=False)
        assert direct.get("x") == data
        assert direct.unfinished() == []

    def test_of_simultaneous_conditional_writes_exactly_one_succeeds(
        self, backend: Backend, direct: DirectAccess
    ) -> None:
        for number in range(3):
            race(backend, direct, f"x{number}", 5_000, _RIVALS)

    def test_of_simultaneous_conditional_writes_in_parts_exactly_one_succeeds(
        self, backend: Backend, direct: DirectAccess, can: frozenset[Can]
    ) -> None:
        if Can.UPLOAD_IN_PARTS in can:  # else a large object is written as a small one is
            needs(can, Can.COMPLETE_CONDITIONALLY)
        race(backend, direct, "x", large_size(backend), 3)
        assert direct.unfinished() == []

    def test_of_simultaneous_writes_of_many_parts_one_remains_whole(
        self, backend: Backend, direct: DirectAccess
    ) -> None:
        """A service may end the others, with an error that says so, but it must not mix them."""
        written = [sample(large_size(backend), number) for number in range(3)]
        won = winners(
            lambda number: write(backend, "x", written[number], metadata={"writer": str(number)}),
            range(len(written)),
            ServiceUnavailableError,
        )
        remains = int(backend.head("x").metadata["writer"])
        assert remains in won
        assert direct.get("x") == written[remains]
        assert direct.unfinished() == []

    # --- ranges ---

    @pytest.mark.parametrize("size", [0, 10, 5_000])
    def test_a_range_is_those_bytes_of_the_object(self, backend: Backend, direct: DirectAccess, size: int) -> None:
        data = sample(size)
        direct.put("x", data)
        for start, length in ((0, 1), (0, 10), (3, 4), (9, 1), (9, 20), (10, 5), (4_990, 100), (0, 10**6)):
            found, info = backend.open("x", span(start, length))
            assert (found, info.size) == (data[start : start + length], size), (start, length)
        for length in (1, 8, 10, 64, 10**6):
            found, info = backend.open("x", suffix(length))
            assert (found, info.size) == (data[-length:], size), length

    def test_more_bytes_of_an_opened_object_can_be_read_in_threads(self, backend: Backend) -> None:
        data = sample(100_000)
        write(backend, "x", data)
        info = backend.open("x", span(0, 10))[1]
        starts = range(0, 100_000, 10_000)
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(
                lambda start: backend.read("x", span(start, 10_000), version=info.version, pin=info.pin), starts
            )
        assert b"".join(found) == data

    @pytest.mark.parametrize("change", ["overwritten", "removed"])
    def test_an_opened_object_never_gives_bytes_of_another(self, backend: Backend, change: str) -> None:
        old, new = b"a" * 1_000, b"b" * 1_000
        write(backend, "x", old)
        info = backend.open("x", span(0, 10))[1]
        backend.remove("x")
        if change == "overwritten":
            write(backend, "x", new)
        told: ArtifactNotFoundError | None = None
        try:
            # If the bucket keeps versions, the old object may still be readable.
            assert backend.read("x", span(500, 100), version="", pin=info.pin) == old[500:600]
        except ObjectChangedError:
            pass
        except ArtifactNotFoundError as error:
            told = error
        if told is not None:
            assert change == "removed"
            assert told.uri == backend.uri("x")

    # --- missing objects ---

    def test_a_missing_object_is_not_found(self, backend: Backend, direct: DirectAccess) -> None:
        write(backend, "p/other", b"1")
        calls: list[Callable[[], object]] = [
            lambda: backend.head("p/x"), lambda: backend.open("p/x", whole()),
            lambda: backend.open("p/x", span(0, 10)), lambda: backend.open("p/x", suffix(10)),
            lambda: backend.copy("p/x", "p/y"),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(ArtifactNotFoundError) as caught:
                call()
            assert caught.value.uri == backend.uri("p/x")
        assert list(backend.versions("p/x")) == []
        assert list(backend.list("p/x")) == []
        assert direct.keys() == ["p/other"]

    def test_an_object_is_removed_alone_and_may_be_removed_twice(self, backend: Backend, direct: DirectAccess) -> None:
        for key in ("a/x", "a/x2", "a/y/x"):
            write(backend, key, b"1")
        backend.remove("a/x")
        backend.remove("a/x")
        assert direct.keys() == ["a/x2", "a/y/x"]
        with pytest.raises(ArtifactNotFoundError):
            backend.head("a/x")

    def test_objects_are_removed_together_and_nothing_beside_them(self, backend: Backend, direct: DirectAccess) -> None:
        for key in [*_KEYS, "x", "a/b"]:
            direct.put(f"k/{key}.bin", b"1")
        # As many keys as one request may have. Most of these objects do not exist, which is not an error.
        keys = [f"k/{key}.bin" for key in [*_KEYS, *(f"none/{number}" for number in range(backend.removed_at_once))]]
        for start in range(0, len(keys), backend.removed_at_once):
            assert backend.remove_many(keys[start : start + backend.removed_at_once]) == {}
        assert direct.keys() == ["k/a/b.bin", "k/x.bin"]
        assert backend.remove_many([]) == {}

    # --- keys ---

    def test_a_key_is_taken_as_it_is(self, backend: Backend, direct: DirectAccess) -> None:
        for number, key in enumerate(_KEYS):
            write(backend, f"k/{key}.bin", str(number).encode())
        keys = sorted(f"k/{key}.bin" for key in _KEYS)
        assert direct.keys() == keys
        assert sorted(backend.list("k/")) == keys
        assert len({backend.uri(key) for key in keys}) == len(keys)
        for number, key in enumerate(_KEYS):
            assert backend.open(f"k/{key}.bin", whole())[0] == str(number).encode()
        assert [backend.key_of(backend.uri(key)) for key in keys] == keys
        assert backend.key_of("other-scheme://place/k/a.bin") is None

    def test_a_key_may_be_as_long_as_the_backend_says(self, backend: Backend, direct: DirectAccess) -> None:
        segment = "s" * (backend.segment_bytes - 1) + "/"
        key = (segment * (backend.key_bytes // len(segment) + 1))[: backend.key_bytes - 1].rstrip("/") + "x"
        write(backend, key, b"1")
        assert direct.keys() == [key]
        assert backend.open(key, whole())[0] == b"1"

    def test_a_listing_has_the_keys_that_begin_so(self, backend: Backend, direct: DirectAccess) -> None:
        for key in ("a/b/x", "a/b/y", "a/bc", "a/c", "ab/x"):
            direct.put(key, b"1")
        assert sorted(backend.list("")) == ["a/b/x", "a/b/y", "a/bc", "a/c", "ab/x"]
        assert sorted(backend.list("a/")) == ["a/b/x", "a/b/y", "a/bc", "a/c"]
        assert sorted(backend.list("a/b")) == ["a/b/x", "a/b/y", "a/bc"]
        assert sorted(backend.list("a/b/")) == ["a/b/x", "a/b/y"]
        assert list(backend.list("none/")) == []

    def test_a_listed_object_can_be_read_without_asking_again(self, backend: Backend) -> None:
        for size, key in enumerate(("a/x", "a/y", "b")):
            write(backend, key, sample(size))
        listed = dict(backend.list_pinned("a/"))
        assert sorted(listed) == ["a/x", "a/y"]
        for key, found in listed.items():
            if found is not None:
                info = backend.head(key)
                assert (found.size, found.pin) == (info.size, info.pin)

    def test_a_browser_finds_each_object_at_an_address_of_its_own(
        self, backend: Backend, backend_without_bucket: Backend
    ) -> None:
        """The address is known without a request, so also that of an object that does not exist."""
        keys = [f"k/{key}.bin" for key in _KEYS]
        assert len({backend.browser_url(key) for key in keys}) == len(keys)
        for key in keys:
            for url in (backend.browser_url(key), backend_without_bucket.browser_url(key)):
                assert re.match("[a-z][a-z0-9+.-]*://", url), key
                assert any(key in text for text in (url, unquote(url), unquote_plus(url))), f"{url} does not name {key}"
            if url != backend_without_bucket.uri(key):
                assert re.fullmatch("[!-~]+", url), f"characters that an address cannot have: {url}"

    def test_a_listing_has_all_pages(self, backend: Backend, direct: DirectAccess) -> None:
        keys = [f"many/d{number % 7}/{number:05d}" for number in range(_MANY)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: direct.put(key, b"1"), keys))
        assert sorted(backend.list("many/")) == sorted(keys)
        assert sorted(backend.list("many/d3/")) == sorted(key for key in keys if key.startswith("many/d3/"))
