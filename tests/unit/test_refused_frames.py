"""Frames and files that contradict themselves are refused with an error of this package whose remedy works."""

import base64
import inspect
import json
import re
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest

from clinops_prefect import (
    ArtifactDecodeError,
    InvalidArtifactNameError,
    LocalPipelineStore,
    ServiceUnavailableError,
    StorageFormat,
    UnsupportedFrameError,
)
from clinops_prefect.frames import arrow_encoding
from clinops_prefect.frames.conversion import valid_texts
from clinops_prefect.frames.parquet import reader

NOT_UTF8 = pa.array([b"mmol/l", b"\xb5g/l"]).view(pa.string())
TEXTS = {
    "text": NOT_UTF8,
    "large": NOT_UTF8.view(pa.string()).cast(pa.binary()).cast(pa.large_binary()).view(pa.large_string()),
    "dictionary": pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), NOT_UTF8),
    "list": pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), NOT_UTF8),
    "struct": pa.StructArray.from_arrays([NOT_UTF8], ["unit"]),
}


@pytest.fixture
def store(tmp_path: Path) -> LocalPipelineStore:
    return LocalPipelineStore(str(tmp_path))


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_another_encoding_are_refused(store: LocalPipelineStore, name: str) -> None:
    table = pa.table({"stay_id": [1, 2], "unit": TEXTS[name]})
    for given in (table, table.to_reader()):
        with pytest.raises(UnsupportedFrameError, match=r"'unit'.*not UTF-8"):
            store.upload(given, "x")
    assert store.list_artifacts() == []
    pq.write_table(table, Path(store.directory) / "x.parquet")
    reads = [
        lambda: store.download("x"),
        lambda: store.download("x", columns=["unit"]),
        lambda: store.download("x", filters=[("stay_id", ">", 1)]),
        lambda: next(store.iter_batches("x", rows=2)),
        lambda: store.download("x", as_="polars"),
        lambda: store.dataset("").download(),
        lambda: store.dataset("").download(as_="polars"),
        lambda: store.dataset("").scan().filter(pl.col("stay_id") > 1).collect(),
    ]
    for read in reads:
        with pytest.raises(ArtifactDecodeError, match=r"'unit' has texts that are not UTF-8.*as_='arrow'") as caught:
            read()
        assert "g/l" not in str(caught.value)
    assert store.download("x", columns=["stay_id"])["stay_id"].tolist() == [1, 2]
    found = store.download("x", as_="arrow")
    if name == "text":
        assert found["unit"].cast(pa.binary())[1].as_py().decode("latin-1") == "µg/l"


def test_a_stored_table_with_such_texts_is_refused_if_they_cannot_be_read(
    store: LocalPipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older versions stored such tables."""
    monkeypatch.setattr(arrow_encoding, "holds_broken_text", lambda _: False)
    store.upload(pa.table({"stay_id": [1, 2], "unit": NOT_UTF8}), "d/x")
    for read in (
        lambda: store.download("d/x", as_="polars"),
        lambda: store.download("d/x"),
        lambda: store.dataset("d").scan().collect(),
    ):
        with pytest.raises(ArtifactDecodeError, match=r"'unit' has texts that are not UTF-8.*as_='arrow'"):
            read()
    assert store.download("d/x", as_="arrow")["unit"].cast(pa.binary())[1].as_py() == b"\xb5g/l"


@pytest.mark.parametrize("wrap", [
    lambda struct: struct,
    lambda struct: pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), struct),
    lambda struct: pa.FixedSizeListArray.from_arrays(struct, 1),
    lambda struct: pa.MapArray.from_arrays(pa.array([0, 1, 2], pa.int32()), pa.array(["a", "b"]), struct),
])  # fmt: skip
@pytest.mark.parametrize("text", [pa.array(["a", "b"]), pa.array(["a", "b"]).dictionary_encode(), NOT_UTF8])
def test_valid_texts_beside_other_odd_values_are_not_blamed(store: LocalPipelineStore, text: Any, wrap: Any) -> None:
    late = pa.array([0, 25 * 3_600_000_000], pa.int64()).view(pa.time64("us"))
    table = pa.table({"a": wrap(pa.StructArray.from_arrays([text, late], ["unit", "time"]))})
    assert valid_texts.holds_broken_text(table["a"]) == (text is NOT_UTF8)
    if text is NOT_UTF8:
        with pytest.raises(UnsupportedFrameError, match="not UTF-8"):
            store.upload(table, "x")
    elif not pa.types.is_dictionary(text.type):
        store.upload(table, "x")
        assert store.download("x", as_="arrow").equals(table)


@pytest.mark.parametrize("ordered", [False, True])
def test_a_dictionary_with_a_repeated_value_is_read_as_a_category(store: LocalPipelineStore, ordered: bool) -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([2, 1, None, 0], pa.int8()), ["b", "a", "b"], ordered=ordered)
    table = pa.table({"grade": array, "n": range(4)})
    store.upload(table, "d/x")
    csv = LocalPipelineStore(store.directory, format=StorageFormat.CSV)
    csv.upload(table, "d/x")
    assert store.download("d/x", as_="arrow").to_pydict() == table.to_pydict()
    expected = pd.DataFrame({
        "grade": pd.Categorical(["b", "a", None, "b"], ["b", "a"], ordered=ordered),
        "n": range(4),
    })  # fmt: skip
    for one in (store, csv):
        for found in (
            one.download("d/x"),
            one.dataset("d").download(),
            pd.concat(one.iter_batches("d/x", rows=9)),
            one.download("d/x", filters=[("n", ">=", 0)]),
        ):
            pd.testing.assert_frame_equal(found.astype({"n": "int64"}), expected)  # read from CSV as Int64
        assert one.stat("d/x").schema["grade"] == "category"
        assert one.download("d/x", as_="polars")["grade"].to_list() == ["b", "a", None, "b"]


@pytest.mark.parametrize("as_", ["pandas", "polars", "arrow"])
def test_a_footer_with_wrong_numbers_gives_no_row_that_the_file_does_not_have(
    store: LocalPipelineStore, monkeypatch: pytest.MonkeyPatch, as_: Any
) -> None:
    """Otherwise a frame that is filled according to such a footer would show earlier content of the memory."""
    monkeypatch.setattr(reader, "_LARGE_BYTES", 1)
    path = Path(store.directory) / "d" / "x.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"n": range(10), "code": ["a"] * 10}), path, store_schema=False)
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    # The fields of type 10 in Thrift's compact protocol are long integers: numbers of rows, of values, ….
    places = [match.start() for match in re.finditer(b"\x16\x14", data[footer:])]
    assert len(places) >= 4
    for place in places:
        at = footer + place + 1
        path.write_bytes(data[:at] + bytes([20 << 1]) + data[at + 1 :])
        for read in (
            lambda: store.download("d/x", as_=as_),
            lambda: store.download("d/x", columns=["n"], as_=as_),
            lambda: next(store.iter_batches("d/x", rows=99, as_=as_)),
            lambda: store.dataset("d").download(as_=as_),
            lambda: store.dataset("d").download(filters=[("n", ">=", 0)], as_=as_),
        ):
            with suppress(ArtifactDecodeError):
                found = read()["n"]
                assert (found.to_pylist() if as_ == "arrow" else found.to_list()) == list(range(10))


def test_nulls_in_a_column_that_is_declared_not_null_are_refused(store: LocalPipelineStore) -> None:
    for values in ([1, None], ["a", None], [[1], None]):
        field = pa.field("a", pa.array(values).type, nullable=False)
        table = pa.Table.from_arrays([pa.array(values)], schema=pa.schema([field]))
        with pytest.raises(UnsupportedFrameError, match=r"'a'.*declared as never null, and has nulls"):
            store.upload(table, "x")
    assert store.list_artifacts() == []


@pytest.mark.parametrize(
    "array", [pc.run_end_encode(pa.array([1, 1, 2])), pa.array([(1, 2, 3)], pa.month_day_nano_interval())]
)
def test_an_arrow_dtype_that_pandas_has_no_type_for_is_refused(store: LocalPipelineStore, array: pa.Array) -> None:
    values = pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([array])))
    for frame in (pd.DataFrame({"a": values}), pd.DataFrame({"b": 1}, index=pd.Index(values))):
        with pytest.raises(UnsupportedFrameError, match="which does not come back equal"):
            store.upload(frame, "x")


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        ([{"a": 1}, None, {"b": "x"}], "json.dumps"),
        ([[1, "a"], None], "json.dumps"),
        ([(1, 2), None], "json.dumps"),
        ([OrderedDict(a=1), None], "str"),
        ([{1, 2}, None], "str"),
        ([1, "a", None], "str"),
        ([{1.5: pd.Timestamp("2024")}, None], "str"),
        ([pd.Timedelta(1), None], "str"),
    ],
    ids=str,
)
def test_the_remedy_keeps_missing_values(store: LocalPipelineStore, values: list[Any], remedy: str) -> None:
    frame = pd.DataFrame({"a": pd.Series(values, dtype=object)})
    text = f".map({remedy}, na_action='ignore')"
    with pytest.raises(UnsupportedFrameError) as caught:
        store.upload(frame, "x")
    assert text in str(caught.value)
    function = {"json.dumps": json.dumps, "str": str}[remedy]
    frame["a"] = frame["a"].map(function, na_action="ignore")
    store.upload(frame, "x")
    assert store.download("x")["a"].isna().tolist() == [value is None for value in values]


def test_each_object_that_is_no_frame_is_refused_with_its_own_message(store: LocalPipelineStore) -> None:
    import duckdb

    with pytest.raises(UnsupportedFrameError, match=r"DuckDBPyConnection; pass its \.\w+\(\)$"):
        store.upload(duckdb.connect().execute("SELECT 1 AS a"), "x")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedFrameError, match="a DataFrame or an Arrow table is needed, not a NoneType"):
        store.upload(None, "x")  # type: ignore[arg-type]


def test_a_uri_as_a_prefix_is_refused(store: LocalPipelineStore) -> None:
    uri = store.upload(pd.DataFrame({"a": [1]}), "d/x")
    for ask in (store.list_artifacts, store.dataset, store.delete_artifacts):
        with pytest.raises(InvalidArtifactNameError, match="is a URI; pass a path such as 'features'"):
            ask(uri.rpartition("/")[0])  # type: ignore[operator]


def test_a_temporary_server_that_does_not_start_is_an_error_of_this_package() -> None:
    from prefect.server.api import server

    from clinops_prefect import saved_block

    text = "Timed out while attempting to connect to ephemeral Prefect API server."
    assert text in inspect.getsource(server)  # Prefect raises this text
    found = saved_block._ours(LocalPipelineStore, RuntimeError(text), "local-pipeline-store/demo")
    assert isinstance(found, ServiceUnavailableError)


def test_a_dataset_reports_an_extension_in_capitals(store: LocalPipelineStore) -> None:
    folder = Path(store.directory, "d")
    folder.mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(folder / "x.PARQUET")
    with pytest.raises(FileNotFoundError, match=r"no \.parquet file .* 1 \.PARQUET"):
        store.dataset("d")


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_parquets_own_encryption_is_refused(store: LocalPipelineStore, plaintext_footer: bool) -> None:
    """PyArrow would end the process when it is asked for the position of an encrypted column."""

    class Keys(encryption.KmsClient):  # type: ignore[misc]  # pyarrow has no types
        def wrap_key(self, key_bytes: bytes, _: str) -> bytes:
            return base64.b64encode(key_bytes)

    keys = encryption.CryptoFactory(lambda _: Keys())
    configuration = encryption.EncryptionConfiguration(
        footer_key="footer", column_keys={"column": ["a"]}, plaintext_footer=plaintext_footer
    )
    properties = keys.file_encryption_properties(encryption.KmsConnectionConfig(), configuration)
    table = pa.table({"a": [1, 2], "b": [3, 4]})
    (Path(store.directory) / "d").mkdir()
    pq.write_table(table, Path(store.directory) / "d" / "x.parquet", encryption_properties=properties)
    reads = [
        lambda: store.download("d/x"),
        lambda: store.download("d/x", as_="polars"),
        lambda: store.download("d/x", columns=["b"]),
        lambda: store.download("d/x", filters=[("b", ">", 3)], as_="arrow"),
        lambda: next(store.iter_batches("d/x")),
        lambda: store.stat("d/x"),
        lambda: store.dataset("d").download(),
        lambda: store.dataset("d").scan(),
    ]
    for read in reads:
        with pytest.raises(ArtifactDecodeError, match=r"x.parquet is encrypted by Parquet itself.*without encryption"):
            read()
