"""`filters=`: each operator, for every type of column, in both formats and in files of other programs."""

import datetime as dt
import decimal
import enum
import io
import json
import operator
import uuid
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from clinops_prefect import ArtifactColumnError, PipelineStore
from tests.doors import Door
from tests.gallery import assert_same

UTC = dt.UTC
FRAME = pd.DataFrame(
    {
        "row": range(6),
        "id": [1, 2, 3, 2**62 + 1, 2**62 + 2, -5],
        "n": pd.array([1, None, 3, 4, 2**62 + 1, 0], dtype="Int64"),
        "small": pd.array([1, 2, 3, 4, 5, 127], dtype="int8"),
        "f": [1.0, np.nan, 2.5, np.inf, 0.1, -0.0],
        "f32": np.array([0.1, np.nan, 2.5, 4, 5, 6], dtype="float32"),
        "text": ["a", None, "b", "", "é", "a"],
        "naive": pd.to_datetime(
            ["1600-01-01", None, "2110-01-01 12:00", "9999-12-31", "0001-01-01", "1970-01-01"], format="ISO8601"
        ).as_unit("us"),
        "zoned": pd.to_datetime(
            ["2110-01-01", None, "2110-07-01", "2110-01-02", "2023-10-29 00:30", "2110-01-01"], format="ISO8601"
        ).tz_localize("UTC").tz_convert("Europe/Berlin"),
        "span": pd.to_timedelta([1, None, 3, 4, -5, 0], unit="h"),
        "flag": pd.array([True, None, False, True, True, False], dtype="boolean"),
        "arm": pd.Categorical(["x", None, "y", "x", "x", "y"], categories=["y", "x", "unused"]),
        "day": pd.Series([dt.date(2000, 1, 1), None, *[dt.date(2000, 1, n) for n in range(2, 6)]], dtype=object),
        "dose": pd.Series(
            [decimal.Decimal(text) if text else None for text in ("1.50", "", "2.25", "0.10", "7.00", "-1.00")]
        ),
        "clock": pd.Series([dt.time(1), None, dt.time(2), dt.time(3, 0, 0, 1), dt.time(0), dt.time(23)], dtype=object),
    }
)  # fmt: skip


class Code(enum.Enum):
    A = "a"
    ONE = 1


def rows(store: PipelineStore, *filters: Any) -> list[int]:
    """The matching rows. All ways to read them must agree."""
    (given,) = filters
    frame = store.download("x", filters=given)
    assert list(frame.columns) == list(FRAME.columns)
    found = frame["row"].tolist()
    assert store.download("x", columns=["row"], filters=given)["row"].tolist() == found
    assert [row for batch in store.iter_batches("x", filters=given, rows=2) for row in batch["row"]] == found
    return found


# A condition, and the rows that match it.
CONDITIONS: list[tuple[Any, list[int]]] = [
    (("n", "is null"), [1]), (("n", "is not null"), [0, 2, 3, 4, 5]), (("f", "is null"), [1]),
    (("f", "IS  NOT NULL", None), [0, 2, 3, 4, 5]), (("text", "is null"), [1]), (("naive", "is null"), [1]),
    (("arm", "is not null"), [0, 2, 3, 4, 5]), (("span", "is null"), [1]), (("flag", "is null"), [1]),
    # A missing value matches no comparison.
    (("n", "!=", 1), [2, 3, 4, 5]), (("n", "not in", [1, 3]), [3, 4, 5]), (("n", "not in", []), [0, 2, 3, 4, 5]),
    (("n", "in", []), []), (("f", "!=", 1), [2, 3, 4, 5]), (("f", "not in", [2.5]), [0, 3, 4, 5]),
    (("text", "!=", "a"), [2, 3, 4]), (("arm", "!=", "x"), [2, 5]), (("flag", "!=", True), [2, 5]),
    (("naive", "!=", dt.date(1600, 1, 1)), [2, 3, 4, 5]), (("text", "not in", {"a"}), [2, 3, 4]),
    # Identifiers of 19 digits, and numbers that no integer equals.
    (("id", "=", 2**62 + 1), [3]), (("id", "in", [2**62 + 1]), [3]), (("id", ">", 2**62 + 1), [4]),
    (("n", "==", 2**62 + 2), []), (("id", "==", float(2**62)), []), (("id", "==", 2.5), []),
    (("id", "!=", 2.5), [*range(6)]),
    (("id", "<", 2.5), [0, 1, 5]), (("id", "<=", decimal.Decimal("2.5")), [0, 1, 5]), (("id", ">=", 2.5), [2, 3, 4]),
    (("id", "==", decimal.Decimal(3)), [2]), (("id", "<", 10**30), [*range(6)]), (("id", ">", -np.inf), [*range(6)]),
    (("small", "<", 128), [*range(6)]), (("small", "==", 300), []), (("small", ">", 127), []),
    (("small", "in", [300, 1]), [0]),
    (("id", "==", np.int8(3)), [2]), (("id", "<", np.float32(2.5)), [0, 1, 5]), (("id", "==", Code.ONE), [0]),
    (("id", "in", np.array([1, 3])), [0, 2]), (("id", "in", pd.Series([1, 3])), [0, 2]),
    (("id", "in", range(1, 3)), [0, 1]),
    (("id", "in", pa.array([1, 3])), [0, 2]), (("id", "==", pa.scalar(3)), [2]), (("id", "in", [1.5, 2.0]), [1]),
    (("f", "==", np.inf), [3]), (("f", "==", 0), [5]), (("f32", "==", 0.1), [0]), (("f", ">", 10**400), []),
    # Times: outside of nanoseconds' range, finer than the column, and of every type of time.
    (("naive", "<", pd.Timestamp("1700-01-01")), [0, 4]), (("naive", "<", np.datetime64("1700", "Y")), [0, 4]),
    (("naive", "==", dt.datetime(9999, 12, 31)), [3]),
    (("naive", "==", pd.Timestamp("2110-01-01 12:00:00.000000001")), []),
    (("naive", "<", pd.Timestamp("2110-01-01 12:00:00.000000001")), [0, 2, 4, 5]),
    (("naive", ">=", "2110-01-01"), [2, 3]),
    (("naive", ">", pd.Timestamp("2110-01-01 12:00:00.000000001").as_unit("ns")), [3]),
    (("naive", "in", [dt.date(1600, 1, 1), np.datetime64("1970-01-01")]), [0, 5]),
    (("zoned", "<", pd.Timestamp("2110-01-01 01:00", tz="Europe/Berlin")), [4]),
    (("zoned", "==", dt.datetime(2110, 7, 1, tzinfo=UTC)), [2]), (("zoned", ">=", "2110-01-02T01:00:00+01:00"), [2, 3]),
    (("zoned", "in", [pd.Timestamp("2110-01-01 09:00", tz="Asia/Tokyo")]), [0, 5]),
    (("span", ">", np.timedelta64(2, "h")), [2, 3]), (("span", ">=", pd.Timedelta("3h")), [2, 3]),
    (("span", "<", dt.timedelta(microseconds=-1)), [4]), (("span", "in", [np.timedelta64(60, "m")]), [0]),
    (("day", "==", dt.date(2000, 1, 2)), [2]), (("day", ">", dt.datetime(2000, 1, 1, 5)), [2, 3, 4, 5]),
    (("day", "<=", pd.Timestamp("2000-01-02")), [0, 2]), (("day", "<", "2000-01-02"), [0]),
    (("clock", ">", dt.time(2)), [3, 5]), (("clock", "in", [dt.time(0), "01:00"]), [0, 4]),
    (("dose", "==", decimal.Decimal("1.5")), [0]), (("dose", "in", [0.1, 7]), [3, 4]), (("dose", "<", 0.105), [3, 5]),
    (("flag", "==", True), [0, 3, 4]), (("flag", "==", np.bool_(False)), [2, 5]),
    (("flag", "in", [True, False]), [0, 2, 3, 4, 5]),
    (("text", "==", Code.A), [0, 5]), (("text", "==", np.str_("é")), [4]), (("arm", "in", ["x", "nowhere"]), [0, 3, 4]),
    (("text", ">", "a"), [2, 4]), (("text", "==", ""), [3]),
]  # fmt: skip


def test_each_condition_leaves_its_rows(door: Door, format: str) -> None:
    store = door.store(format=format)
    store.upload(FRAME, "x")
    for condition, expected in CONDITIONS if door.scheme == "file" else CONDITIONS[::7]:
        assert rows(store, [condition]) == expected, condition
        # The form in a deployment's JSON, and with an operator in capitals.
        asked = [[condition[0], condition[1].upper(), *condition[2:]]]
        assert store.download("x", filters=asked)["row"].tolist() == expected, condition


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_each_condition_means_the_same_in_another_programs_row_groups(door: Door, statistics: bool) -> None:
    """Other programs store NaN as NaN, and leave it out of a row group's statistics."""
    table = pa.Table.from_pandas(FRAME, preserve_index=False).replace_schema_metadata(None)
    nan = pa.array(FRAME["f"].to_numpy(), from_pandas=False)
    assert nan.null_count == 0
    table = table.set_column(table.column_names.index("f"), "f", nan)
    for size in (1, 2):
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=size, write_statistics=statistics)
        door.put("x.parquet", sink.getvalue())
        for condition, expected in CONDITIONS:
            assert rows(door.store(), [condition]) == expected, condition
        assert rows(door.store(), pc.field("f").is_nan()) == [1]
        assert rows(door.store(), ~(pc.field("f") <= 2.5)) == [1, 3]


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_conditions_are_joined_as_lists_and_as_tuples(door: Door, format: str) -> None:
    store = door.store(format=format)
    store.upload(FRAME, "x")
    one, two, three = ("id", "<", 3), ("f", ">", 0.5), ("text", "==", "b")
    for given, expected in [
        ([], [*range(6)]), ((), [*range(6)]), (one, [0, 1, 5]), ([one], [0, 1, 5]), ([[one]], [0, 1, 5]),
        ([one, two], [0]), ([[one, two]], [0]), ([[one], [three]], [0, 1, 2, 5]), ([[one, two], [three]], [0, 2]),
        ([[one, two], [("f", "is null")]], [0, 1]),
    ]:  # fmt: skip
        assert rows(store, given) == expected, given
        assert rows(store, json.loads(json.dumps(given))) == expected, given
    assert_same(store.download("x", filters=[]), FRAME)


@pytest.mark.parametrize("format", ["parquet", "csv"])
@pytest.mark.parametrize("as_", ["pandas", "polars", "arrow"])
@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_a_field_that_goes_by_its_place_is_one_of_the_artifact(door: Door, format: str, as_: Any) -> None:
    """And not one of the chosen columns, which may be others, or in another order."""
    store = door.store(format=format)
    store.upload(pd.DataFrame({"stay": [1, 2, 3], "age": [2, 50, 90]}), "d/a")
    store.upload(pd.DataFrame({"stay": [4, 5, 2], "age": [2, 60, 70]}), "d/b")
    second = pc.field(0) == 2
    for columns in (["age"], ["age", "stay"], ["stay"], None):
        asked: Any = {"columns": columns, "filters": second, "as_": as_}
        expected = pd.DataFrame({"stay": [2, 2], "age": [50, 70]})[columns or ["stay", "age"]]
        assert pd.DataFrame(pa.table(store.download("d/a", **asked)).to_pydict()).equals(expected[:1])
        assert pd.DataFrame(pa.table(store.dataset("d").download(**asked)).to_pydict()).equals(expected)
        batches = [pa.table(batch) for batch in store.dataset("d").iter_batches(**asked)]
        assert pd.DataFrame(pa.concat_tables(batches).to_pydict()).equals(expected)


@pytest.mark.parametrize("format", ["parquet", "csv"])
@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_a_choice_that_does_not_fit_a_row_is_not_quoted(door: Door, format: str) -> None:
    store = door.store(format=format)
    store.upload(pd.DataFrame({"k": [0, 7_654_321], "a": [1, 1], "b": [2, 2]}), "d/x")
    chosen = pc.choose(pc.field("k"), pc.field("a"), pc.field("b")) == 1
    for read in (lambda: store.download("d/x", filters=chosen), lambda: store.dataset("d").download(filters=chosen)):
        with pytest.raises(ArtifactColumnError, match="cannot be computed for every row"):
            read()


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_labels_of_several_levels_come_out_of_json(door: Door, format: str) -> None:
    frame = pd.DataFrame([[1, 2.0], [3, 4.0]], columns=pd.MultiIndex.from_tuples([("hr", "mean"), ("hr", "max")]))
    store = door.store(format=format)
    store.upload(frame, "x")
    for given in ([(("hr", "mean"), ">", 1)], [[["hr", "mean"], ">", 1]], [["hr", "mean"], ">", 1]):
        assert_same(store.download("x", filters=given), frame.iloc[1:].reset_index(drop=True))


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_a_long_list_of_values_is_no_deep_expression(door: Door, format: str) -> None:
    store = door.store(format=format)
    store.upload(pd.DataFrame({"stay_id": range(1_000)}), "x")
    wanted = [*range(5, 200_000, 7)]
    assert store.download("x", filters=[("stay_id", "in", wanted)])["stay_id"].tolist() == wanted[:143]
    assert len(store.download("x", filters=[("stay_id", "not in", wanted)])) == 857


SECRET = "Jane-Doe-4711"
# From what is wrong to the filters, and the texts that the message must contain.
WRONG: dict[str, tuple[Any, list[str]]] = {
    "naive against zoned": ([("zoned", "<", pd.Timestamp("2110-01-01"))], ["zoned", "without a zone", "Europe/Berlin"]),
    "naive datetime": ([("zoned", "in", [dt.datetime(2110, 1, 1)])], ["zoned", "without a zone"]),
    "numpy against zoned": ([("zoned", "<", np.datetime64("2110-01-01"))], ["zoned", "without a zone"]),
    "date against zoned": ([("zoned", "<", dt.date(2110, 1, 1))], ["zoned", "without a zone"]),
    "text against zoned": ([("zoned", "<", "2110-01-01")], ["zoned", "without a zone"]),
    "zoned against naive": ([("naive", "<", pd.Timestamp("2110-01-01", tz="UTC"))], ["naive", "has a zone"]),
    "zoned against a date": ([("day", "<", dt.datetime(2110, 1, 1, tzinfo=UTC))], ["day", "has a zone"]),
    "naive expression": (pc.field("zoned") < dt.datetime(2110, 1, 1), ["without a zone"]),
    "zoned expression": (pc.field("naive") < dt.datetime(2110, 1, 1, tzinfo=UTC), ["without a zone"]),
    "months": ([("span", "<", np.timedelta64(3, "M"))], ["span", "'M'"]),
    "number against span": ([("span", "<", 4711)], ["span", "duration"]),
    "text against number": ([("id", "==", SECRET)], ["id", "int64", "a number, not a str"]),
    "bool against number": ([("id", "==", True)], ["id", "a number, not a bool"]),
    "number against bool": ([("flag", "==", 1)], ["flag", "True or False"]),
    "number against text": ([("text", ">", 4711)], ["text", "takes text, not a int"]),
    "bytes against text": ([("text", "==", SECRET.encode())], ["text", "not a bytes"]),
    "a text that is no time": ([("naive", "<", SECRET)], ["naive", "ISO 8601"]),
    "None": ([("n", "==", None)], ["n", "'is null'"]),
    "NaN": ([("f", "!=", np.nan)], ["f", "'is not null'"]),
    "NaT": ([("naive", "<", pd.NaT)], ["naive", "'is null'"]),
    "NA in a list": ([("n", "in", [1, pd.NA])], ["n", "'is null'"]),
    "an operator that is not": ([("id", "like", 4711)], ["id", "not in, is null, is not null"]),
    "an operator that is not, as JSON": ([["id", "like", 4711]], ["id", "not in, is null, is not null"]),
    "no value": ([("id", "==")], ["id", "takes one"]),
    "a value too many": ([("id", "==", 1, 2)], ["id", "takes one"]),
    "is null with a value": ([("n", "is null", 4711)], ["n", "takes none"]),
    "in without a list": ([("id", "in", 4711)], ["id", "a list of values"]),
    "in a text": ([("text", "in", SECRET)], ["text", "a list of values"]),
    "polars": (pl.col("id") == 4711, ["polars", "pyarrow.compute.field"]),
    "a text": ("id", ["(column, operator, value)"]),
    "a dictionary": ({"id": 4711}, ["(column, operator, value)"]),
    "conditions and lists": ([("id", "==", 1), [("id", "==", 2)]], ["(column, operator, value)"]),
    "any object": ([("id", "==", object())], ["id", "a number"]),
    "a column that is not there": ([["ids", "==", 4711]], ["'ids'", "did you mean 'id'"]),
    "a dictionary as column": ([({}, "==", 4711)], ["(column, operator, value)"]),
    "a list of a UUID": ([("text", "in", [uuid.UUID(int=4711)])], ["text", "takes text, not a UUID"]),
}  # fmt: skip


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_a_filter_that_does_not_fit_says_why_and_quotes_no_value(door: Door, format: str) -> None:
    store = door.store(format=format)
    store.upload(FRAME, "x")
    for name, (given, named) in WRONG.items():
        for read in (store.download, lambda n, **a: list(store.iter_batches(n, **a))):
            with pytest.raises(ArtifactColumnError) as caught:
                read("x", filters=given)
            message = str(caught.value)
            assert all(word in message for word in named), (name, message)
            assert "4711" not in message, name
            assert "Jane" not in message, name
            assert caught.value.uri == store.uri("x"), name


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_a_comparison_agrees_with_pandas_on_random_rows(door: Door, format: str) -> None:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"row": range(3_000), "a": rng.integers(-50, 50, 3_000), "f": rng.normal(size=3_000).round(1)})
    frame["n"] = frame["a"].astype("Int64").mask(rng.random(3_000) < 0.2)
    frame.loc[rng.random(3_000) < 0.2, "f"] = np.nan
    store = door.store(format=format)
    store.upload(frame, "x")
    signs = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt}
    for column, value in [("a", 7), ("a", 7.5), ("n", 7), ("n", -60), ("f", 0.3), ("f", 0)]:
        for sign, compare in signs.items():
            expected = frame[compare(frame[column], value).fillna(False).astype(bool) & frame[column].notna()]
            assert store.download("x", filters=[[column, sign, value]])["row"].tolist() == expected["row"].tolist()
