"""The store of docs/how-to/write-a-store.md, broken in many ways, and the laws that each way breaks.

pytest does not collect this file. test_contracts.py runs it beside the page's `memory_store`, whose tests it uses.
"""

import asyncio
import functools
import json
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import test_memory_store
from memory_store import SPACES, MemoryBackend, MemoryPipelineStore
from pydantic import PrivateAttr

from clinops_prefect import ArtifactDecodeError, BucketNotFoundError, InvalidMetadataError
from clinops_prefect.storage.backend import Can, ObjectExistsError, ObjectInfo, PinnedObject, Writing
from clinops_prefect.storage.ranges import span, whole

# The spaces that keep versions, and (space, key) -> the versions, newest first.
VERSIONED: set[str] = set()
NOWHERE = "nowhere"
HISTORY: dict[tuple[str, str], list[tuple[bytes, ObjectInfo]]] = {}


class _Missing(dict[str, Any]):
    """The objects of a space that does not exist."""

    def _tell(self, *_: object) -> Any:
        raise BucketNotFoundError(f"there is no space {NOWHERE}; check its name", uri=f"memory://{NOWHERE}")

    __contains__ = __iter__ = __getitem__ = __setitem__ = pop = setdefault = _tell


class Whole(MemoryBackend):
    """Not broken: it keeps versions, removes objects together, and reports a missing space."""

    can = frozenset(Can) - {Can.MAKE_BUCKETS}
    removed_at_once = 10
    laws: ClassVar[str] = ""
    laws_of_stores: ClassVar[str] = ""

    def __init__(self, space: str) -> None:
        super().__init__(space)
        if space == NOWHERE:
            self.objects = _Missing()

    def _remove_together(self, keys: Sequence[str]) -> Sequence[str]:
        for key in keys:
            self._remove(key)
        return ()

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        super()._write(key, chunks, writing)
        if self.space in VERSIONED:
            data, info = self.objects[key]
            self.objects[key] = (data, replace(info, version=info.pin))
            HISTORY.setdefault((self.space, key), []).insert(0, self.objects[key])

    def _find(self, key: str, version: str) -> tuple[bytes, ObjectInfo]:
        if version:
            return {found[1].version: found for found in HISTORY.get((self.space, key), [])}[version]
        return self.objects[key]

    def _versions(self, key: str) -> Iterator[ObjectInfo]:
        if self.space in VERSIONED:
            return iter([info for _, info in HISTORY.get((self.space, key), [])])
        return super()._versions(key)


class LosesTheLastByte(Whole):
    laws = "test_bytes_come_back_as_they_were_written"
    laws_of_stores = "test_a_frame_comes_back_equal test_plain_objects_come_back"

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        super()._write(key, iter([b"".join(chunks)[:-1]]), writing)


class HasAFormatOfItsOwn(Whole):
    laws = "test_an_object_of_another_program_is_read"
    laws_of_stores = (
        "test_other_programs_read_what_was_uploaded_and_write_what_is_downloaded "
        "test_a_plain_object_of_another_program_is_read_as_it_is"
    )

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        super()._write(key, iter([b"".join(chunks)[::-1]]), writing)

    def _find(self, key: str, version: str) -> tuple[bytes, ObjectInfo]:
        data, info = super()._find(key, version)
        return data[::-1], info


class TakesNoBytesForAMissingObject(Whole):
    laws = "test_an_object_without_bytes_is_read"

    def _open(self, key: str, wanted: Any, version: str) -> tuple[bytes, ObjectInfo]:
        found = super()._open(key, wanted, version)
        if not found[1].size:
            raise KeyError(key)
        return found


class AddsToMetadata(Whole):
    laws = "test_a_write_replaces_all_of_the_object"
    # A store only notices what is left of another write: files and sidecars carry their own metadata, too.
    laws_of_stores = "test_metadata_comes_back_and_belongs_to_one_write"

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        old = self.objects[key][1].metadata if key in self.objects else {}
        super()._write(key, chunks, replace(writing, metadata=old | writing.metadata))


class ForgetsMetadata(Whole):
    laws = "test_metadata_comes_back"

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        super()._write(key, chunks, replace(writing, metadata={}))


class SaysThatItKeepsNoMetadata(Whole):
    laws = "test_keeps_metadata_says_what_becomes_of_metadata"

    def keeps_metadata(self, key: str) -> bool:
        return False


class KeepsOnlyItsOwnMetadata(Whole):
    laws = "test_keeps_metadata_says_what_becomes_of_metadata"

    def keeps_metadata(self, key: str) -> bool:
        return bool(self.objects[key][1].metadata)


class HasOnePageForAll(Whole):
    laws = "test_a_browser_finds_each_object_at_an_address_of_its_own"
    laws_of_stores = "test_a_browser_finds_a_plain_object_by_its_path_and_by_its_uri"

    def browser_url(self, key: str) -> str:
        return f"https://pages.example.org/{self.space}"


class LooksBeforeItGivesAnAddress(Whole):
    laws = "test_a_browser_finds_each_object_at_an_address_of_its_own"

    def browser_url(self, key: str) -> str:
        self.exists = key in self.objects
        return self.uri(key)


class HasAddressesWithSpaces(Whole):
    laws = "test_a_browser_finds_each_object_at_an_address_of_its_own"

    def browser_url(self, key: str) -> str:
        return f"https://pages.example.org/{self.space}/{key}"


class TakesLittleMetadata(Whole):
    laws_of_stores = "test_as_much_metadata_as_is_allowed_is_carried_and_no_more"

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        if len(str(writing.metadata)) > 1_000:
            raise InvalidMetadataError(f"{key}: too much metadata")
        super()._write(key, chunks, writing)


class HasLocalTime(Whole):
    laws = "test_the_time_of_a_write_is_aware_and_true"
    laws_of_stores = "test_stat_says_size_rows_schema_and_time"

    def _head(self, key: str, version: str) -> ObjectInfo:
        return replace(super()._head(key, version), created=datetime(2020, 1, 1))


class WritesAsItGoes(Whole):
    laws = "test_a_write_whose_chunks_fail_changes_nothing"
    laws_of_stores = "test_batches_that_fail_leave_the_old_artifact"

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        if not writing.overwrite and key in self.objects:
            raise ObjectExistsError
        super()._write(key, iter([]), replace(writing, overwrite=True))
        for chunk in chunks:
            super()._write(key, iter([self.objects[key][0] + chunk]), replace(writing, overwrite=True))


class RemovesBeforeItWrites(Whole):
    laws = "test_a_reader_beside_a_writer_sees_one_whole_object"

    def __init__(self, space: str) -> None:
        super().__init__(space)
        self.looked = threading.Event()

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        if writing.overwrite and self.objects.pop(key, None):
            # The law's reader looks again and again: this one look is sure to find nothing, also on a busy machine.
            self.looked.wait(300)
        super()._write(key, chunks, writing)

    def _open(self, key: str, wanted: Any, version: str) -> tuple[bytes, ObjectInfo]:
        if key not in self.objects:
            self.looked.set()
        return super()._open(key, wanted, version)


class AlwaysOverwrites(Whole):
    laws = "test_overwrite_false_writes_once_and_then_refuses"
    laws_of_stores = "test_overwrite_false_refuses_and_leaves_what_is_there"

    def _refuse_existing(self, key: str) -> None:
        pass

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        super()._write(key, chunks, replace(writing, overwrite=True))


class LooksAndThenWrites(Whole):
    laws = (
        "test_of_simultaneous_conditional_writes_exactly_one_succeeds "
        "test_of_simultaneous_conditional_writes_in_parts_exactly_one_succeeds"
    )
    laws_of_stores = "test_of_16_simultaneous_conditional_uploads_exactly_one_wins"

    # (Space, key) -> whether the look before found the object. Each writer knows what the look before its own found:
    # then the second writer always finds nothing, also where a busy machine runs the threads one after the other.
    looks: ClassVar[dict[tuple[str, str], bool]] = {}
    lock: ClassVar[threading.Lock] = threading.Lock()

    def _refuse_existing(self, key: str) -> None:
        pass

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        with self.lock:
            exists = self.looks.get((self.space, key), False)
            self.looks[self.space, key] = key in self.objects
        if not writing.overwrite and exists:
            raise ObjectExistsError
        super()._write(key, chunks, replace(writing, overwrite=True))


class MixesTwoWriters(Whole):
    laws = "test_of_simultaneous_writes_of_many_parts_one_remains_whole"
    laws_of_stores = "test_of_simultaneous_uploads_all_succeed_and_one_remains"

    # (Space, key) -> the first bytes of the writer before. It does not depend on when the threads run.
    starts: ClassVar[dict[tuple[str, str], bytes]] = {}
    lock: ClassVar[threading.Lock] = threading.Lock()

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        data = b"".join(chunks)
        with self.lock:
            start = self.starts.get((self.space, key), data[:1000])
            self.starts[self.space, key] = data[:1000]
            super()._write(key, iter([start, data[1000:]]), writing)


class CountsFromOne(Whole):
    laws = "test_a_range_is_those_bytes_of_the_object test_more_bytes_of_an_opened_object_can_be_read_in_threads"
    laws_of_stores = "test_a_frame_of_many_parts_comes_back_equal"

    def _open(self, key: str, wanted: Any, version: str) -> tuple[bytes, ObjectInfo]:
        is_late = wanted.start > 0
        return super()._open(key, span(wanted.start - 1, wanted.length) if is_late else wanted, version)


class IgnoresThePin(Whole):
    laws = "test_an_opened_object_never_gives_bytes_of_another"

    def _read(self, key: str, wanted: Any, version: str, pin: str) -> bytes:
        return self._open(key, wanted, version)[0]


class TranslatesNothing(Whole):
    laws = "test_a_missing_object_is_not_found"

    def _translate(self, error: Exception, uri: str) -> Exception | None:
        return None


class RemovesAllThatBeginsSo(Whole):
    laws = "test_an_object_is_removed_alone_and_may_be_removed_twice"
    laws_of_stores = "test_exists_download_and_delete_agree_on_what_is_there"

    def _remove(self, key: str) -> None:
        for found in [found for found in self.objects if found.startswith(key.partition(".")[0])]:
            del self.objects[found]


class RemovesOneOfMany(Whole):
    laws = "test_objects_are_removed_together_and_nothing_beside_them"
    laws_of_stores = "test_what_is_below_a_path_is_deleted_together_and_nothing_beside_it"

    def _remove_together(self, keys: Sequence[str]) -> Sequence[str]:
        self._remove(keys[0])
        return ()


class TakesAMissingBucketForAnEmptyOne(Whole):
    laws = "test_a_missing_bucket_is_told_apart_from_a_missing_object"
    laws_of_stores = "test_a_missing_bucket_is_told_apart_from_a_missing_artifact"

    def __init__(self, space: str) -> None:
        super().__init__(space)
        self.objects = SPACES[space]


class MakesNoBucketThatItSaysItMakes(Whole):
    can = frozenset(Can)
    laws = "test_a_bucket_that_the_first_write_makes_is_empty_before"
    laws_of_stores = "test_a_bucket_that_the_first_upload_makes_is_empty_before"


class RemovesNothing(Whole):
    laws_of_stores = "test_an_upload_replaces_the_old_artifact_and_leaves_nothing_of_it"

    def _remove(self, key: str) -> None:
        pass


class ComposesLetters(Whole):
    laws = "test_a_key_is_taken_as_it_is"
    laws_of_stores = "test_every_good_name_round_trips_lists_and_deletes"

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        super()._write(unicodedata.normalize("NFC", key), chunks, writing)

    def _find(self, key: str, version: str) -> tuple[bytes, ObjectInfo]:
        return super()._find(unicodedata.normalize("NFC", key), version)


class TakesShortKeys(Whole):
    laws = "test_a_key_may_be_as_long_as_the_backend_says"

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        super()._write(key[:255], chunks, writing)


class ListsFolders(Whole):
    laws = "test_a_listing_has_the_keys_that_begin_so"

    def _list(self, prefix: str) -> Iterator[str]:
        return super()._list(f"{prefix.rstrip('/')}/" if prefix else "")


class ListsTheSizesOfOthers(Whole):
    laws = "test_a_listed_object_can_be_read_without_asking_again"

    def _list_pinned(self, prefix: str) -> Iterator[tuple[str, PinnedObject | None]]:
        for key in super()._list(prefix):
            info = self._head(key, "")
            yield key, PinnedObject(info.size + 1, info.pin, info.version)


class ListsOnePage(Whole):
    laws = "test_a_listing_has_all_pages"

    def _list(self, prefix: str) -> Iterator[str]:
        yield from list(super()._list(prefix))[:1_000]


class CopiesBytesAlone(Whole):
    laws = "test_a_copy_is_equal_and_independent_and_replaces"

    def _copy(self, source: str, target: str) -> None:
        self._write(target, iter([self._open(source, whole(), "")[0]]), Writing("", {}, overwrite=True))


class CopiesTheFirstPart(Whole):
    laws = "test_a_large_copy_is_equal"

    def _copy(self, source: str, target: str) -> None:
        data, info = self._open(source, span(0, 1 << 20), "")
        self._write(target, iter([data]), Writing(info.content_type, info.metadata, overwrite=True))


class CopiesAName(Whole):
    laws_of_stores = "test_a_copy_is_equal_independent_and_replaces"

    def _copy(self, source: str, target: str) -> None:
        _, info = self._find(source, "")
        self._write(target, iter([source.encode()]), Writing(info.content_type, info.metadata, overwrite=True))


class HasNoVersions(Whole):
    laws = "test_without_versions_there_is_one"
    laws_of_stores = "test_without_versions_there_is_one"

    def _versions(self, key: str) -> Iterator[ObjectInfo]:
        return iter([])


class ListsTheOldestFirst(Whole):
    laws = "test_every_version_is_listed_newest_first_and_can_be_read"
    laws_of_stores = "test_every_version_is_listed_newest_first_and_can_be_read"

    def _versions(self, key: str) -> Iterator[ObjectInfo]:
        yield from reversed(list(super()._versions(key)))


class DropsVersionsWithTheObject(Whole):
    laws = "test_the_versions_of_a_removed_object_can_still_be_read"

    def _remove(self, key: str) -> None:
        super()._remove(key)
        HISTORY.pop((self.space, key), None)


class TakesAnyVersion(Whole):
    laws = "test_a_version_that_never_was_is_no_other_version"

    def _find(self, key: str, version: str) -> tuple[bytes, ObjectInfo]:
        data, info = super()._find(key, "")
        return data, replace(info, version=version)


class WholeStore(MemoryPipelineStore):
    """Not broken, except that it is not registered."""

    laws: ClassVar[str] = "test_the_store_is_registered_under_the_scheme_of_its_uris"
    backend: ClassVar[type[Whole]] = Whole

    def _backend(self) -> MemoryBackend:
        return self.backend(self.space)

    @classmethod
    def _backend_type(cls) -> type[Whole]:
        return cls.backend


class Rounds(WholeStore):
    laws = "test_a_frame_comes_back_equal"

    def upload(self, df: Any, name: str, **options: Any) -> str:
        return super().upload(df.round(0), name, **options)


class MakesTextOfObjects(WholeStore):
    laws = "test_a_frame_that_would_come_back_changed_is_refused_before_anything_is_written"

    def upload(self, df: Any, name: str, **options: Any) -> str:
        return super().upload(df.map(str), name, **options)


class IgnoresFilters(WholeStore):
    laws = "test_columns_and_filters_select_from_the_same_frame"

    def download(self, name: str, *, filters: Any = None, **options: Any) -> Any:
        return super().download(name, **options)


class StoresTheFirstBatch(WholeStore):
    laws = "test_batches_become_one_artifact_and_are_read_in_batches"

    def upload_batches(self, batches: Any, name: str, **options: Any) -> str:
        return super().upload(next(iter(batches)), name, **options)


class ListsEverything(WholeStore):
    laws = "test_a_bad_prefix_is_refused test_a_listing_is_sorted_and_of_its_own_path_and_format"

    def list_artifacts(self, prefix: str = "") -> list[str]:
        return super().list_artifacts()


class ListsWhateverEndsSo(WholeStore):
    laws = "test_what_others_put_there_under_impossible_names_is_not_listed"

    def list_artifacts(self, prefix: str = "") -> list[str]:
        root, extension = (f"{self.prefix}/" if self.prefix else ""), f".{self.format.extension}"
        keys = self._backend().list(root)
        return sorted(key[len(root) :].removesuffix(extension) for key in keys if key.endswith(extension))


class ChecksNoName(WholeStore):
    laws = (
        "test_a_bad_name_is_refused_by_every_method "
        "test_the_stores_own_extension_is_refused_by_every_method_and_the_name_without_it_shown"
    )

    def uri(self, name: str) -> str:
        return self._backend().uri(f"{self.prefix}/{name}.{self.format.extension}")


_remembered: dict[Any, Any] = {}


def _cached(method: str) -> Any:
    def read(self: Any, name: str, **options: Any) -> Any:
        key = (self.space, method, name, str(options))
        if key not in _remembered:
            found = getattr(super(NeverReadsTwice, self), method)(name, **options)
            _remembered[key] = list(found) if method == "iter_batches" else found
        return _remembered[key]

    return read


class NeverReadsTwice(WholeStore):
    laws = (
        "test_no_flipped_bit_of_an_artifact_reads_as_a_frame test_a_truncated_or_longer_artifact_is_damaged "
        "test_no_flipped_bit_of_a_sidecar_reads_as_another_frame test_a_damaged_plain_object_is_damaged"
    )

    def upload(self, df: Any, name: str, **options: Any) -> str:
        uri = super().upload(df, name, **options)
        self.download(name), self.stat(name), self.iter_batches(name)
        return uri

    def write_bytes(self, path: str, data: bytes, **options: Any) -> str:
        uri = super().write_bytes(path, data, **options)
        self.read_bytes(path)
        return uri

    download, stat, iter_batches, read_bytes = map(_cached, ("download", "stat", "iter_batches", "read_bytes"))


class TakesDamageForNoRows(WholeStore):
    laws = "test_a_partial_read_of_a_damaged_parquet_artifact_fails_or_is_right"

    def download(self, name: str, **options: Any) -> Any:
        try:
            return super().download(name, **options)
        except ArtifactDecodeError:
            return pd.DataFrame()


class NamesNoFirstField(WholeStore):
    laws = "test_the_first_argument_is_a_field_and_the_form_describes_every_field"
    _first_field: ClassVar[str] = "bucket"


class OpensAnotherPlace(WholeStore):
    laws = "test_the_uri_of_a_store_opens_the_same_store"

    @classmethod
    def _at(cls, location: str, *, is_uri: bool, **fields: Any) -> "OpensAnotherPlace":
        return cls(location.partition("/")[0], **fields)


class HoldsALock(WholeStore):
    laws = "test_a_pickled_or_copied_store_reaches_the_same_artifacts"
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


class WaitsForNothing(WholeStore):
    laws = "test_the_async_wrappers_do_what_their_methods_do"

    async def aexists(self, name: str) -> bool:
        await asyncio.sleep(0)
        return True


class TrustsResults(WholeStore):
    laws = "test_a_result_that_could_run_code_is_refused"

    def read_path(self, path: str, **_: Any) -> bytes:
        return self.read_bytes(path)

    def write_path(self, path: str, content: bytes, **_: Any) -> None:
        self.write_bytes(path, content)


class Past(test_memory_store.Direct):
    def __init__(self, space: str) -> None:
        super().__init__(space)
        self.space = space

    def keep_versions(self) -> None:
        VERSIONED.add(self.space)


def _suite_of_backend(kind: type[Whole]) -> type:
    class Suite(test_memory_store.TestMemoryBackend):
        @pytest.fixture
        def backend(self, space: str) -> MemoryBackend:
            return kind(space)

        @pytest.fixture
        def backend_without_bucket(self) -> MemoryBackend:
            return kind(NOWHERE)

        @pytest.fixture
        def direct(self, space: str) -> Past:
            return Past(space)

    return Suite


def _suite_of_store(kind: type[WholeStore]) -> type:
    class Suite(test_memory_store.TestMemoryPipelineStore):
        @pytest.fixture
        def make_store(self, space: str) -> Any:
            return functools.partial(kind, space)

        @pytest.fixture
        def make_store_without_bucket(self) -> Any:
            return functools.partial(kind, NOWHERE)

        @pytest.fixture
        def direct(self, space: str) -> Past:
            return Past(space)

    return Suite


@pytest.fixture
def space() -> str:
    return f"broken-{len(SPACES)}"


# Name of a suite -> the laws that it must break. test_contracts.py reads this.
BROKEN: dict[str, list[str]] = {}


def _add(name: str, suite: type, laws: str) -> None:
    BROKEN[name] = laws.split()
    globals()[name] = suite
    if not name.endswith(("ThatWhole", "ThatWholeStore")):
        # This suite has no other laws.
        for law in {law for law in dir(suite) if law.startswith("test_")} - {*BROKEN[name]}:
            setattr(suite, law, None)


for _kind in [Whole, *Whole.__subclasses__()]:
    _add(f"TestBackendThat{_kind.__name__}", _suite_of_backend(_kind), _kind.laws)
    if _kind.laws_of_stores:
        _made = type(f"StoreThat{_kind.__name__}", (WholeStore,), {"backend": _kind, "__module__": __name__})
        _add(f"TestStoreThat{_kind.__name__}", _suite_of_store(_made), _kind.laws_of_stores)
for _store in [WholeStore, *(one for one in WholeStore.__subclasses__() if "laws" in vars(one))]:
    _add(f"TestStoreThat{_store.__name__}", _suite_of_store(_store), _store.laws)
Path("broken.json").write_text(json.dumps(BROKEN))
