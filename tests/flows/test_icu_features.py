"""The ICU feature flow: its features equal those of the pure steps, and a date is replaced whole or not at all."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
from prefect import flow, task
from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import get_client
from prefect.task_runners import ThreadPoolTaskRunner

from clinops_prefect import PipelineStore, StorageFormat
from flows.icu.acceptance import NotAcceptedError
from flows.icu_features import icu_features
from flows.running.artifacts import key
from flows.running.claim import DateClaimedError, claimed
from flows.running.progress import Progress, Step, following
from flows.sources.files import TableError
from flows.sources.mimic import read_cohort
from flows.synthetic.tables import generate
from tests.flows.expected import DATE, assert_adds_up, expected_features, snapshot, stored_features


def test_the_flow_gives_the_features_of_the_pure_steps_through_every_store(source: Path, reference: str) -> None:
    manifest = icu_features(str(source), reference, DATE, shards=3)
    store = PipelineStore.from_uri(reference)
    pd.testing.assert_frame_equal(stored_features(store), expected_features(source), check_exact=True)
    names = [
        "cohort",
        "outcomes",
        *(f"{kind}/shard-{shard:03d}" for kind in ("events", "features") for shard in range(3)),
    ]
    # Nothing else is stored, and every name can be downloaded.
    assert store.list_artifacts() == sorted(f"icu/{DATE}/{name}" for name in names)
    for name in store.list_artifacts():
        store.download(name)
    assert [artifact["name"] for artifact in manifest["artifacts"]] == store.list_artifacts()
    assert json.loads(store.read_bytes(f"icu/{DATE}/manifest.json")) == manifest
    quality = json.loads(store.read_bytes(f"icu/{DATE}/quality.json"))
    account = quality["tables"]["chartevents"]
    assert_adds_up(account)
    events = sum(a["rows"] for a in manifest["artifacts"] if "/events/" in a["name"])
    assert events == sum(table["kept"] for table in quality["tables"].values())
    assert quality["tables"]["chartevents"]["rows_in"] is not None
    page = store.read_bytes(f"icu/{DATE}/quality.html").decode()
    assert "<svg" in page
    # The page is one file that loads nothing else.
    assert not re.search("src=.http|<link|@import", page)


def test_the_number_of_shards_changes_no_feature(source: Path, tmp_path: Path) -> None:
    for shards in (1, 8):
        icu_features(str(source), str(tmp_path / str(shards)), DATE, shards=shards)
    one, eight = (stored_features(PipelineStore.from_uri(tmp_path / str(shards))) for shards in (1, 8))
    pd.testing.assert_frame_equal(one, eight, check_exact=True)


def test_a_rerun_replaces_its_date_and_only_that(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    generate(other, 12, seed=8)
    store = PipelineStore.from_uri(tmp_path / "store")
    icu_features(str(source), str(tmp_path / "store"), "2024-01-14", shards=4)
    icu_features(str(source), str(tmp_path / "store"), DATE, shards=4)
    before = {k: v for k, v in snapshot(tmp_path / "store").items() if "2024-01-14" in k}
    icu_features(str(other), str(tmp_path / "store"), DATE, shards=2)
    # The first run's shards are gone.
    assert len(store.list_artifacts(f"icu/{DATE}/features")) == 2
    pd.testing.assert_frame_equal(stored_features(store), expected_features(other), check_exact=True)
    assert {k: v for k, v in snapshot(tmp_path / "store").items() if "2024-01-14" in k} == before


def test_a_failed_rerun_leaves_the_date_as_it_was(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    icu_features(str(source), str(store), DATE, shards=2)
    before = snapshot(store / "icu" / DATE)
    broken = tmp_path / "broken"
    shutil.copytree(source, broken)
    table = broken / "icu/chartevents.csv.gz"
    table.write_bytes(table.read_bytes()[:-5_000])
    with pytest.raises(TableError, match=r"chartevents\.csv\.gz"):
        icu_features(str(broken), str(store), DATE, shards=2)
    assert snapshot(store / "icu" / DATE) == before
    # The next run that succeeds removes the leftovers of the failed one.
    icu_features(str(source), str(store), DATE, shards=2)
    assert not (store / "icu/_staging").exists()


# The command, which stops before it publishes anything: the kill does not come too late.
HALTING = """if True:
    import time
    from flows.running.partition import Partition
    Partition.withdraw = lambda *_: time.sleep(3600)
    from flows.icu_features import main
    main()
"""


def test_a_killed_run_continues_with_the_steps_that_were_not_finished(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    generate(source, 300, rows=300_000, seed=9)
    arguments = ["--source", str(source), "--store", str(store), "--date", DATE, "--shards", "12"]
    run = subprocess.Popen(
        [sys.executable, "-c", HALTING, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 1200
    # Wait until some steps are finished, well before all are.
    while not list((store / "icu").glob(f"_staging/{DATE}/*/notes/events-*")):
        assert run.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    # The killed run cannot stop the temporary server that it has started, so the test does.
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    assert not (store / "icu" / DATE).exists()
    icu_features(str(source), str(store), DATE, shards=12)
    assert "ingested by an earlier try of this run; kept" in caplog.text
    found = stored_features(PipelineStore.from_uri(store))
    pd.testing.assert_frame_equal(found, expected_features(source), check_exact=True)
    assert not (store / "icu/_staging").exists()


def test_a_csv_store_holds_the_same_features(source: Path, tmp_path: Path) -> None:
    from clinops_prefect import LocalPipelineStore

    store = LocalPipelineStore(str(tmp_path), format=StorageFormat.CSV)
    store.save("csv-store", overwrite=True, _sync=True)
    icu_features(str(source), "local-pipeline-store/csv-store", DATE, shards=2)
    pd.testing.assert_frame_equal(stored_features(store), expected_features(source), check_exact=True)


def test_the_run_shows_progress_quality_and_artifacts_and_no_identifier(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = icu_features(str(source), str(tmp_path), "2024-03-01", shards=2)["flow_run"]
    with get_client(sync_client=True) as client:
        # The server also has the artifacts of earlier tests.
        filter = {"artifacts": {"flow_run_id": {"any_": [run]}}}
        response = client.request("POST", "/artifacts/filter", json=filter)
    artifacts = {artifact["key"]: artifact for artifact in response.json()}
    # Three cards, each with its own timeline. Dates share the timelines, and stores do not.
    stores = [PipelineStore.from_uri(tmp_path / name) for name in (".", "b")]
    names = ("icu-progress", "icu-quality", "icu-artifacts")
    progress, *_ = keys = [key(name, stores[0]) for name in names]
    assert set(artifacts) == set(keys)
    assert not set(keys) & {key(name, stores[1]) for name in names}
    assert all(re.fullmatch(r"[a-z0-9-]+", key) and "2024" not in key for key in artifacts)
    assert artifacts[progress]["data"] == 100
    stays = read_cohort(source).stays
    shown = (
        json.dumps(artifacts)
        + caplog.text
        + json.dumps(json.loads((tmp_path / "icu/2024-03-01/manifest.json").read_text()))
    )
    identifiers = {str(number) for column in ("subject_id", "stay_id", "hadm_id") for number in stays[column].dropna()}
    assert not [number for number in identifiers if len(number) > 5 and number in shown]


def graph(run: str) -> dict[str, tuple[set[str], set[str]]]:
    """Each task of a run by name: the tasks that it came after, and the group in which the UI draws it."""
    with get_client(sync_client=True) as client:
        for _ in range(3000):
            nodes = dict(client.request("GET", f"/flow_runs/{run}/graph-v2").json()["nodes"])
            names = {id: node["label"] for id, node in nodes.items()}
            # Task runs reach the server with some delay.
            if "finish" in names.values() and all(node["state_type"] == "COMPLETED" for node in nodes.values()):
                break
            time.sleep(0.2)
    return {
        node["label"]: tuple({names[each["id"]] for each in node[kind]} for kind in ("parents", "encapsulating"))
        for node in nodes.values()
    }


def test_the_graph_of_a_run_is_complete_and_the_same_each_time(source: Path, tmp_path: Path) -> None:
    runs = [icu_features(str(source), str(tmp_path / name), DATE, shards=2)["flow_run"] for name in ("a", "b")]
    read = {"make-cohort", "ingest-chartevents", "ingest-labevents"}
    shards = ("shard-000", "shard-001")
    after: dict[str, set[str]] = {name: set() for name in read}
    after |= {f"preprocess-{shard}": read for shard in shards}
    after |= {f"features-{shard}": {f"preprocess-{shard}"} for shard in shards}
    after |= {f"publish-{name}": {"make-cohort"} for name in ("cohort", "outcomes")}
    after |= {f"publish-events/{shard}": {f"preprocess-{shard}"} for shard in shards}
    after |= {f"publish-features/{shard}": {f"features-{shard}"} for shard in shards}
    after |= {"write-quality": {f"features-{shard}" for shard in shards}}
    after |= {"finish": {"write-quality", *(name for name in after if name.startswith("publish-"))}}
    assert graph(runs[0]) == graph(runs[1]) == {name: (parents, set()) for name, parents in after.items()}


def test_progress_moves_by_the_rows_that_are_read(tmp_path: Path) -> None:
    target, going, read = PipelineStore.from_uri(tmp_path), threading.Event(), {"large": 0, "small": 0}

    def shown() -> dict[str, Any]:
        with get_client(sync_client=True) as client:
            filter = {"artifacts": {"key": {"any_": [key("rows", target)]}}}
            (artifact,) = client.request("POST", "/artifacts/filter", json=filter).json()
        return artifact

    @task
    def reading(name: str) -> None:
        assert name == "small" or going.wait(1200)

    @flow
    def reads() -> None:
        steps = [Step("large", 3000, 3000), Step("small", 1000, 1000)]
        with (
            ThreadPoolTaskRunner() as runner,
            following(key("rows", target), "rows", steps, lambda name: read[name]) as progress,
        ):
            futures = {step.name: runner.submit(reading, {"name": step.name}) for step in steps}
            threading.Thread(target=watch).start()
            progress.follow(futures)
            progress.end()

    seen = []

    def watch() -> None:
        try:
            for rows, share in ((0, 25), (1500, 62.5), (4000, 99.2)):  # the last one is more rows than expected
                read["large"] = rows
                deadline = time.monotonic() + 600
                while shown()["data"] != share and time.monotonic() < deadline:
                    time.sleep(0.2)
                seen.append(shown())
        finally:
            going.set()

    reads()
    assert [artifact["data"] for artifact in seen] == [25, 62.5, 99.2]
    assert re.search(r"2,500 of about 4,000 rows read, .* rows/s, about \d+ (s|min) left", seen[1]["description"])
    assert shown()["data"] == 100
    assert re.fullmatch(r"done in \d+ (s|min): about 4,000 rows read", shown()["description"])


def test_progress_names_the_current_step_after_the_rows_are_read(tmp_path: Path) -> None:
    target, going = PipelineStore.from_uri(tmp_path), threading.Event()
    said: list[str] = []

    @task
    def work(name: str) -> None:
        assert name != "last" or going.wait(1200)

    def watch() -> None:
        deadline = time.monotonic() + 600
        try:
            while not any("1 of 2" in text for text in said) and time.monotonic() < deadline:
                with get_client(sync_client=True) as client:
                    filter = {"artifacts": {"key": {"any_": [key("stored", target)]}}}
                    said.extend(
                        one["description"] for one in client.request("POST", "/artifacts/filter", json=filter).json()
                    )
                time.sleep(0.2)
        finally:
            going.set()

    @flow
    def stores() -> None:
        stored = [Step(name, 100, kind="artifacts stored") for name in ("first", "last")]
        steps = [Step("table", 3000, 3000), *stored]
        with ThreadPoolTaskRunner() as runner, following(key("stored", target), "stored", steps) as progress:
            progress.follow({"table": runner.submit(work, {"name": "table"})})
            threading.Thread(target=watch).start()
            progress.follow({step.name: runner.submit(work, {"name": step.name}) for step in stored})
            progress.end()

    stores()
    assert re.search(r"1 of 2 artifacts stored, [\d.]+ (a minute|an hour), about \d+ (s|min) left", "\n".join(said))


def test_the_line_on_a_terminal_changes_with_each_task_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The store is looked at so rarely that it does not happen in this run, as in a run of a few seconds.
    monkeypatch.setattr("flows.running.progress._LOOK_EVERY_SECONDS", 3600.0)
    shares: list[float] = []

    @task
    def work(name: str) -> None:
        deadline = time.monotonic() + 600
        while name == "last" and 0.5 not in shares and time.monotonic() < deadline:
            time.sleep(0.05)

    @flow
    def works() -> None:
        steps = [Step("first", 1), Step("second", 1), Step("last", 2)]
        artifact = create_progress_artifact(0.0, key="line")
        assert isinstance(artifact, UUID)
        progress = Progress(artifact, steps, lambda _: 0, lambda share, _text: shares.append(share))
        with ThreadPoolTaskRunner() as runner:
            progress.follow({step.name: runner.submit(work, {"name": step.name}) for step in steps})

    works()
    assert shares == [0.25, 0.5, 1.0]


def test_a_bad_result_does_not_replace_a_good_date(source: Path, tmp_path: Path) -> None:
    store = PipelineStore.from_uri(tmp_path / "store")
    icu_features(str(source), str(tmp_path / "store"), DATE, shards=2)
    good = snapshot(tmp_path / "store")
    empty = tmp_path / "empty"
    shutil.copytree(source, empty)
    (chart,) = (empty / "icu").glob("chartevents*")
    with gzip.open(chart, "rt") as file:
        header = file.readline()
    with gzip.open(chart, "wt") as file:
        file.write(header)
    with pytest.raises(NotAcceptedError, match=r"not published: chartevents had rows, and has none now; heart_rate"):
        icu_features(str(empty), str(tmp_path / "store"), DATE, shards=2)
    kept = snapshot(tmp_path / "store")
    assert {name: data for name, data in kept.items() if "_staging" not in name} == good
    manifest = icu_features(str(empty), str(tmp_path / "store"), DATE, shards=2, accept_empty=True)
    assert manifest["summary"]["tables"]["chartevents"] == 0
    assert set(stored_features(store)["heart_rate_count"]) == {0}


def test_a_second_run_of_a_date_is_refused_at_once(source: Path, tmp_path: Path) -> None:
    store = PipelineStore.from_uri(tmp_path / "store")
    with (
        claimed(store, DATE, "another run", print),
        pytest.raises(DateClaimedError, match="flow run another run began"),
    ):
        icu_features(str(source), str(tmp_path / "store"), DATE)
    assert store.list_artifacts() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--date": "15.1.2024"}, "date"),
        ({"--source": "nowhere"}, "there is no folder nowhere"),
        ({"--window-hours": "5"}, "not a multiple"),
        ({"--shards": "0"}, "shards must be 1 or more"),
        ({"--store": "ftp://host/path"}, "no store for ftp://"),
        ({"--catalogue": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_a_command_that_fails_says_why_and_writes_nothing(
    change: dict[str, str], message: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.icu_features import main

    arguments = {"--source": str(source), "--store": str(tmp_path / "store"), "--date": DATE} | change
    monkeypatch.setattr(sys, "argv", ["icu_features", *(word for pair in arguments.items() for word in pair)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert message in str(stopped.value)
    assert not (tmp_path / "store").exists()


def test_the_command_line_says_where_the_results_are(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.icu_features import main

    monkeypatch.setattr(
        sys, "argv", ["icu_features", "--source", str(source), "--store", str(tmp_path), "--date", DATE]
    )
    main()
    said = capsys.readouterr().out
    page = next(line.strip() for line in said.splitlines() if line.strip().endswith("quality.html"))
    assert Path(page.removeprefix("file://")).read_text().startswith("<!doctype html")
    assert f'store.list_artifacts("icu/{DATE}")' in said
    from clinops_prefect import LocalPipelineStore

    assert f'store.dataset("icu/{DATE}/features").download()' in said
    features = LocalPipelineStore(str(tmp_path)).dataset(f"icu/{DATE}/features")
    assert len(features) > 1
    assert len(features.download()) == features.rows
