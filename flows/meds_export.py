"""Writes the cohort, events and features of a date as a MEDS dataset, for tools that read MEDS.

    python -m flows.meds_export --store URI_OR_BLOCK --date YYYY-MM-DD --out DIR [--no-features]

The time of each row is the time at which it was known: for an event, the later of its chart and storing time; for a
feature, the end of its window. Values are in the units of their items, so that `--source DIR` can read them again.
"""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from clinops_prefect import PipelineStore, __version__
from clinops_prefect.command_line import UNUSABLE, Parser, run
from clinops_prefect.tasks import open_store
from flows.icu.catalogue import DEFAULT_CATALOGUE, Catalogue, CatalogueError, Unit, load_catalogue
from flows.icu.hashing import shard_of
from flows.running.partition import Partition
from flows.running.terminal import counting_line

# The version of MEDS. The tests check the output against its schemas.
MEDS_VERSION = "0.4"
# From our names of the splits to the names that MEDS uses.
_SPLITS = {"train": "train", "validation": "tuning", "test": "held_out"}
_SCHEMA = pa.schema(
    [
        pa.field("subject_id", pa.int64(), nullable=False),
        ("time", pa.timestamp("us")),
        pa.field("code", pa.string(), nullable=False),
        ("numeric_value", pa.float32()),
        ("stay_id", pa.int64()),
        ("charttime", pa.timestamp("us")),
    ]
)
# The number of subjects whose rows are in memory at once, in addition to their shard.
_SUBJECTS = 200
_NOTES = """\
numeric_value has 32 bits, as MEDS wants it: six significant digits, which
charted values have, come back exactly.
Not in the dataset, because the store does not have their times: types of
admission and discharges from the hospital."""


def export(
    store: PipelineStore, date: str, out: str | Path, catalogue: Catalogue, *, features: bool = True
) -> dict[str, int]:
    """Write a date as a MEDS dataset.

    Args:
        store: The store of the flow run.
        date: The partition's date.
        out: The folder for the dataset. It must be empty or absent.
        catalogue: The catalogue of the flow run.
        features: Whether to write the window features too, as `FEATURE//…`.

    Returns:
        The numbers of subjects, shards and rows.

    Raises:
        FileExistsError: The folder is not empty, or is a file.
        ValueError: The date is not complete, or was made with another catalogue.
    """
    partition, out = Partition(date, ""), Path(out)
    manifest = partition.manifest(store)
    if not manifest.get("run"):
        raise ValueError(
            f"{store.uri(partition.final('cohort'))}: {date} is not complete; run flows.icu_features first"
        )
    if manifest["parameters"].get("catalogue_sha256", catalogue.sha256) != catalogue.sha256:
        raise ValueError(f"{date} was made with another catalogue; pass that one (--catalogue)")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        kind = "is not empty" if out.is_dir() else "is a file"
        raise FileExistsError(f"{out} {kind}; give an empty or absent folder")
    shards = int(manifest["parameters"]["shards"])
    stays = store.download(partition.final("cohort")).merge(
        store.download(partition.final("outcomes"))[["stay_id", "death_hours"]], on="stay_id"
    )
    shard_numbers = shard_of(stays["subject_id"].to_numpy("int64"), shards)
    codes: dict[str, str] = {}
    totals = {"subjects": stays["subject_id"].nunique(), "shards": 0, "rows": 0}
    kinds = ("events", "features") if features else ("events",)
    bytes_of = {artifact["name"]: artifact["bytes"] for artifact in manifest["artifacts"]}
    sizes = [sum(bytes_of[partition.final(f"{kind}/shard-{shard:03d}")] for kind in kinds) for shard in range(shards)]
    with counting_line(f"MEDS of {date}", sum(sizes), "MB", 1_000_000) as exported:
        for shard, size in enumerate(sizes):
            of_shard = stays[shard_numbers == shard]
            events = store.download(partition.final(f"events/shard-{shard:03d}"))
            windows = store.download(partition.final(f"features/shard-{shard:03d}")) if features else None
            for split, name in _SPLITS.items():
                some = of_shard[of_shard["split"] == split]
                if some.empty:
                    continue
                path = out / "data" / name / f"{shard:03d}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                totals["shards"] += 1
                with pa.parquet.ParquetWriter(path, _SCHEMA) as writer:
                    for rows in _rows(some, events, windows, catalogue, codes):
                        totals["rows"] += len(rows)
                        writer.write_table(pa.Table.from_pandas(rows, _SCHEMA, preserve_index=False))
            exported(size)
    _write_metadata(out, stays, codes, date)
    return totals


def _rows(
    stays: pd.DataFrame,
    events: pd.DataFrame,
    windows: pd.DataFrame | None,
    catalogue: Catalogue,
    codes: dict[str, str],
) -> Iterator[pd.DataFrame]:
    """Frames of the rows of `_SUBJECTS` subjects each, sorted by subject and time. Also notes the codes' meanings."""
    subjects = np.unique(stays["subject_id"].to_numpy("int64"))
    for first in range(0, len(subjects), _SUBJECTS):
        some = subjects[first : first + _SUBJECTS]
        frames = [
            *_cohort_rows(stays[stays["subject_id"].isin(some)], codes),
            *_event_rows(events[events["subject_id"].isin(some)], catalogue, codes),
        ]
        if windows is not None:
            frames += _feature_rows(windows[windows["subject_id"].isin(some)], catalogue, codes)
        rows = pd.concat([frame.reindex(columns=_SCHEMA.names) for frame in frames], ignore_index=True)
        # In MEDS, a row without a time holds for the whole life, and comes first.
        yield rows.sort_values(["subject_id", "time"], kind="stable", na_position="first", ignore_index=True)


def _cohort_rows(stays: pd.DataFrame, codes: dict[str, str]) -> Iterator[pd.DataFrame]:
    def rows(of: pd.DataFrame, time: Any, code: Any, meaning: str, *, with_stay: bool = True) -> pd.DataFrame:
        frame = of[["subject_id", "stay_id"]].assign(time=time, code=code)
        codes.update(dict.fromkeys(frame["code"].unique(), meaning))
        return frame if with_stay else frame.drop(columns="stay_id")

    first = stays.sort_values(["subject_id", "intime"]).drop_duplicates("subject_id")
    of_known = first[first["gender"].notna()]
    yield rows(of_known, pd.NaT, "GENDER//" + of_known["gender"], "the patient's gender", with_stay=False)
    aged = first[first["age"].notna()]
    born = pd.to_datetime({"year": aged["intime"].dt.year - aged["age"].astype("int64"), "month": 1, "day": 1})
    yield rows(aged, born.astype("datetime64[us]"), "MEDS_BIRTH", "1 January of the year of birth", with_stay=False)
    units = "ICU_ADMISSION//" + stays["first_careunit"].fillna("UNK")
    yield rows(stays, stays["intime"], units, "the beginning of an ICU stay, and its care unit")
    ended = stays[stays["outtime"].notna()]
    yield rows(ended, ended["outtime"], "ICU_DISCHARGE", "the end of an ICU stay")
    died = stays[stays["death_hours"].notna()]
    hours = pd.to_timedelta((died["death_hours"] * 3_600_000_000).round(), unit="us")
    died = died.assign(death=(died["intime"] + hours).astype("datetime64[us]")).drop_duplicates(["subject_id", "death"])
    yield rows(died, died["death"], "MEDS_DEATH", "death in the hospital", with_stay=False)


def _event_rows(events: pd.DataFrame, catalogue: Catalogue, codes: dict[str, str]) -> Iterator[pd.DataFrame]:
    for item in np.unique(events["itemid"].to_numpy("int64")).tolist():
        of_item = events[events["itemid"] == item]
        variable = next(variable for variable in catalogue.variables if item in variable.items)
        name = variable.items[item] or variable.unit
        unit = next(unit for unit in variable.units if unit.name == name)
        code = f"LAB//{item}//{name}"
        codes[code] = f"{variable.name}, in {name}; null: a value that cannot be used"
        yield of_item[["subject_id", "stay_id", "time", "charttime"]].assign(
            code=code, numeric_value=_in_unit(of_item["value"], unit)
        )


def _in_unit(value: "pd.Series[float]", unit: Unit) -> "pd.Series[float]":
    """The values as they were charted. They are written in 32 bits, which rounds them to the charted value."""
    return value * unit.divide / unit.multiply + unit.subtract


def _feature_rows(windows: pd.DataFrame, catalogue: Catalogue, codes: dict[str, str]) -> list[pd.DataFrame]:
    made = []
    for variable in catalogue.variables:
        for feature in ("mean", "min", "max", "last", "filled", "lag1", "lag2", "count"):
            column = windows[f"{variable.name}_{feature}"].astype("float64")
            # Neither a count of 0 nor a missing value gets a row.
            there = column.notna() & ((column != 0) | (feature != "count"))
            code = f"FEATURE//{variable.name}_{feature}"
            codes[code] = f"{feature} of {variable.name} ({variable.unit}) in the window that ends at this time"
            rows = windows.loc[there, ["subject_id", "stay_id", "window_end"]].rename(columns={"window_end": "time"})
            made.append(rows.assign(code=code, numeric_value=column[there]))
    return made


def _write_metadata(out: Path, stays: pd.DataFrame, codes: dict[str, str], date: str) -> None:
    folder = out / "metadata"
    folder.mkdir(parents=True, exist_ok=True)
    known = sorted(codes)
    table = pa.table(
        {
            "code": pa.array(known, pa.string()),
            "description": pa.array([codes[code] for code in known], pa.string()),
            "parent_codes": pa.nulls(len(known), pa.list_(pa.string())),
        },
        pa.schema(
            [
                pa.field("code", pa.string(), nullable=False),
                ("description", pa.string()),
                ("parent_codes", pa.list_(pa.string())),
            ]
        ),
    )
    pa.parquet.write_table(table, folder / "codes.parquet")
    people = stays.drop_duplicates("subject_id").sort_values("subject_id")
    fields = [pa.field("subject_id", pa.int64(), nullable=False), pa.field("split", pa.string(), nullable=False)]
    splits = pa.table(
        [pa.array(people["subject_id"], pa.int64()), pa.array(people["split"].map(_SPLITS), pa.string())],
        schema=pa.schema(fields),
    )
    pa.parquet.write_table(splits, folder / "subject_splits.parquet")
    dataset = {
        "dataset_name": "ICU features",
        "dataset_version": date,
        "etl_name": "flows.meds_export",
        "etl_version": __version__,
        "meds_version": MEDS_VERSION,
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "raw_source_id_columns": ["stay_id"],
        "other_extension_columns": ["charttime"],
    }
    # This file is written last, since a folder without it is not yet a MEDS dataset.
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1), encoding="utf-8")


def main() -> None:
    """Run the command line."""
    text = f"Cohort, events and features of a date as a MEDS dataset.\n\n{_NOTES}"
    example = "--store s3://bucket/clinops --date 2024-01-15 --out meds-2024-01-15"
    parser = Parser("flows.meds_export", text, example)
    store = "s3://…, gs://…, az://…, file:///…, a folder, or a block's reference"
    parser.add_argument("--store", required=True, help=store)
    parser.add_argument("--date", required=True, help="the partition, YYYY-MM-DD")
    parser.add_argument("--out", required=True, help="an empty or absent folder of this machine")
    parser.add_argument("--catalogue", default=str(DEFAULT_CATALOGUE), help="the catalogue that the date was made with")
    parser.add_argument("--no-features", action="store_true", help="cohort and events only")
    given = parser.parse_args()
    if "://" in given.out:
        parser.error("--out has to be a folder of this machine; copy it from there")

    def work() -> dict[str, int]:
        catalogue = load_catalogue(given.catalogue)
        return export(open_store(given.store), given.date, given.out, catalogue, features=not given.no_features)

    totals = run(work, debug=given.debug, codes={CatalogueError: UNUSABLE})
    print(f"{given.out}: {totals['rows']:,} rows in {totals['shards']} shards")


if __name__ == "__main__":
    main()
