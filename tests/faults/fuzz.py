"""A coverage-guided fuzzer for the decoders: an edited valid file is read as the equal frame, or is an error of ours.

python -m tests.faults.fuzz TARGET [libFuzzer's options]

The targets are `parquet`, `csv` and `result`. An input is a list of edits of a valid file, so that most inputs pass
the first checks. A finding is an uncaught exception or a process that dies.
"""

import hashlib
import io
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["clinops_prefect"]):
    import pandas as pd

    from clinops_prefect import ClinopsPrefectError, DataFrameSerializer, LocalPipelineStore
    from clinops_prefect.results.guard import check_result

FRAME = pd.DataFrame({
    "id": pd.array([1, None, 3], dtype="Int64"), "code": ["007", None, "ä"], "v": [0.5, float("nan"), 2.0],
    "when": pd.date_range("2024-01-01", periods=3, tz="Europe/Berlin"), "unit": pd.Categorical(["a", "b", "a"]),
}, index=pd.Index([5, 6, 7], name="row"))  # fmt: skip
SIMPLE = FRAME.drop(columns=["when", "unit"])


def edited(source: atheris.FuzzedDataProvider, data: bytes) -> bytes:
    """The data, with a few bytes and a few ranges replaced by the fuzzer's."""
    changed = bytearray(data)
    for _ in range(source.ConsumeIntInRange(0, 4)):
        # Half of the positions count from the end, because the footer is there.
        place = source.ConsumeIntInRange(0, len(changed))
        place = len(changed) - place if source.ConsumeBool() else place
        cut = source.ConsumeIntInRange(0, 6)
        changed[place : place + cut] = source.ConsumeBytes(source.ConsumeIntInRange(0, 8))
    return bytes(changed)


def read(store: LocalPipelineStore, name: str, equal_to: pd.DataFrame | None) -> None:
    """Read in every way. If `frame` is given, every result must equal it."""
    for ask in (store.download, lambda n: pd.concat(store.iter_batches(n)), store.stat):
        try:
            found = ask(name)
        except ClinopsPrefectError:
            continue
        if equal_to is not None and isinstance(found, pd.DataFrame):
            pd.testing.assert_frame_equal(found, equal_to)


def parquet(folder: Path) -> Callable[[bytes], None]:
    store = LocalPipelineStore(str(folder))
    store.upload(FRAME, "x")
    checksummed = (folder / "x.parquet").read_bytes()
    sink = io.BytesIO()
    FRAME.to_parquet(sink)
    foreign = sink.getvalue()

    def target(data: bytes) -> None:
        source = atheris.FuzzedDataProvider(data)
        is_ours = source.ConsumeBool()
        (folder / "x.parquet").write_bytes(edited(source, checksummed if is_ours else foreign))
        # Another program's file has no checksum, so an edit may give another frame.
        read(store, "x", FRAME if is_ours else None)

    return target


def csv(folder: Path) -> Callable[[bytes], None]:
    store = LocalPipelineStore(str(folder), format="csv")
    store.upload(SIMPLE, "x")
    text = (folder / "x.csv").read_bytes()
    (path,) = folder.glob("x.csv.*.schema.json")
    schema = path.read_bytes()
    path.unlink()

    def target(data: bytes) -> None:
        source = atheris.FuzzedDataProvider(data)
        of_text = source.ConsumeBool()
        changed = edited(source, text) if of_text else text
        # Stored as another program would store it. Otherwise every input would fail at the missing checksum.
        (folder / "y.csv").write_bytes(changed)
        path = folder / f"y.csv.{hashlib.sha256(changed).hexdigest()[:16]}.schema.json"
        path.write_bytes(schema if of_text else edited(source, schema))
        try:
            # A sidecar has a checksum of its own.
            read(store, "y", None if of_text else SIMPLE)
        finally:
            path.unlink()

    return target


def result(_: Path) -> Callable[[bytes], None]:
    serializer = DataFrameSerializer()
    seeds = [serializer.dumps(value) for value in (FRAME, {"a": [FRAME, 1, {2}], 3: "x"}, [b"x", pd.Timestamp(0)])]
    seeds.append(b'{"metadata": {"storage_key": "k", "serializer": {"type": "json"}}, "result": "{\\"a\\": 1}"}')

    def target(data: bytes) -> None:
        source = atheris.FuzzedDataProvider(data)
        blob = edited(source, source.PickValueInList(seeds))
        for ask in (lambda: check_result(blob, "uri"), lambda: serializer.loads(blob)):
            try:
                ask()
            except ClinopsPrefectError:
                continue

    return target


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    made = {"parquet": parquet, "csv": csv, "result": result}[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as folder:
        atheris.Setup(sys.argv, made(Path(folder)))
        atheris.Fuzz()
