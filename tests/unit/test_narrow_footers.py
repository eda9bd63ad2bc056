"""Parts of a dataset that keep only those bytes of their footers that a read needs."""

import io
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from clinops_prefect import ArtifactDecodeError, LocalPipelineStore
from clinops_prefect.dataset import opening, parts
from clinops_prefect.frames.parquet import stored_file
from clinops_prefect.frames.parquet.checksums import footer_start, most_bytes
from clinops_prefect.frames.parquet.known_schemas import KnownSchemas
from clinops_prefect.frames.parquet.partial_file import PartialFile
from clinops_prefect.frames.parquet.reader import ParquetReader
from clinops_prefect.storage.local.backend import LocalBackend
from tests.arrow_sameness import assert_same_table
from tests.gallery import FRAMES, assert_same


@pytest.fixture
def store(tmp_path: Path) -> LocalPipelineStore:
    return LocalPipelineStore(str(tmp_path / "store"))


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow every footer, and fetch no part whole, however small it is."""
    monkeypatch.setattr(stored_file, "_NARROWED_BYTES", 0)
    monkeypatch.setattr(parts, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(parts, "TAIL_BYTES", 64)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the reads from disk."""
    found: list[int] = []
    read = LocalBackend._read

    def counting(self: Any, *arguments: Any) -> bytes:
        data = read(self, *arguments)
        found.append(len(data))
        return data

    monkeypatch.setattr(LocalBackend, "_read", counting)
    return found


def opened(data: bytes) -> ParquetReader:
    """A reader whose first fetch has no bytes of a column."""

    def fetch(spans: Any, use: Callable[[int, bytes], None]) -> "list[Future[None]]":
        for start, end in spans:
            use(start, data[start:end])
        return []

    size = len(data)
    body = footer_start(data, size, "x") - most_bytes(size)
    return ParquetReader(fetch, data[max(body, 4) :], size, "x", known=KnownSchemas())


def uploaded(store: LocalPipelineStore, frame: Any) -> bytes:
    store.upload(frame, "one")
    return stored(store, "one")


def stored(store: LocalPipelineStore, name: str) -> bytes:
    return (Path(store.directory) / f"{name}.parquet").read_bytes()


def columns_held(reader: ParquetReader) -> int:
    return int(reader._file.metadata.num_columns)


MORE = {f"more {number}": np.arange(3_000) / 7 for number in range(8)}


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("kind", FRAMES)
def test_each_column_is_read_as_with_the_whole_footer(store: LocalPipelineStore, kind: str) -> None:
    frame = FRAMES[kind]
    if isinstance(frame.columns, pd.MultiIndex) or not all(isinstance(name, str) for name in frame.columns):
        pytest.skip("only texts stand beside other texts")
    if not len(frame):
        pytest.skip("no rows to repeat")
    rows = np.resize(np.arange(len(frame)), 3_000)
    data = uploaded(store, frame.iloc[rows].reset_index(drop=True).assign(**MORE))
    whole = opened(data)
    groups = range(whole._file.metadata.num_row_groups)
    is_nested = any("." in path for path in whole._file._shared.paths)
    for field in whole.schema.field("more 0"), *(field for field in whole.schema if field.name not in MORE):
        end = max(chunk.range[1] for chunk in whole._file.chunks_of(groups, [field.name]))
        narrow = opened(data)
        narrow.hold_only([field.name, "more 5"])
        assert_same_table(narrow.read_stored(groups, [field.name]), whole.read_stored(groups, [field.name]))
        # A dataset replaces the tables' metadata by its own.
        tables = [reader.read(groups, [field.name]).replace_schema_metadata() for reader in (narrow, whole)]
        assert_same_table(*tables)
        # The end of the last column may be in the bytes that were fetched with the footer.
        if not is_nested and end <= whole._file._tail_start:
            assert columns_held(narrow) <= 2
            assert narrow.held_bytes < whole.held_bytes


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("group_rows", [None, 700])
def test_each_kind_of_frame_is_read_as_with_the_whole_footer(store: LocalPipelineStore, group_rows: int | None) -> None:
    number = np.arange(3_000)
    frame = pl.DataFrame(
        {
            "category": pl.Series(["a", "b", None] * 1_000, dtype=pl.Categorical),
            "enum": pl.Series(["mild", "grave", None] * 1_000, dtype=pl.Enum(["mild", "grave"])),
            "time": pl.Series(number, dtype=pl.Datetime("ns", "Europe/Berlin")),
            "decimal": pl.Series(number, dtype=pl.Decimal(20, 3)),
            "text": number.astype(str),
            "bytes": [b"\0\xff"] * 3_000,
            "small": pl.Series(number % 100, dtype=pl.UInt8),
            "flag": number % 3 == 0,
            **MORE,
        }
    )
    batches: Any = (
        [frame] if group_rows is None else (frame[at : at + group_rows] for at in range(0, 3_000, group_rows))
    )
    store.upload_batches(batches, "d/0")
    store.upload(frame, "d/1")
    names = ["time", "enum", "category", "flag", "decimal"]
    for as_ in ("polars", "arrow", "pandas"):
        for asked in (names, ["text", "bytes", "small"], ["more 1"]):
            both = [store.download(f"d/{part}", columns=asked, as_=as_) for part in (0, 1)]
            found = store.dataset("d").download(columns=asked, as_=as_)
            if as_ == "polars":
                assert found.equals(pl.concat(both))
            elif as_ == "arrow":
                assert found.combine_chunks().equals(
                    pa.concat_tables(both, promote_options="permissive").combine_chunks()
                )
            else:
                assert_same(found, pd.concat(both, ignore_index=True))
    found = store.dataset("d").download(columns=["text"], filters=[("small", "==", 7), ("flag", "==", True)])
    expected = [str(n) for n in number if n % 100 % 256 == 7 and n % 3 == 0]
    assert found["text"].tolist() == 2 * expected


def wide(number: int, rows: int) -> pd.DataFrame:
    values = np.random.default_rng(number).normal(size=(rows, 700))
    return pd.DataFrame(values, columns=[f"f{i}" for i in range(700)])


def test_no_part_is_opened_twice_if_the_footers_are_too_large_to_be_kept(
    store: LocalPipelineStore, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    frames = [wide(number, 60 + number) for number in range(8)]
    for number, frame in enumerate(frames):
        store.upload(frame, f"d/{number}")
    length = len(opened(stored(store, "d/0"))._file.footer)
    monkeypatch.setattr(opening, "_KEPT_BYTES", 12 * length)  # of two parts
    expected = pd.concat([frame[["f3", "f600"]] for frame in frames], ignore_index=True)
    dataset = store.dataset("d")
    for _ in range(2):  # the second time, the schemas are known
        sizes.clear()
        assert_same(dataset.download(columns=["f3", "f600"]), expected)
        # A request for the end of each part, two for the first part, and one for each column.
        assert len(sizes) <= 8 + 1 + 8 * 2
    sizes.clear()
    assert len(pd.concat(dataset.iter_batches(columns=["f3"]))) == len(expected)
    assert len(sizes) <= 8 + 1 + 8


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("as_", ["pandas", "polars", "arrow"])
def test_a_plan_with_other_fields_than_those_of_the_first_part_opens_the_parts_again(
    store: LocalPipelineStore, as_: Any
) -> None:
    """A part in the middle has another index, other categories, or no value."""
    first = pd.DataFrame({"k": np.arange(3_000), "c": pd.Categorical(["a", "b", "b"] * 1_000), **MORE})
    second = first.assign(c=pd.Categorical(["x", "b", "b"] * 1_000))
    third = first.set_axis(range(5, 3_005))
    for number, frame in enumerate((first, second, third)):
        store.upload(frame, f"d/{number}")
    for asked in (["k", "c"], ["c"], ["more 2", "k"]):
        found = store.dataset("d").download(columns=asked, filters=[("k", ">", 2_990)], as_=as_)
        values = found["k"].to_pylist() if as_ == "arrow" and "k" in asked else None
        assert len(found) == 3 * 9
        if values is not None:
            assert values == 3 * list(range(2_991, 3_000))
        if "c" in asked:
            texts = [str(value) for value in (found["c"].to_pylist() if as_ == "arrow" else found["c"].to_list())]
            assert texts == [*first["c"][-9:], *second["c"][-9:], *third["c"][-9:]]


@pytest.mark.usefixtures("always")
def test_files_of_other_programs_keep_their_whole_footers(tmp_path: Any) -> None:
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"x": np.arange(3_000), **MORE}), path)
    reader = opened(path.read_bytes())
    held = columns_held(reader)
    reader.hold_only(["x"])
    assert columns_held(reader) == held
    assert reader.read([0], ["x"]).column("x").to_pylist() == list(range(3_000))


def test_damage_behind_a_narrow_footer_is_found(store: LocalPipelineStore) -> None:
    data = bytearray(uploaded(store, wide(1, 200)))
    reader = opened(bytes(data))
    reader.hold_only(["f3"])
    assert columns_held(reader) == 1
    start, end = reader._file.chunks_of([0], ["f3"])[0].range
    data[(start + end) // 2] ^= 1
    broken = opened(bytes(data))
    broken.hold_only(["f3"])
    with pytest.raises(ArtifactDecodeError, match="checksum"):
        broken.read([0], ["f3"])


@pytest.mark.usefixtures("always")
def test_the_labels_of_a_named_range_stay_with_their_rows(store: LocalPipelineStore) -> None:
    frame = pd.DataFrame(MORE, index=pd.RangeIndex(100, 3_100, name="stay_id"))
    for number in range(2):
        store.upload(frame, f"d/{number}")
        path = Path(store.directory) / "foreign" / f"{number}.parquet"
        path.parent.mkdir(exist_ok=True)
        frame.to_parquet(path)
    for name in ("d", "foreign"):
        found = store.dataset(name).download(columns=["more 1"], filters=[("more 1", ">", 2_998 / 7)])
        assert_same(found, pd.concat([frame[["more 1"]][-1:]] * 2))


def test_a_read_keeps_its_bytes_while_another_read_of_the_same_blocks_ends(store: LocalPipelineStore) -> None:
    """A row group of equal values is smaller than a block, so two batches of a part may need the same block."""
    reader = opened(uploaded(store, pd.DataFrame({"code": np.full(300_000, 7)})))
    first, last = (reader._file.chunks_of([group], ["code"]) for group in (0, 2))
    assert reader._file._wanted(first) == reader._file._wanted(last) != []
    with reader._file.fetched(first):
        with reader._file.fetched(last):
            pass
        assert len(reader._file.window(*first[0].range))
    with pytest.raises(OSError, match="where no column is"):
        reader._file.window(*first[0].range)


def test_a_window_does_not_move_the_file_of_another_thread() -> None:
    file = PartialFile(100)
    file.add(10, bytes(range(10, 60)))
    file.seek(20)
    assert file.window(30, 33) == bytes([30, 31, 32])
    assert file.read(2) == bytes([20, 21])


def test_the_statistics_of_parts_are_prepared_only_for_filters(
    store: LocalPipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To prepare them takes longer than the rest of a footer."""
    for number in range(4):
        store.upload(pd.DataFrame({"a": range(number, number + 9), "b": [0.5] * 9}), f"many/{number}")
    made: list[object] = []
    prepare = stored_file.StoredFile._as_fragment
    monkeypatch.setattr(stored_file.StoredFile, "_as_fragment", lambda *asked: made.append(0) or prepare(*asked))
    dataset = store.dataset("many")
    assert dataset.download(columns=["a"])["a"].tolist() == [n + row for n in range(4) for row in range(9)]
    assert made == []
    assert dataset.download(filters=[("a", ">", 10)])["a"].tolist() == [11]
    assert len(made) == 4


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("writer", ["pyarrow", "polars"])
def test_short_statistics_select_the_same_row_groups_as_the_whole_footer(writer: str) -> None:
    number = np.arange(3_000)
    columns: dict[str, Any] = {
        "sorted": number - 1_000,
        "small": (number // 500 - 3).astype("int8"),
        "unsigned": (number // 500).astype("uint32") + np.uint32(2**32 - 6),
        "none": pa.nulls(3_000, pa.int64()),
        "some": pa.array([None if n < 1_000 else n for n in number.tolist()]),
        "float": np.where(number < 1_000, -0.0, number - 7.5),
        "short": number.astype("float32"),
        "nan": np.where(number < 500, np.nan, number),
        "time": pa.array(number * 10**12 + 1, pa.timestamp("ns", "UTC")),
        "day": pa.array(number.astype("int32"), pa.date32()),
        "text": pa.array([f"t{n:04d}" for n in number.tolist()]),
        "bytes": pa.array([b"\xff" if n > 1_000 else b"\0" for n in number.tolist()]),
        "empty": pa.array([""] * 3_000),
        "decimal": pa.array(number.tolist()).cast(pa.decimal128(30, 2)),
        "category": pa.array([f"c{n // 700}" for n in number.tolist()]).dictionary_encode(),
        "flag": pa.array((number < 1_500).tolist()),
        **MORE,
    }
    table, file = pa.table(columns), io.BytesIO()
    if writer == "polars":
        pl.from_arrow(table).write_parquet(file, row_group_size=500)
    else:
        pq.write_table(table, file, row_group_size=500)
    reader = opened(file.getvalue())
    shortened = 0
    for name in table.column_names:
        field = pc.field(name)
        for row in (0, 499, 500, 1_234, 2_999):
            value = table.column(name)[row]
            for one in (
                field == value,
                field < value,
                field >= value,
                field.is_null(),
                field.is_valid() & (field > value),
            ):
                both = one & (pc.field("sorted") > 400)
                for asked, fields in ((one, [name]), (both, list({name, "sorted", "in no file"}))):
                    found = reader.groups(asked, fields=fields)
                    assert found == reader.groups(asked), asked
                    shortened += 0 < len(found) < 6
        assert reader._file._statistics_of([name]) is not None, name
    assert shortened > 100


@pytest.mark.usefixtures("always")
def test_a_filter_on_some_columns_of_a_dataset_parses_each_whole_footer_once(
    store: LocalPipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in range(3):
        store.upload(pd.DataFrame({"stay": np.arange(3_000) + 3_000 * part, **MORE}), f"d/{part}")
    lengths: list[int] = []
    owned = stored_file.arrow_owned

    def noting(data: Any) -> Any:
        lengths.append(len(data))
        return owned(data)

    monkeypatch.setattr(stored_file, "arrow_owned", noting)
    found = store.dataset("d").download(columns=["more 1"], filters=[("stay", "==", 3_007)])
    assert found["more 1"].tolist() == [1.0]
    whole = len(opened(stored(store, "d/0"))._file.footer)
    assert len(lengths) == 3
    assert max(lengths) < whole / 2


@pytest.mark.usefixtures("always")
def test_a_partition_folder_may_have_the_name_of_a_nested_columns_path(store: LocalPipelineStore) -> None:
    for part in range(2):
        path = Path(store.directory) / f"d/a.b={part}/x.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"a": [{"b": 7}] * 3_000, "stay": np.arange(3_000), **MORE}), path)
    found = store.dataset("d").download(columns=["stay"], filters=[("a.b", "==", 1), ("stay", ">", 2_998)])
    assert found["stay"].tolist() == [2_999]


@pytest.mark.usefixtures("always")
def test_statistics_of_many_of_the_columns_come_from_the_whole_footer() -> None:
    """To write their footer in Python would take longer than to parse the whole one."""
    file = io.BytesIO()
    pq.write_table(pa.table(MORE), file)
    stored = opened(file.getvalue())._file
    assert stored._statistics_of(["more 1"]) is not None
    assert stored._statistics_of(["more 1", "more 2"]) is None
