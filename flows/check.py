"""Shows what the ICU flow would use of a source, and what it would drop and why, from the first rows of the files.

    python -m flows.check --source DIR [--catalogue FILE] [--rows N]

Nothing is written. Counts, column names and codes are printed, but no cells and no identifiers. Numbers under ten are
hidden, and so are codes of fewer than ten patients. The exit code is 0 if the flow can use the source, and 3 if it
cannot.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pandas as pd

from clinops_prefect.command_line import UNUSABLE, Parser, run, stop
from flows.icu.catalogue import DEFAULT_CATALOGUE, Catalogue, CatalogueError, load_catalogue
from flows.icu.counts import Counts, add_counts
from flows.icu.disclosure import SMALL, told, told_account
from flows.icu.events import clean
from flows.running.command_line import CODES, SOURCE, refuse_absent_folder
from flows.running.source_store import open_source
from flows.sources.columns import ColumnError, Kind, convert
from flows.sources.fhir_resources import read_resources
from flows.sources.fhir_table import DEFAULT_FHIR_TABLE, FhirTable, load_fhir_table
from flows.sources.files import TABLE_SUFFIXES, TableError, find_optional_table
from flows.sources.folder import Codes, Events, Source, find_source, ingest_events, read_stays
from flows.sources.meds import read_shard
from flows.sources.meds_table import DEFAULT_MEDS_TABLE, MedsTable, MedsTableError, load_meds_table
from flows.sources.mimic import EVENT_TABLES
from flows.sources.objects import SourcePath, in_order
from flows.sources.tables import LAYOUTS, file_columns, read_file

_REQUIRED_TABLES = ("icu/icustays", "icu/chartevents")
_DEFAULT_ROWS = 200_000
_SHOWN = 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_ ./()%-]{0,60}")
# The columns of a frame with one row for each row that was read: its code, item and subject.
_SEEN = ["code", "item", "subject"]


def check(source: str, catalogue: Catalogue, fhir: FhirTable, meds: MedsTable, rows: int) -> bool:
    """Print what the flow would do with a source.

    Args:
        source: As in `flows.icu_features`.
        catalogue: The variables to look for.
        fhir: The table of FHIR codes and their items.
        meds: The table of MEDS codes and their items.
        rows: How many rows of each table, or how many resources, to read.

    Returns:
        Whether the flow can use the source.
    """
    root = open_source(source)
    try:
        found = find_source(root, fhir)
    except TableError as error:
        _say_tables(root)
        return _unusable(str(error))
    kind = "a MEDS dataset" if found.is_meds else "FHIR R4" if found.is_fhir else "tables in MIMIC-IV layout"
    print(f"{root}: {kind}, files of events: {len(found.events)}")
    if not found.is_meds and (why := _say_tables(root, only_there=found.is_fhir)):
        return _unusable(why)
    codes: Codes = meds if found.is_meds else fhir
    try:
        cohort = read_stays(root, codes)
        _say_cohort(cohort.counts)
        for warning in cohort.warnings:
            print(f"  {warning}")
        ingested, cleaned = _try(found, cohort.stays, catalogue, codes, rows)
        seen = _seen(found, catalogue, codes, rows)
    except (TableError, MedsTableError, CatalogueError) as error:
        return _unusable(str(error))
    kept = _say_rows(ingested, cleaned, rows)
    _say_codes(seen, catalogue, cleaned)
    if not len(cohort.stays):
        return _unusable("there is no stay")
    if not kept:
        return _unusable("no row is of a stay and of a variable of the catalogue")
    print("\nThe flow can use this source.")
    return True


def _unusable(why: str) -> bool:
    print(f"\nThe flow cannot use this source: {why}.")
    return False


def _say_tables(root: SourcePath, *, only_there: bool = False) -> str:
    """Print the tables and their missing columns, or, if there are no tables, the files. Returns what is wrong."""
    wrong, is_any = "", False
    for name, layout in LAYOUTS.items():
        try:
            paths = find_optional_table(root, name)
            columns = {column.strip().lower() for column in file_columns(paths[0])} if paths else set()
        except TableError as error:
            print(f"  {error}")
            wrong, is_any = "a table cannot be read", True
            continue
        if not paths and only_there:
            continue
        if not paths:
            needed = "needed" if name in _REQUIRED_TABLES else "optional"
            print(f"  {name}: not there ({needed}); its columns: {', '.join(layout.required)}")
            continue
        is_any = True
        missing = [column for column in layout.required if column not in columns]
        absent = [column for column in layout.optional if column not in columns]
        unused = sorted(columns - set(layout.columns))
        if missing and not wrong:
            wrong = "a column is missing: rename one in your file, or add it"
        print(f"  {name}: {len(paths)} file{'s' * (len(paths) > 1)}")
        for what, names in {"missing": missing, "not there, optional": absent, "not used": unused}.items():
            if names:
                print(f"    {what}: {_names(names)}")
    if not is_any and not only_there:
        for file in islice((file for file in in_order(root.rglob("*")) if _is_table(file)), _SHOWN):
            try:
                print(f"  {file.name} has the columns {_names(file_columns(file))}")
            except TableError as error:
                print(f"  {error}")
    return wrong


def _names(columns: list[str]) -> str:
    """The column names as text. If one does not look like a name, the file may lack a header: its cells stay hidden."""
    if not all(_NAME.fullmatch(column.strip()) for column in columns):
        return f"{len(columns)}, not shown, since not all are names; the first row has to be a header"
    return ", ".join(columns)


def _is_table(file: SourcePath) -> bool:
    return file.name.casefold().endswith(TABLE_SUFFIXES) and file.is_file()


def _say_cohort(counts: Counts) -> None:
    left_out = {
        reason: number
        for reason, number in counts.items()
        if number and isinstance(number, int) and reason not in ("rows_in", "stays", "no_outtime")
    }
    more = "".join(f", {reason} {told(number)}" for reason, number in left_out.items())
    print(f"\nStays: {told(counts['stays'])}{'; left out or to look at' + more if more else ''}")
    if counts.get("no_outtime"):
        print(f"  without an end: {told(counts['no_outtime'])}; their events have no upper bound")


def _try(
    found: Source, stays: pd.DataFrame, catalogue: Catalogue, codes: Codes, rows: int
) -> tuple[Counts, dict[str, Any]]:
    """Ingest and clean the first rows of each table."""
    ingested: Counts = {}
    frames = []
    for events in found.events:
        # One batch at a time, so that not many more rows are read than the user wants.
        for frame, counts in ingest_events(events, found.root, catalogue, codes, {}, together=1):
            frames.append(frame)
            ingested = add_counts(ingested, counts)
            if ingested[events.table]["rows_in"] >= rows:
                break
    return ingested, clean(frames, stays, catalogue).counts


def _say_rows(ingested: Counts, cleaned: dict[str, Any], rows: int) -> int:
    print(f"\nRows, of the first {rows:,} of each table or a little more:")
    kept = 0
    for table, before in ((name, counts) for name, counts in ingested.items() if name in cleaned["tables"]):
        after = cleaned["tables"][table]
        left_out = {key: number for key, number in before.items() if key not in ("rows_in", "passed_on")}
        dropped = add_counts(after["dropped"], left_out)
        account = told_account(after["kept"], dropped)
        kept += after["kept"]
        print(f"  {table}: kept {_number(account.kept)}")
        for reason, number in account.dropped.items():
            if number != 0:
                print(f"    dropped, {reason}: {_number(number)}")
    return kept


def _number(number: int | None) -> str:
    return "hidden" if number is None else f"{number:,}"


def _say_codes(seen: pd.DataFrame, catalogue: Catalogue, cleaned: dict[str, Any]) -> None:
    owner = {item: variable.name for variable in catalogue.variables for item in variable.items}
    by_code = seen.groupby("code").agg(rows=("code", "size"), item=("item", "first"), subjects=("subject", "nunique"))
    by_code = by_code[by_code["subjects"] >= SMALL].sort_values("rows", ascending=False)
    by_code["variable"] = by_code["item"].map(owner)
    print(f"\nVariables of the catalogue, by the codes that at least {SMALL} patients have:")
    for name in catalogue.names:
        codes = by_code.index[by_code["variable"] == name]
        if len(codes):
            counts = cleaned["variables"][name]
            odd = [
                f"{key} {told(counts[key])}" for key in ("unknown_unit", "implausible", "no_storetime") if counts[key]
            ]
            print(f"  {name}: {'; '.join([', '.join(map(str, codes)), told(counts['usable']) + ' values', *odd])}")
    absent = [name for name in catalogue.names if name not in set(by_code["variable"].dropna())]
    if absent:
        print(f"  none of: {', '.join(absent)}")
    for name, texts in cleaned.get("unknown_texts", {}).items():
        for text, subjects in texts.items():
            if subjects >= SMALL and text:
                print(f"  {name}: the unit {text!r} is not known; add it to the catalogue (units, texts)")
    others = by_code[by_code["variable"].isna()].head(_SHOWN)
    if len(others):
        print(f"\nThe most frequent codes in no variable (at least {SMALL} patients):")
        for code, number in zip(others.index, others["rows"], strict=True):
            print(f"  {code}: {number:,} rows")


def _seen(found: Source, catalogue: Catalogue, codes: Codes, rows: int) -> pd.DataFrame:
    """The codes in the first rows of each table, with their items and subjects."""
    wanted = frozenset(catalogue.item_ids)
    parts, read = [], dict.fromkeys((events.table for events in found.events), 0)
    for events in found.events:
        for part in _codes_of(events, found, catalogue, codes):
            if read[events.table] >= rows:
                break
            read[events.table] += len(part)
            parts.append(part)
    seen = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_SEEN)
    seen = seen.dropna(subset=["code", "subject"])
    return seen.assign(item=seen["item"].where(seen["item"].isin(wanted)))


def _codes_of(events: Events, found: Source, catalogue: Catalogue, codes: Codes) -> Iterator[pd.DataFrame]:
    path = found.root / events.path
    if isinstance(codes, MedsTable):
        for batch, _ in read_shard(path, codes):
            frame = batch.select(["code", "subject_id"]).to_pandas()
            frame = frame[
                ~frame["code"].isin([code for code in frame["code"].dropna().unique() if codes.meaning(code)])
            ]
            items = {code: codes.item(code, catalogue)[0] for code in frame["code"].dropna().unique()}
            yield pd.DataFrame(
                {"code": frame["code"], "item": frame["code"].map(items), "subject": frame["subject_id"]}
            )
    elif events.table in EVENT_TABLES:
        for batch in read_file(path, EVENT_TABLES[events.table]):
            try:
                item, subject = (convert(batch.column(name), Kind.ID) for name in ("itemid", "subject_id"))
            except ColumnError as error:
                raise TableError(f"{path}: itemid or subject_id: {error}") from None
            items = pd.array(item.to_pandas(integer_object_nulls=True), "Int64")
            yield pd.DataFrame({"code": items, "item": items, "subject": subject.to_pandas()})
    else:
        yield from _fhir_codes(path, codes)


def _fhir_codes(path: SourcePath, table: FhirTable) -> Iterator[pd.DataFrame]:
    resources = read_resources(path, "Observation")
    while some := list(islice(resources, 10_000)):
        rows = []
        for _, resource in some:
            parts = [part for part in (resource, *resource.get("component", [])) if isinstance(part, dict)]
            for concept in (part.get("code") for part in parts):
                codings = concept.get("coding", []) if isinstance(concept, dict) else []
                text = next((f"{one.get('system', '')}|{one.get('code', '')}" for one in codings), None)
                rows.append((text, table.item(concept), str(resource.get("subject", {}).get("reference"))))
        yield pd.DataFrame(rows, columns=_SEEN)


def main() -> None:
    """Run the command line."""
    text = "What the ICU flow would use of a source, what it would drop, and why.\nNothing is written."
    parser = Parser("flows.check", text, "--source s3://bucket/mimic-iv --rows 50000")
    parser.add_argument("--source", required=True, help=SOURCE)
    parser.add_argument("--catalogue", default=str(DEFAULT_CATALOGUE), help="another catalogue of variables and items")
    parser.add_argument("--fhir-table", default=str(DEFAULT_FHIR_TABLE), help="another table of FHIR codes and items")
    parser.add_argument("--meds-table", default=str(DEFAULT_MEDS_TABLE), help="another table of MEDS codes and items")
    parser.add_argument("--rows", type=int, default=_DEFAULT_ROWS, help="rows of each table (default 200,000)")
    given = parser.parse_args()
    if given.rows < 1:
        parser.error("--rows must be 1 or more")
    refuse_absent_folder(parser, given.source)

    def work() -> bool:
        fhir, meds = load_fhir_table(given.fhir_table), load_meds_table(given.meds_table)
        return check(given.source, load_catalogue(given.catalogue), fhir, meds, given.rows)

    if not run(work, debug=given.debug, codes=CODES):
        stop(f"{parser.prog}: --source: the flow cannot use this source; the report above says why.", UNUSABLE)


if __name__ == "__main__":
    main()
