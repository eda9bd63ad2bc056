"""CSV files of other programs: what is certain is read, equally by every method. The rest is refused by name."""

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import ArtifactColumnError, ArtifactDecodeError, PipelineStore
from tests.doors import Door
from tests.gallery import assert_same

NA, NAN = pd.NA, np.nan
local = pytest.mark.parametrize("door", ["local"], indirect=True)


def every_way(store: PipelineStore, options: Any = None) -> pd.DataFrame:
    """The whole frame. Every way to read a part must agree with it, including dtypes."""
    whole = store.download("x", csv_options=options)
    batches = list(store.iter_batches("x", rows=1, csv_options=options))
    assert [list(batch.dtypes) for batch in batches] == [list(whole.dtypes)] * len(batches)
    assert_same(pd.concat(batches), whole)
    assert_same(store.download("x", columns=list(whole.columns)[::-1], csv_options=options), whole.iloc[:, ::-1])
    for name in whole.columns:
        for condition, rows in (("is null", whole[name].isna()), ("is not null", whole[name].notna())):
            found = store.download("x", columns=[name], filters=[(name, condition)], csv_options=options)
            assert_same(found, whole.loc[rows, [name]].reset_index(drop=True))
    return whole


def is_equal(frame: pd.DataFrame, expected: dict[str, tuple[str, list[Any]]]) -> None:
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        n: dtype for n, (dtype, _) in expected.items()
    }
    for name, (_, values) in expected.items():
        for found, value in zip(frame[name].tolist(), values, strict=True):
            assert found is value or found == value or (found != found and value != value), (name, found, value)


BIG = 2**62 + 1
# From a name to the text, and its columns with dtype and values.
READ: dict[str, tuple[str | bytes, dict[str, tuple[str, list[Any]]]]] = {
    "integers": ("a\n7\n-7\n0\n", {"a": ("Int64", [7, -7, 0])}),
    "integers, some missing": ("a,b\n1,\n,2\n", {"a": ("Int64", [1, NA]), "b": ("Int64", [NA, 2])}),
    "identifiers": (
        f"a,b\n{BIG},x\n{BIG + 1},\n,y\n",
        {"a": ("Int64", [BIG, BIG + 1, NA]), "b": ("str", ["x", NAN, "y"])},
    ),
    "more than 64 bits": (f"a\n{2**63}\n1\n", {"a": ("str", [str(2**63), "1"])}),
    "leading zeros": ("a\n007\n7\n", {"a": ("str", ["007", "7"])}),
    "leading zeros late": ("a\n" + "7\n" * 50 + "007\n", {"a": ("str", ["7"] * 50 + ["007"])}),
    "leading zero of a decimal": ("a\n1.5\n00.5\n", {"a": ("str", ["1.5", "00.5"])}),
    "plus": ("a\n+7\n", {"a": ("str", ["+7"])}),
    "point without a digit": ("a,b\n.5,5.\n", {"a": ("str", [".5"]), "b": ("str", ["5."])}),
    "decimals": ("a\n1.5\n-2\n", {"a": ("float64", [1.5, -2.0])}),
    "decimals of 17 digits": ("a\n0.30000000000000004\n1\n", {"a": ("float64", [0.30000000000000004, 1.0])}),
    "decimals of 19 digits": ("a\n0.1234567890123456789\n", {"a": ("str", ["0.1234567890123456789"])}),
    "identifiers and a decimal": ("a\n9007199254740993\n0.5\n", {"a": ("str", ["9007199254740993", "0.5"])}),
    "small floats of Python": ("a\n9.5e-05\n1.0\n1e+16\n", {"a": ("float64", [9.5e-05, 1.0, 1e16])}),
    "codes with an e": (
        "a,b,c\n1e5,1E10,2e-7\n",
        {"a": ("str", ["1e5"]), "b": ("str", ["1E10"]), "c": ("str", ["2e-7"])},
    ),
    "numbers of programs": (
        "a,b,c\n1_000,0x1F,1 000\n",
        {"a": ("str", ["1_000"]), "b": ("str", ["0x1F"]), "c": ("str", ["1 000"])},
    ),
    "mixed decimals": ('a\n1.5\n"2,5"\n', {"a": ("str", ["1.5", "2,5"])}),
    "a space": ("a\n1\n 2\n", {"a": ("str", ["1", " 2"])}),
    "words for missing": ("a,b\nNA,1\n3,NULL\n", {"a": ("str", ["NA", "3"]), "b": ("str", ["1", "NULL"])}),
    "words of floats": ("a,b\nnan,1\n3,inf\n", {"a": ("str", ["nan", "3"]), "b": ("str", ["1", "inf"])}),
    "dates and flags": ("a,b\nTrue,2110-01-01\n", {"a": ("str", ["True"]), "b": ("str", ["2110-01-01"])}),
    "all missing": ("a,b\n,1\n", {"a": ("str", [NAN]), "b": ("Int64", [1])}),
    "quoted": ('a,b\n"1",""\n"","x"\n', {"a": ("Int64", [1, NA]), "b": ("str", ["", "x"])}),
    "quotes inside": ('a,b\n"x,\ny","q""r"\n', {"a": ("str", ["x,\ny"]), "b": ("str", ['q"r'])}),
    "inches": ('a,b\n5" tall,2\n', {"a": ("str", ['5" tall']), "b": ("Int64", [2])}),
    "delimiter at the end": ("a,b\n1,2,\n3,4,\n", {"a": ("Int64", [1, 3]), "b": ("Int64", [2, 4])}),
    "delimiter at the end of all": ("a,b,\n1,2,\n3,4,\n", {"a": ("Int64", [1, 3]), "b": ("Int64", [2, 4])}),
    "index of pandas": (",a\n0,x\n1,y\n", {"": ("Int64", [0, 1]), "a": ("str", ["x", "y"])}),
    "byte order mark": (b"\xef\xbb\xbfa,b\n1,2\n", {"a": ("Int64", [1]), "b": ("Int64", [2])}),
    "byte order mark of UTF-16": ("a,b\nä,2\n".encode("utf-16"), {"a": ("str", ["ä"]), "b": ("Int64", [2])}),
    "lines of Windows": ("a,b\r\n1,2\r\n\r\n3,4\r\n", {"a": ("Int64", [1, 3]), "b": ("Int64", [2, 4])}),
    "lines of old Macs": ("a,b\r1,2\r", {"a": ("Int64", [1]), "b": ("Int64", [2])}),
    "no line at the end": ("a\nx\ny", {"a": ("str", ["x", "y"])}),
    "blank lines": ("\n\na,b\n1,2\n\n3,4\n", {"a": ("Int64", [1, 3]), "b": ("Int64", [2, 4])}),
    "years as names": ("id,2019,2020\n1,2,3\n", {"id": ("Int64", [1]), "2019": ("Int64", [2]), "2020": ("Int64", [3])}),
    "no rows": ("a,b\n", {"a": ("str", []), "b": ("str", [])}),
    "nothing": ("", {}),
}
SECRET = "Jane"
# From a name to the text, and the texts that the message must contain.
REFUSED: dict[str, tuple[str | bytes, list[str]]] = {
    "semicolons": ("id;value\n1;2,5\n", ["delimited by ';'", "{'delimiter': ';'}", "'decimal': ','"]),
    "semicolons without a header": ("1;2,5\n3;4,5\n", ["delimited by ';'"]),
    "tabs": ("a\tb\nJane\t2\n", [r"{'delimiter': '\t'}"]),
    "pipes": ("a|b\nJane|2\n", ["{'delimiter': '|'}"]),
    "spaces": ("a b\n1 2\n", ["{'delimiter': ' '}"]),
    "line of Excel": ("sep=;\na;b\n1;2\n", ["';'"]),
    "long rows": ("a,b\n1,Jane,3\n", ["3 cells", "header has 2"]),
    "long rows, some empty": ("a,b\n1,2,\n3,4,Jane\n", ["one cell more", "{'names': […]}"]),
    "short rows": ("a,b,c\n1,2,3\nJane,5\n", ["2 cells", "header has 3"]),
    "comment above": ("# Jane\na,b\n1,2\n", ["'#'", "{'comment': '#'}"]),
    "comment below": ("a,b\n# Jane\n1,2\n", ["'#'", "{'comment': '#'}"]),
    "comment of MATLAB": ("% Jane\na,b\n1,2\n", ["'%'", "{'comment': '%'}"]),
    "comment of a program": ("// Jane, d\na,b\n1,2\n", ["'//'", "{'comment': '//'}"]),
    "title of a spreadsheet": ("Jane,,\na,b,c\n1,2,3\n", ["only its first column", "{'skip_rows': 1}"]),
    "title and an empty row": ("Jane,\n,\na,b\n1,2\n", ["only its first column", "'names'"]),
    "title of one cell": ("Jane\na,b\n1,2\n", ["2 cells", "'skip_rows'"]),
    "comment with a comma": ("a,b\n#Jane,d\n", ["'#'", "{'comment': ''}"]),
    "name twice": ("a,a\n1,2\n", ["'a'", "{'names': […]}"]),
    "header twice": ("a,b\nJane,2\na,b\n3,4\n", ["header again as row 2"]),
    "header twice, of numbers too": ("id,2019\n1,2\nid,2019\n", ["header again as row 2"]),
    "no header": ("1,2\n3,4\n", ["{'header': False, 'names': […]}"]),
    "Latin-1": ("a,b\nJäne,2\n".encode("latin-1"), ["not UTF-8", "{'encoding': 'latin-1'}"]),
    "UTF-16 without a mark": ("a,b\nJane,2\n".encode("utf-16-le"), ["NUL", "utf-16-le"]),
    "UTF-16 that is cut": (b"\xff\xfea\x00,", ["utf-16"]),
    "quote that stays open": ('a,b\n"Jane,2\n3,4\n', ["quotation mark"]),
    "quote that stays open late": ("a,b\n" + "1,2\n" * 50 + '1,"Jane\n3,4\n', ["quotation mark", "line"]),
    "text after a quote": ('a,b\n1,2\n3,4\n"Jane"x,2\n', ["quotation mark", "line 4"]),
    "backslash": ('a,b\n"x\\"Jane",2\n', [r"{'escape_char': '\\'}"]),
    "blank lines in one column": ("a\nJane\n\n2\n", ["'skip_blank_lines'"]),
}  # fmt: skip
# The text, the options, and the columns.
TOLD: list[tuple[str | bytes, dict[str, Any], dict[str, tuple[str, list[Any]]]]] = [
    ("id;v\n1;2,5\n", {"delimiter": ";", "decimal": ","}, {"id": ("Int64", [1]), "v": ("float64", [2.5])}),
    (
        "v;w\n1.234,5;1\n12,5;2\n",
        {"delimiter": ";", "decimal": ",", "thousands": "."},
        {"v": ("float64", [1234.5, 12.5]), "w": ("Int64", [1, 2])},
    ),
    ("v;w\n1.5;1\n1,5;2\n", {"delimiter": ";", "decimal": ","}, {"v": ("str", ["1.5", "1,5"]), "w": ("Int64", [1, 2])}),
    ("a\tb\n007\t2\n", {"delimiter": "\t"}, {"a": ("str", ["007"]), "b": ("Int64", [2])}),
    ('# c\na,b\n1,2\n#x\n"p\n#q",4\n', {"comment": "#"}, {"a": ("str", ["1", "p\n#q"]), "b": ("Int64", [2, 4])}),
    ("% c, d\na,b\n1,2\n", {"comment": "%"}, {"a": ("Int64", [1]), "b": ("Int64", [2])}),
    ("// c\r\na,b\r\n// d\r\n1,2\r\n", {"comment": "//"}, {"a": ("Int64", [1]), "b": ("Int64", [2])}),
    ("%a,b\n1,2\n", {"comment": ""}, {"%a": ("Int64", [1]), "b": ("Int64", [2])}),
    ("Lab report,\n\na,b\n1,2\n", {"skip_rows": 2}, {"a": ("Int64", [1]), "b": ("Int64", [2])}),
    ("one\rtwo\ra,b\r1,2\r", {"skip_rows": 2}, {"a": ("Int64", [1]), "b": ("Int64", [2])}),
    ("# c\ntitle\na,b\n1,2\n", {"comment": "#", "skip_rows": 1}, {"a": ("Int64", [1]), "b": ("Int64", [2])}),
    ("a,\nx,1\n", {"skip_rows": 0}, {"a": ("str", ["x"]), "": ("Int64", [1])}),
    ("a,\nx,\n", {}, {"a": ("str", ["x"])}),
    (",a\n0,1\n", {}, {"": ("Int64", [0]), "a": ("Int64", [1])}),
    ("#a,b\n1,2\n", {"comment": ""}, {"#a": ("Int64", [1]), "b": ("Int64", [2])}),
    ("a,b\nä,2\n".encode("cp1252"), {"encoding": "cp1252"}, {"a": ("str", ["ä"]), "b": ("Int64", [2])}),
    ("a,b\nä,2\n".encode("utf-16-le"), {"encoding": "utf-16-le"}, {"a": ("str", ["ä"]), "b": ("Int64", [2])}),
    ("1,2\n3,4\n", {"header": False, "names": ["x", "y"]}, {"x": ("Int64", [1, 3]), "y": ("Int64", [2, 4])}),
    ("1,2\n", {"header": False}, {"column_0": ("Int64", [1]), "column_1": ("Int64", [2])}),
    ("a,a\n1,2\n", {"names": ["x", "y"]}, {"x": ("Int64", [1]), "y": ("Int64", [2])}),
    ("a,b\nNA,1\n3,.\n", {"missing": ["NA", "."]}, {"a": ("Int64", [NA, 3]), "b": ("Int64", [1, NA])}),
    ("a,b\n007,1\n", {"dtype": {"a": "Int64", "b": "str"}}, {"a": ("Int64", [7]), "b": ("str", ["1"])}),
    ("a,b\n007,1\n", {"dtype": "str"}, {"a": ("str", ["007"]), "b": ("str", ["1"])}),
    (
        "a,b\nTrue,2110-01-01\nfalse,\n",
        {"dtype": {"a": "boolean", "b": "datetime64[us]"}},
        {"a": ("boolean", [True, False]), "b": ("datetime64[us]", [pd.Timestamp("2110-01-01"), pd.NaT])},
    ),
    (
        "a,b\nx,1\ny,2\n",
        {"dtype": {"a": "category", "b": "int64"}},
        {"a": ("category", ["x", "y"]), "b": ("int64", [1, 2])},
    ),
    (
        "a\n2110-01-01\n\n",
        {"dtype": {"a": "date"}, "skip_blank_lines": False},
        {"a": ("object", [dt.date(2110, 1, 1), None])},
    ),
    ("a\n1\n\n2\n", {"skip_blank_lines": True}, {"a": ("Int64", [1, 2])}),
    ("a,b\n'x,y',2\n", {"quote_char": "'"}, {"a": ("str", ["x,y"]), "b": ("Int64", [2])}),
    ('a,b\n"x\\"y",2\n', {"escape_char": "\\"}, {"a": ("str", ['x"y']), "b": ("Int64", [2])}),
    ("a b\n1 2\n", {"delimiter": ","}, {"a b": ("str", ["1 2"])}),
]


def put(door: Door, text: str | bytes) -> PipelineStore:
    door.put("x.csv", text if isinstance(text, bytes) else text.encode())
    return door.store(format="csv")


@local
def test_what_is_certain_is_read_the_same_in_each_way(door: Door) -> None:
    for name, (text, expected) in READ.items():
        frame = every_way(put(door, text))
        try:
            is_equal(frame, expected)
        except AssertionError as error:
            raise AssertionError(name) from error


def test_each_store_reads_it(door: Door) -> None:
    for name in ("identifiers", "leading zeros", "delimiter at the end"):
        is_equal(every_way(put(door, READ[name][0])), READ[name][1])
    text, options, expected = TOLD[0]
    is_equal(every_way(put(door, text), options), expected)


@local
def test_what_is_not_certain_is_refused_and_named(door: Door) -> None:
    for name, (text, named) in REFUSED.items():
        store = put(door, text)
        for read in (
            store.download,
            lambda n, store=store: store.download(n, columns=["a"]),
            lambda n, store=store: list(store.iter_batches(n)),
        ):
            with pytest.raises(ArtifactDecodeError) as caught:
                read("x")
            message = str(caught.value)
            assert all(words in message for words in named), (name, message)
            assert SECRET not in str(caught.getrepr(style="native")).replace('SECRET = "Jane"', ""), name
            assert caught.value.uri == store.uri("x")


@local
def test_options_say_what_is_not_certain(door: Door) -> None:
    for text, options, expected in TOLD:
        frame = every_way(put(door, text), options)
        try:
            is_equal(frame, expected)
        except AssertionError as error:
            raise AssertionError(str(options)) from error


@local
def test_a_dtype_that_does_not_fit_names_the_column_and_no_cell(door: Door) -> None:
    store = put(door, "lactate,b\nJane,\n2,1\n")
    for dtype in ("Int64", "float64", "boolean", "datetime64[us]", "date", "int64"):
        with pytest.raises(
            ArtifactDecodeError, match=f"'lactate' cannot be read as {dtype}".replace("[", r"\[")
        ) as caught:
            store.download("x", csv_options={"dtype": {"lactate": dtype}})
        assert "Jane" not in str(caught.value)
    with pytest.raises(ArtifactDecodeError, match="'b' cannot be read as int64: has missing values"):
        store.download("x", csv_options={"dtype": {"b": "int64"}})
    with pytest.raises(ArtifactColumnError, match="did you mean 'lactate'"):
        store.download("x", csv_options={"dtype": {"lactat": "str"}})


@local
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"delimeter": ";"}, "did you mean 'delimiter'"), ({"zzz": 1}, "there are delimiter"),
        ({"delimiter": ";;"}, "one ASCII character"), ({"delimiter": 7}, "one ASCII character"),
        ({"decimal": ";"}, "'.' or ','"), ({"encoding": "nope"}, "name of an encoding"),
        ({"header": 1}, "True or False"),
        ({"names": "a"}, "list of texts"), ({"names": ["a", "a"]}, "twice"), ({"missing": [7]}, "list of texts"),
        ({"dtype": {"a": "float"}}, "float64"), ({"dtype": 7}, "float64"), ("x", "dictionary"),
        ({"delimiter": "'", "quote_char": "'"}, "two meanings"),
    ],
)  # fmt: skip
def test_options_that_are_none_are_refused(door: Door, options: Any, named: str) -> None:
    store = put(door, "a\n1\n")
    for read in (store.download, lambda n, **o: list(store.iter_batches(n, **o))):
        with pytest.raises(TypeError, match=named):
            read("x", csv_options=options)


def test_options_are_for_files_of_other_programs(door: Door) -> None:
    store = door.store(format="csv")
    store.upload(pd.DataFrame({"a": ["007"]}), "x")
    for read in (store.download, lambda n, **o: list(store.iter_batches(n, **o))):
        with pytest.raises(ArtifactDecodeError, match="leave csv_options out"):
            read("x", csv_options={"delimiter": ";"})
        assert_same(store.download("x", csv_options={}), pd.DataFrame({"a": ["007"]}))
    parquet = door.store()
    parquet.upload(pd.DataFrame({"a": [1]}), "x")
    for read in (parquet.download, lambda n, **o: list(parquet.iter_batches(n, **o))):
        with pytest.raises(TypeError, match="one is of parquet"):
            read("x", csv_options={"delimiter": ";"})


@local
def test_what_pandas_wrote_comes_back_as_its_values(door: Door) -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"stay_id": rng.integers(0, 2**62, 5_000), "code": [f"{i:04d}" for i in range(5_000)]})
    for exponent in (-300, -9, -2, 0, 9, 300):
        frame[f"v{exponent}"] = rng.normal(size=5_000) * 10.0**exponent
    frame["v0"] = frame["v0"].mask(rng.random(5_000) < 0.3)
    store = put(door, frame.to_csv(index=False))
    found = store.download("x")
    pd.testing.assert_frame_equal(found, frame.astype({"stay_id": "Int64"}), check_exact=True)
    some = store.download("x", filters=[("stay_id", "in", frame["stay_id"].iloc[[7, 9]])])
    assert some["code"].tolist() == ["0007", "0009"]
    # And is the caller's to store.
    store.upload(found, "again")
    assert_same(store.download("again"), found)


@pytest.mark.parametrize("door", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("dtype", "cell"), [("float64", "1e400"), ("float64", "-9e999"), ("float64", "2e-400"), ("float32", "1e39")]
)
def test_a_number_outside_of_the_dtype_is_refused_and_not_read_as_infinite(door: Door, dtype: str, cell: str) -> None:
    store = door.store(format="csv")
    door.put("x.csv", f"a\n1.5\n{cell}\n".encode())
    with pytest.raises(ArtifactDecodeError, match=f"column 'a' cannot be read as {dtype}") as caught:
        store.download("x", csv_options={"dtype": {"a": dtype}})
    assert cell not in str(caught.value)
    door.put("y.csv", b"a,b\ninf,0e5\n-Infinity,-0.00\n")
    read = store.download("y", csv_options={"dtype": dtype})
    assert read["a"].tolist() == [float("inf"), float("-inf")]
    assert read["b"].tolist() == [0.0, 0.0]
