"""On a real Prefect server, no canary is in the database, the logs, the artifacts and assets, or a report's page.

One source has a canary wherever a hospital's table may have a name, and the flows fail on it in every way.
"""

import asyncio
import datetime as dt
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pytest
from prefect import flow, task
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect_aws import AwsCredentials

from clinops_prefect import DataFrameSerializer, PipelineStore, S3PipelineStore
from clinops_prefect.tasks import download_artifact, upload_artifact
from flows.backfill import backfill
from flows.icu_features import icu_features
from flows.quality_report import quality_report
from flows.sources.tables import read_frame
from flows.synthetic.tables import generate
from tests.faults.canaries import ALL, CELL, NUMBER, PATIENT, SECRET, SUBJECT, Watch, watching
from tests.fhir_source import to_fhir
from tests.prefect.server import PrefectServer, prefect_server

GOOD = pd.DataFrame({"subject": [PATIENT, "b"], "note": [CELL, None], "id": [SUBJECT, 2], "v": [NUMBER, 1.0]})
MIXED = pd.DataFrame({"a": [PATIENT, SUBJECT, NUMBER]})
TWICE = pd.DataFrame([[PATIENT, CELL]], columns=["a", "a"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as running:
        yield running


def everything_sent() -> None:
    """Wait until this process has sent everything to the server."""

    async def drain() -> None:
        for waiting in (APILogWorker.instance().drain(), EventsWorker.drain_all()):
            if asyncio.iscoroutine(waiting):
                await waiting

    asyncio.run(drain())


def database(server: PrefectServer) -> bytes:
    return b"".join(path.read_bytes() for path in server.home.glob("prefect.db*"))


def edited(source: Path, **changes: Callable[[pd.DataFrame], None]) -> Path:
    """A copy of the source with some tables changed. `icu__chartevents` means icu/chartevents."""
    for name, change in changes.items():
        folder, table = name.split("__")
        (path,) = (source / folder).glob(f"{table}.*")
        frame = pd.read_csv(path, dtype=str)
        change(frame)
        path.unlink()
        frame.to_csv(source / folder / f"{table}.csv", index=False)
    return source


def put(**cells: str) -> Callable[[pd.DataFrame], None]:
    """Put each of these values into a few rows of the columns."""

    def change(frame: pd.DataFrame) -> None:
        for number, (column, value) in enumerate(cells.items()):
            frame.loc[frame.index[number * 5 : number * 5 + 3], column] = value

    return change


def a_patient_of_ours(frame: pd.DataFrame) -> None:
    """Give one patient the number that is searched for."""
    frame.loc[frame["subject_id"] == sorted(set(frame["subject_id"]))[0], "subject_id"] = str(SUBJECT)


def renamed(source: Path) -> Path:
    first = sorted(set(read_frame(source, "icu/icustays")["subject_id"].astype(str)))[0]
    for path in source.rglob("*.*"):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            text = file.read()
        with opened(path, "wt", encoding="utf-8", newline="") as file:
            file.write(text.replace(f"{first},", f"{SUBJECT},"))
    return source


def failing_moves(store: str, csv: str, spoiled: str) -> dict[str, Callable[[], Any]]:
    return {
        "mixed types": lambda: upload_artifact(store, MIXED, "x"),
        "duplicate columns": lambda: upload_artifact(csv, TWICE, "x"),
        "another column": lambda: download_artifact(store, "good", columns=["subjekt"]),
        "a filter of another type": lambda: download_artifact(store, "good", filters=[("id", "==", PATIENT)]),
        "a cast of a cell": lambda: download_artifact(csv, "good", filters=pc.field("note").cast("int32") == 1),
        "a damaged text": lambda: download_artifact(csv, spoiled),
        "a damaged table": lambda: download_artifact(store, spoiled),
        "there already": lambda: upload_artifact(store, GOOD, "good", overwrite=False),
    }


def moves(folder: Path) -> list[Any]:
    """Uploads, downloads and results, some of which fail, each in a run of its own."""
    folder.mkdir()
    store, csv = PipelineStore.from_uri(folder), PipelineStore.from_uri(folder, format="csv")
    for kind, opened in (("local", store), ("local-csv", csv)):
        opened.save(kind, overwrite=True, _sync=True)
    store.save("results", overwrite=True, _sync=True)
    secret = AwsCredentials(aws_access_key_id="a", aws_secret_access_key=SECRET)
    S3PipelineStore("b", credentials=secret, endpoint_url="http://127.0.0.1:9").save("s3", overwrite=True, _sync=True)
    (folder / "bad.csv").write_text(f'a,b\n"{PATIENT}\n{CELL},1,2\n')
    (folder / "bad.parquet").write_text(f"PAR1{PATIENT}{CELL}")
    results = "local-pipeline-store/results"

    @task(result_storage=results, result_serializer=DataFrameSerializer(), persist_result=True)
    def kept(df: pd.DataFrame) -> pd.DataFrame:
        return df

    @task(result_storage=results, result_serializer=DataFrameSerializer(), persist_result=True)
    def unstorable() -> Any:
        return MIXED

    @task(result_storage=results, persist_result=True)
    def pickled(df: pd.DataFrame) -> pd.DataFrame:
        return df

    @flow(result_storage=results, result_serializer=DataFrameSerializer(), persist_result=True)
    def good() -> pd.DataFrame:
        upload_artifact("local-pipeline-store/local", GOOD, "good", metadata={"who": "nobody"})
        upload_artifact("local-pipeline-store/local-csv", GOOD, "good")
        download_artifact("local-pipeline-store/local", "good", filters=[("subject", "==", PATIENT)])
        return kept(download_artifact("local-pipeline-store/local-csv", "good"))

    @flow
    def bad() -> dict[str, Any]:
        calls = failing_moves("local-pipeline-store/local", "local-pipeline-store/local-csv", "bad")
        states: dict[str, Any] = {}
        for what, call in {**calls, "unstorable": unstorable, "pickled": lambda: pickled(GOOD)}.items():
            try:
                states[what] = call() is None
            except Exception as error:
                states[what] = error
        raised = [what for what, state in states.items() if isinstance(state, Exception)]
        assert len(raised) >= 8, raised
        raise next(state for state in states.values() if isinstance(state, Exception))

    states = [good(return_state=True), bad(return_state=True)]
    assert [state.is_completed() for state in states] == [True, False]
    return states


def icu(folder: Path) -> list[Any]:
    """The example flows on sources with canaries in their cells, some of which cannot be read."""
    messy = folder / "messy"
    generate(messy, 40, seed=7)
    renamed(messy)
    edited(messy, icu__chartevents=put(valueuom=CELL, value=PATIENT))
    fhir = folder / "fhir"
    to_fhir(messy, fhir, encounters=True)
    with (fhir / "Observation.001.ndjson").open("a") as file:
        for bad in (
            {"status": CELL}, {"effectiveDateTime": PATIENT}, {"valueQuantity": {"value": PATIENT, "unit": CELL}},
            {"subject": {"reference": f"Patient/{PATIENT}"}}, {"code": {"coding": [{"code": CELL}], "text": PATIENT}},
            {"valueString": CELL, "encounter": {"reference": PATIENT}},
        ):  # fmt: skip
            file.write(json.dumps({"resourceType": "Observation", "status": "final", **bad}) + "\n")
    broken = {
        "number": {"icu__chartevents": put(stay_id=PATIENT)}, "item": {"icu__chartevents": put(itemid=CELL)},
        "time": {"icu__icustays": put(intime=PATIENT)}, "stay": {"icu__icustays": put(stay_id=CELL)},
        "value": {"icu__chartevents": put(valuenum=CELL)}, "birth": {"hosp__patients": put(anchor_age=CELL)},
    }  # fmt: skip
    store, day, states = str(folder / "store"), dt.date(2024, 1, 1), []
    options = {"shards": 1, "return_state": True}
    states.append(icu_features(str(messy), store, day, **options))
    states.append(icu_features(str(fhir), store, day + dt.timedelta(1), **options))
    for number, (what, changes) in enumerate(broken.items()):
        source = folder / what
        generate(source, 12, seed=number)
        states.append(icu_features(str(edited(source, **changes)), store, day + dt.timedelta(9 + number), **options))
    states.append(quality_report(store, day, day + dt.timedelta(1), max_psi=1e-9, return_state=True))
    lines = fhir / "Observation.001.ndjson"
    lines.write_text(lines.read_text() + f'{{"resourceType": "{CELL}", "id": "{PATIENT}"\n')
    days = [day + dt.timedelta(20), day + dt.timedelta(21)]
    states.append(backfill(str(fhir), store, days, shards=1, return_state=True))
    states.append(backfill(str(messy), store, days[:1], shards=1, return_state=True))
    finished = [state.is_completed() for state in states]
    assert finished[:2] == [True, True], states[:2]
    assert finished.count(False) >= 5, finished
    assert finished[-1]
    return states


@pytest.mark.parametrize("does", [moves, icu])
def test_neither_the_server_nor_a_log_has_a_canary(
    does: Callable[[Path], list[Any]], server: PrefectServer, tmp_path: Path
) -> None:
    with watching() as watch:
        states = does(tmp_path / "work") if does is moves else does(tmp_path)
        for state in states:
            error = state.result(raise_on_failure=False) if not state.is_completed() else None
            if isinstance(error, BaseException):
                watch.error(error)
        everything_sent()
    assert not watch.found()
    runs = [str(state.state_details.flow_run_id) for state in states]
    for number, page in enumerate(_answers(server)):
        for canary in ALL:
            assert canary not in page, (number, canary, page[max(0, page.find(canary) - 300) :][:600])
    found = database(server)
    # This search would find a canary in the database if there were one.
    assert all(run.encode() in found or run.replace("-", "").encode() in found for run in runs)
    for canary in ALL:
        position = found.find(canary.encode())
        assert position < 0, (canary, found[max(0, position - 300) : position + 100])
    if does is icu:
        pages = [path for path in (tmp_path / "store").rglob("*") if path.suffix in (".html", ".json", ".md")]
        assert {path.name for path in pages} >= {"quality.html", "manifest.json", "2024-01-01.html"}
        for path in pages:
            text = path.read_text(errors="replace")
            assert not [canary for canary in ALL if canary in text], path


def _answers(server: PrefectServer) -> Iterator[str]:
    """Everything that the API returns: runs, their names and states, logs, artifacts, events and assets."""
    for path in ("flow_runs/filter", "task_runs/filter", "artifacts/filter", "logs/filter", "block_documents/filter"):
        offset = 0
        while answer := server.post(path, limit=200, offset=offset):
            yield json.dumps(answer, ensure_ascii=False)
            offset += len(answer)
    yield json.dumps(server.post("events/filter", limit=50), ensure_ascii=False)


def test_the_search_finds_a_canary_that_is_there() -> None:
    """A canary that is there is found, so the other test can fail."""
    with watching() as watch:
        import logging

        logging.getLogger("clinops_prefect.stores").debug("the cell is %s", CELL)
        try:
            try:
                raise ValueError(PATIENT)
            except ValueError:
                raise KeyError("another") from None  # a traceback leaves the context out, an error tracker may not
        except KeyError as error:
            watch.error(error)
    assert set(watch.found()) == {CELL, PATIENT}
    assert isinstance(watch, Watch)
