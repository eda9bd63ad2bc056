"""Synthetic data in the layout of MIMIC-IV v2: `python -m flows.synthetic --out DIR --stays 1000`.

The data are of no real patients. The same arguments make the same rows, on any machine and in any format. Memory does
not grow with the size. The rows have intentional defects, which `rows` describes.
"""

import gzip
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from flows.synthetic.rows import Stays, chart_rows, lab_rows

FORMATS = ("csv.gz", "csv", "parquet")
_CHUNK_ROWS = 250_000
_THREADS = 2
_DAY = 86_400
_NOTICE = """SYNTHETIC DATA. Made by a random number generator (python -m flows.synthetic); no patient is in it.

The columns are those of MIMIC-IV v2 (https://mimic.mit.edu). Nothing clinical can be learnt from the values.
Arguments: {arguments}
"""


def generate(
    out: str | Path,
    stays: int,
    *,
    rows: int | None = None,
    seed: int = 0,
    format: str = "csv.gz",
    catalogue_share: float = 0.14,
    wrote: Callable[[int], None] = lambda _rows: None,
) -> None:
    """Write synthetic `icu/chartevents`, `icu/icustays`, `hosp/patients`, `hosp/admissions` and `hosp/labevents`.

    Args:
        out: A folder, which has to be empty or absent.
        stays: The number of ICU stays.
        rows: The number of chart rows, by default 1,000 per stay. A tenth as many lab rows are made.
        seed: The seed of the random generator.
        format: `csv.gz`, `csv` or `parquet`.
        catalogue_share: The share of chart rows of the default catalogue's items. In the MIMIC-III demo, it is 0.14.
        wrote: A function that gets a number of rows after they were written.

    Raises:
        ValueError: There is no such format, or a number is out of range.
        FileExistsError: The folder has something in it, or is a file.
    """
    rows = 1000 * stays if rows is None else rows
    if format not in FORMATS:
        raise ValueError(f"no such format; there are {', '.join(FORMATS)}")
    if stays < 1 or rows < 0 or not 0 <= catalogue_share <= 1:
        raise ValueError("there has to be a stay; rows cannot be negative; a share is between 0 and 1")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        kind = "is not empty" if out.is_dir() else "is a file"
        raise FileExistsError(f"{out} {kind}; give an empty or absent folder")
    for folder in ("icu", "hosp"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    arguments = f"stays={stays} rows={rows} seed={seed} catalogue_share={catalogue_share}"
    (out / "SYNTHETIC.txt").write_text(_NOTICE.format(arguments=arguments), encoding="utf-8")
    made = _make_stays(stays, np.random.default_rng([seed, 0]))
    for name, table in _stay_tables(made, np.random.default_rng([seed, 1])).items():
        _write(out / f"{name}.{format}", len(table), table.slice)
    # Rows are sorted by stay, and their number is proportional to the stay's length.
    shares = np.cumsum(made.ends - made.begins) / (made.ends - made.begins).sum()

    def of_stay(first: int, length: int, of: int) -> npt.NDArray[np.int64]:
        return np.searchsorted(shares, (np.arange(first, first + length) + 0.5) / of).astype(np.int64)

    def charts(first: int, length: int) -> pa.Table:
        rng = np.random.default_rng([seed, 2, first])
        return chart_rows(made, of_stay(first, length, rows), rng, is_first=first == 0, share=catalogue_share)

    def labs(first: int, length: int) -> pa.Table:
        rng = np.random.default_rng([seed, 3, first])
        return lab_rows(made, of_stay(first, length, rows // 10), first + 1, rng, is_first=first == 0)

    _write(out / f"icu/chartevents.{format}", rows, charts, wrote)
    _write(out / f"hosp/labevents.{format}", rows // 10, labs, wrote)


def _make_stays(number: int, rng: np.random.Generator) -> Stays:
    # A fifth of the stays belong to the previous stay's subject. One subject has fifteen stays, as in the demo.
    is_new = rng.random(number) < 0.8
    is_new[1:15] = False
    is_new[:1] = True
    is_new[15:16] = True
    person = np.cumsum(is_new) - 1
    ids = 10_000_000 + np.sort(rng.choice(9_999_999, person[-1] + 1, replace=False))
    ordinal = np.arange(number) - np.flatnonzero(is_new)[person]
    # Dates are shifted to the next two centuries. A subject's stays begin a hundred days apart, and do not overlap.
    born_again = rng.integers(51_200, 80_000, person[-1] + 1) * _DAY
    begins = born_again[person] + ordinal * 100 * _DAY + rng.integers(0, _DAY, number)
    days = np.clip(np.exp(rng.normal(np.log(2.1), 1.0, number)), 0.05, 60)
    return Stays(
        subject=ids[person],
        hadm=20_000_000 + rng.permutation(number),
        stay=30_000_000 + rng.permutation(number),
        begins=begins,
        ends=begins + (days * _DAY).astype(np.int64),
        is_open=(rng.random(number) < 0.005) | (np.arange(number) == 17),
        is_carevue=rng.random(number) < 0.45,
    )


def _stay_tables(stays: Stays, rng: np.random.Generator) -> dict[str, pa.Table]:
    number = len(stays.stay)
    intime, outtime = stays.begins.view("datetime64[s]"), stays.ends.view("datetime64[s]")
    died = rng.random(number) < 0.1
    subject, where = np.unique(stays.subject, return_index=True)
    people = len(subject)
    units = np.array(["Synthetic Medical ICU", "Synthetic Surgical ICU", "Synthetic Coronary Care Unit"], object)
    unit = units[rng.integers(0, 3, number)]
    nothing = pa.nulls(number, pa.string())
    icustays = pa.table(
        {
            "subject_id": stays.subject,
            "hadm_id": stays.hadm,
            "stay_id": stays.stay,
            "first_careunit": unit,
            "last_careunit": unit,
            "intime": intime,
            "outtime": pa.array(outtime, mask=stays.is_open),
            "los": pa.array(np.round((stays.ends - stays.begins) / _DAY, 4), mask=stays.is_open),
        }
    )
    patients = pa.table(
        {
            "subject_id": subject,
            "gender": np.array(["F", "M"], object)[rng.integers(0, 2, people)],
            "anchor_age": np.clip(rng.normal(66, 16, people), 18, 91).astype(np.int64),
            "anchor_year": stays.begins[where].view("datetime64[s]").astype("datetime64[Y]").astype(np.int64) + 1970,
            "anchor_year_group": pa.repeat("synthetic", people),
            "dod": pa.nulls(people, pa.date32()),
        }
    )
    admissions = pa.table(
        {
            "subject_id": stays.subject,
            "hadm_id": stays.hadm,
            "admittime": intime - np.timedelta64(7200, "s"),
            "dischtime": outtime + np.timedelta64(_DAY, "s"),
            "deathtime": pa.array(outtime, mask=~died),
            "admission_type": np.array(["EW EMER.", "URGENT", "ELECTIVE"], object)[rng.integers(0, 3, number)],
            "admit_provider_id": nothing,
            "admission_location": nothing,
            "discharge_location": nothing,
            "insurance": nothing,
            "language": nothing,
            "marital_status": nothing,
            "race": nothing,
            "edregtime": pa.nulls(number, pa.timestamp("s")),
            "edouttime": pa.nulls(number, pa.timestamp("s")),
            "hospital_expire_flag": died.astype(np.int64),
        }
    )
    return {"icu/icustays": icustays, "hosp/patients": patients, "hosp/admissions": admissions}


def _write(
    path: Path,
    rows: int,
    make: Callable[[int, int], pa.Table],
    wrote: Callable[[int], None] = lambda _rows: None,
) -> None:
    """Write the rows of `make(first, length)` in chunks. A table without rows also gets its header."""
    if path.suffix == ".parquet":
        first_rows = make(0, min(rows, _CHUNK_ROWS))
        with pa.parquet.ParquetWriter(path, first_rows.schema) as writer:
            writer.write_table(first_rows)
            wrote(len(first_rows))
            for first in range(_CHUNK_ROWS, rows, _CHUNK_ROWS):
                writer.write_table(some := make(first, min(_CHUNK_ROWS, rows - first)))
                wrote(len(some))
        return

    def text(first: int) -> bytes:
        sink = pa.BufferOutputStream()
        options = pa.csv.WriteOptions(include_header=first == 0)
        pa.csv.write_csv(make(first, min(_CHUNK_ROWS, rows - first)), sink, options)
        data = sink.getvalue().to_pybytes()
        # Each chunk is a separate gzip member, so that chunks are compressed in parallel. A gzip file may have several
        # members (RFC 1952, 2.2). mtime=0 leaves out the time, so that the same rows give the same bytes.
        return gzip.compress(data, compresslevel=1, mtime=0) if path.suffix == ".gz" else data

    with path.open("wb") as file:
        chunks = range(0, max(rows, 1), _CHUNK_ROWS)
        for first, data in zip(chunks, _in_parallel(text, chunks), strict=True):
            file.write(data)
            wrote(min(_CHUNK_ROWS, rows - first))


def _in_parallel(work: Callable[[int], bytes], arguments: Iterable[int]) -> Iterator[bytes]:
    """The results of `work` in order, computed in threads. Only a few results wait at once, so memory is bounded."""
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        for argument in arguments:
            waiting.append(pool.submit(work, argument))
            if len(waiting) > _THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
