"""MEDS datasets (https://github.com/Medical-Event-Data-Standard/meds) as raw rows, stays and patients.

The shards `data/**/*.parquet` have `subject_id`, `time`, `code` and `numeric_value`. The table (`meds.toml`) says what
the codes mean. If a row names a stay, it belongs to this stay. Otherwise its time decides, as for FHIR's Observations.
"""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flows.icu.catalogue import Catalogue
from flows.icu.cohort import Cohort, build_cohort
from flows.icu.counts import Counts
from flows.icu.raw import EVENT_SOURCES, OBSERVATIONS, RAW_DTYPES, TABLE_DTYPE
from flows.sources.columns import ColumnError, Kind, convert
from flows.sources.fhir_table import fhir_id
from flows.sources.files import TableError, TableNotFoundError, is_hidden, what_is_there
from flows.sources.meds_table import MedsTable
from flows.sources.objects import SourcePath, in_order
from flows.sources.tables import parquet_names, read_parquet, to_frame

REQUIRED = ("subject_id", "time", "code", "numeric_value")
# The times that writers use for a date without a time of day: its first or last second.
_DATES = (dt.time(0), dt.time(23, 59, 59))


def find_shards(root: SourcePath) -> list[SourcePath]:
    """The shards of a MEDS dataset. Empty if the folder is not a MEDS dataset.

    Raises:
        TableNotFoundError: The folder's metadata say that it is a MEDS dataset, but it has no shard.
    """
    shards = [
        file
        for file in in_order((root / "data").rglob("*"))
        if file.suffix.casefold() == ".parquet" and not is_hidden(file, root) and file.is_file()
    ]
    if (root / "metadata" / "dataset.json").is_file():
        if not shards:
            there = what_is_there(root / "data" if (root / "data").is_dir() else root)
            raise TableNotFoundError(f"{root}: metadata/dataset.json, but no shard; looked for data/*.parquet; {there}")
        return shards
    return shards if shards and set(REQUIRED[:3]) <= set(parquet_names(shards[0])) else []


def ingest_meds(path: SourcePath, catalogue: Catalogue, table: MedsTable) -> Iterator[tuple[pd.DataFrame, Counts]]:
    """The measurements of the catalogue's items in a shard, and counts; see `mimic.ingest`.

    Raises:
        TableError: A column is missing, or has invalid cells.
        MedsTableError: The table names a variable that the catalogue does not have.
    """
    wanted = frozenset(catalogue.item_ids)
    meanings: dict[str, tuple[int | None, str | None]] = {}
    for batch, named in read_shard(path, table):
        rows = batch.num_rows
        codes = batch.column("code").dictionary_encode()
        for code in codes.dictionary.to_pylist():
            if code not in meanings:
                item, unit = (None, None) if code is None else table.item(code, catalogue)
                meanings[code] = (item if item in wanted else None, unit)
        known = [meanings[code] for code in codes.dictionary.to_pylist()]
        items = pa.array([item for item, _ in known], pa.int64()).take(codes.indices)
        units = pa.array([unit for _, unit in known], pa.string()).take(codes.indices)
        is_wanted = pc.is_valid(items)
        batch, items, units = (column.filter(is_wanted) for column in (batch, items, units))
        time = _column(batch, "time", Kind.TIME, path)
        chart, store = (named[key] for key in ("charttime_columns", "storetime_columns"))
        nothing = pa.nulls(len(time), pa.timestamp("us"))
        # If the dataset has a separate column for the chart time, `time` is the time when the value was known.
        known_at = _column(batch, store, Kind.TIME, path) if store else time if chart else nothing
        if unit_column := named["unit_columns"]:
            units = pc.coalesce(units, _column(batch, unit_column, Kind.TEXT, path))
        stay = named["stay_columns"]
        frame = to_frame(
            pa.table(
                {
                    "subject_id": _column(batch, "subject_id", Kind.ID, path),
                    "stay_id": _column(batch, stay, Kind.ID, path) if stay else pa.nulls(len(time), pa.int64()),
                    "itemid": items,
                    "charttime": _column(batch, chart, Kind.TIME, path) if chart else time,
                    "storetime": known_at,
                    "valuenum": _numbers(batch.column("numeric_value")),
                    "valueuom": units,
                }
            )
        )
        place = np.full(len(frame), EVENT_SOURCES.index(OBSERVATIONS), dtype=np.int8)
        frame["table"] = pd.Categorical.from_codes(place, dtype=TABLE_DTYPE)
        counts = {"rows_in": rows, "not_in_catalogue": rows - len(frame), "passed_on": len(frame)}
        yield frame[list(RAW_DTYPES)].astype(RAW_DTYPES), {OBSERVATIONS: counts}  # type: ignore[arg-type]


def read_meds_cohort(shards: list[SourcePath], table: MedsTable) -> Cohort:
    """The cohort: stays, outcomes and patients.

    Raises:
        TableError: A shard cannot be read, or a column has invalid cells.
    """
    found: list[pd.DataFrame] = []
    meanings: dict[str, str] = {}
    for path in shards:
        for batch, named in read_shard(path, table):
            codes = batch.column("code").dictionary_encode()
            texts = codes.dictionary.to_pylist()
            for code in texts:
                if code not in meanings:
                    meanings[code] = "" if code is None else table.meaning(code)
            what = pa.array([meanings[code] or None for code in texts], pa.string()).take(codes.indices)
            rows, what = batch.filter(pc.is_valid(what)), what.drop_null()
            stay = named["stay_columns"]
            columns = {
                "subject_id": _column(rows, "subject_id", Kind.ID, path),
                "stay_id": _column(rows, stay, Kind.ID, path) if stay else pa.nulls(len(what), pa.int64()),
                "time": _column(rows, "time", Kind.TIME, path),
                "code": rows.column("code").cast(pa.string()),
                "what": what,
            }
            found.append(to_frame(pa.table(columns)))
    rows = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["subject_id", "what"])
    rows = rows[rows["subject_id"].notna()]
    stays = [stay for _, of_subject in rows.groupby("subject_id", sort=True) for stay in _stays(of_subject, table)]
    patients = pd.DataFrame([_patient(who, its, table) for who, its in rows.groupby("subject_id")], columns=[*_PATIENT])
    return build_cohort(
        _typed(pd.DataFrame(stays, columns=[*_STAY]), _STAY),
        _typed(patients, _PATIENT).assign(anchor_age=np.nan, anchor_year=np.nan),
        names_all_subjects=False,
    )


_STAY = {
    "subject_id": "Int64",
    "stay_id": "Int64",
    "hadm_id": "Int64",
    "intime": "datetime64[us]",
    "outtime": "datetime64[us]",
    "first_careunit": "str",
    "hospital_expire_flag": "float64",
    "deathtime": "datetime64[us]",
}
_PATIENT = {"subject_id": "Int64", "gender": "str", "dob": "datetime64[us]"}


def _typed(frame: pd.DataFrame, dtypes: dict[str, str]) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].astype(dtype) for name, dtype in dtypes.items()})  # type: ignore[call-overload]


def read_shard(path: SourcePath, table: MedsTable) -> Iterator[tuple[pa.RecordBatch, dict[str, str]]]:
    """A shard in batches, with those columns of the table that the shard has."""
    names = parquet_names(path)
    if missing := [name for name in REQUIRED if name not in names]:
        raise TableError(f"{path}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    keys = [key for key in table.lists if key.endswith("_columns")]
    named = {key: next((name for name in table.lists[key] if name in names), "") for key in keys}
    columns = dict.fromkeys([*REQUIRED, *filter(None, named.values())])
    for batch in read_parquet(path, list(columns)):
        code = batch.column("code")
        if not pa.types.is_string(code.type):
            batch = batch.set_column(batch.schema.get_field_index("code"), "code", convert(code, Kind.TEXT))
        yield batch, named


def _column(batch: pa.RecordBatch, name: str, kind: Kind, path: SourcePath) -> pa.Array:
    try:
        return convert(batch.column(name), kind)
    except ColumnError as error:
        raise TableError(f"{path}: column {name}: {error}") from None


def _numbers(column: pa.Array) -> pa.Array:
    """The column as float64. A 32-bit float becomes the shortest number that rounds to it, so that 98.6 is 98.6."""
    return convert(column.cast(pa.string()) if pa.types.is_float32(column.type) else column, Kind.NUMBER)


def _stays(rows: pd.DataFrame, table: MedsTable) -> Iterator[tuple[Any, ...]]:
    """The stays of one subject."""
    named: dict[int, list[Any]] = {}
    unnamed: list[list[Any]] = []
    is_open = False
    stay_rows = rows[rows["what"].isin(["stay_begins", "stay_ends"])].sort_values("time", kind="stable")
    for _, together in stay_rows.groupby("time", sort=True, dropna=False):
        # At the same time, an open stay ends before the next begins, and a stay without length begins before it ends.
        first = "stay_ends" if is_open else "stay_begins"
        in_turn = together.sort_values("what", key=lambda what: what != first, kind="stable")
        for what, time, code, stay_id in zip(
            *(in_turn[name] for name in ("what", "time", "code", "stay_id")), strict=True
        ):
            unit = code.partition("//")[2] or None
            is_begin = what == "stay_begins"
            if not pd.isna(stay_id):
                stay = named.setdefault(int(stay_id), [pd.NaT, pd.NaT, None])
                stay[0 if is_begin else 1] = time
                stay[2] = unit if is_begin else stay[2]
            elif is_begin:
                unnamed.append([time, pd.NaT, unit])
                is_open = True
            else:
                if is_open:
                    unnamed[-1][1] = time
                else:
                    unnamed.append([pd.NaT, time, None])
                is_open = False
    subject = int(rows["subject_id"].iloc[0])
    stays = list(named.items())
    # An end without a beginning is also a row. The cohort counts it as a stay without `intime`.
    stays += [(fhir_id(f"{subject} {begin} {end}"), [begin, end, unit]) for begin, end, unit in unnamed]
    for stay_id, (begin, end, unit) in stays:
        yield (subject, stay_id, pd.NA, begin, end, unit, *_death(rows, begin, end, table))


def _death(rows: pd.DataFrame, begin: Any, end: Any, table: MedsTable) -> tuple[float, Any]:
    """Whether the patient died in the hospital (NaN if the data do not say), and the time."""
    time = rows.loc[rows["what"] == "deaths", "time"].dropna().min()
    is_date = not pd.isna(time) and time.time() in _DATES
    when = pd.NaT if is_date else time
    since = begin if pd.isna(end) else end
    ends = rows[(rows["what"] == "hospital_ends") & (rows["time"] >= since)].sort_values("time", kind="stable")
    if len(ends):
        at = ends[ends["time"] == ends["time"].iloc[0]]
        died = any(table.is_one_of(code, "hospital_deaths") for code in at["code"])
        return float(died), when if died else pd.NaT
    last = time + pd.Timedelta(days=1) if is_date else time
    if not pd.isna(time) and not pd.isna(begin) and last >= begin and (pd.isna(end) or time <= end):
        return 1.0, when
    return np.nan, pd.NaT


def _patient(subject: Any, rows: pd.DataFrame, table: MedsTable) -> tuple[Any, ...]:
    genders = {table.genders[code] for code in rows.loc[rows["what"] == "genders", "code"]}
    born = rows.loc[rows["what"] == "births", "time"].dropna()
    return subject, genders.pop() if len(genders) == 1 else None, born.iloc[0] if born.nunique() == 1 else pd.NaT
