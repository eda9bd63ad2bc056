"""The deployments on a real server: all are made, and a worker runs a triggered one and a scheduled one. The
deployments for clouds are rendered into the job that their pool's worker would start."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.schema_tools import validate
from prefect.workers.base import BaseWorker

from clinops_prefect import PipelineStore
from flows.synthetic.tables import generate
from tests.e2e.conftest import ROOT
from tests.emulators import free_port
from tests.flows.expected import expected_features, stored_features
from tests.prefect.server import ask

YAML = ROOT / "deployments/prefect.yaml"
CLOUDS = ["docker", "ecs", "cloud-run", "kubernetes"]
SCHEDULED = {"icu-features", "icu-quality-report"}
FLOWS = {*SCHEDULED, "icu-backfill", "icu-features-on-step-functions"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server with its scheduler, as `prefect server start` runs it, with all deployments."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    environment = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("PREFECT_SERVER_DATABASE_CONNECTION_URL", None)
    server = start(environment, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    try:
        deadline = time.monotonic() + 600
        while not _answers(environment):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        run(environment, "deployments/prepare.py")
        run(environment, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(YAML))
        yield environment
    finally:
        server.terminate()
        try:
            server.wait(120)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    log = (Path(environment["PREFECT_HOME"]) / f"{arguments[2]}.log").open("wb")
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log)


def run(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _answers(environment: dict[str, str]) -> bool:
    try:
        return httpx.get(f"{environment['PREFECT_API_URL']}/health").is_success
    except httpx.TransportError:
        return False


def api(environment: dict[str, str], method: str, path: str, body: Any = None) -> Any:
    response = ask(environment["PREFECT_API_URL"], method, path, body).raise_for_status()
    return response.json() if response.content else None


def deployment(environment: dict[str, str], flow: str, name: str) -> dict[str, Any]:
    return api(environment, "GET", f"deployments/name/{flow}/{flow}-{name}")


def test_every_deployment_is_made_and_only_local_ones_start_by_themselves(environment: dict[str, str]) -> None:
    made = api(environment, "POST", "deployments/filter", {"limit": 200})
    assert len(made) == len(yaml.safe_load(YAML.read_text())["deployments"]) == len(FLOWS) * (1 + len(CLOUDS))
    for name in ("local", *CLOUDS):
        for flow in FLOWS:
            found = deployment(environment, flow, name)
            assert found["work_pool_name"] == f"clinops-{name}"
            assert found["global_concurrency_limit"]["limit"] in (1, 3)
            assert any(schedule["active"] for schedule in found["schedules"]) == (name == "local" and flow in SCHEDULED)


@pytest.fixture
def google_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The credentials that a Cloud Run worker finds where it runs: an account that does not exist."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    account = {
        "type": "service_account",
        "project_id": "my-project",
        "private_key": key.private_bytes(*form).decode(),
        "client_email": "clinops-worker@my-project.iam.gserviceaccount.com",
        "token_uri": "https://127.0.0.1:9/token",
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))


def test_preparing_again_changes_nothing(environment: dict[str, str]) -> None:
    before = api(environment, "POST", "work_pools/filter", {}), api(environment, "POST", "variables/filter", {})
    run(environment, "deployments/prepare.py")
    assert (
        api(environment, "POST", "work_pools/filter", {}),
        api(environment, "POST", "variables/filter", {}),
    ) == before
    assert len(before[0]) == 1 + len(CLOUDS)


@pytest.mark.usefixtures("google_account")
@pytest.mark.parametrize("flow", sorted(FLOWS))
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_cloud_deployment_renders_into_a_job(cloud: str, flow: str, environment: dict[str, str]) -> None:
    found = deployment(environment, flow, cloud)
    pool = api(environment, "GET", f"work_pools/clinops-{cloud}")
    worker = BaseWorker.get_worker_class_from_type(pool["type"])
    assert worker is not None
    assert pool["base_job_template"] == worker.get_default_base_job_template()
    variables = found["job_variables"]
    schema = pool["base_job_template"]["variables"]
    assert not variables.keys() - schema["properties"].keys() - {"env"}
    validate(variables, schema, raise_on_error=True, preprocess=False)
    # No placeholder is left, and every job has the same image.
    assert "{{" not in json.dumps([variables, found["parameters"]])
    assert variables["image"] == "registry.example.com/clinops-prefect:0.1.0"
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}):
        job = asyncio.run(worker.job_configuration.from_template_and_values(pool["base_job_template"], variables))
    flow_run = FlowRun.model_validate({"flow_id": found["flow_id"], "name": "a-run", "parameters": {}})
    job.prepare_for_flow_run(flow_run)
    rendered = job.model_dump_json()
    assert variables["image"] in rendered
    assert "flow-run execute" in rendered or '"flow-run","execute"' in rendered.replace(" ", "")
    assert found["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": "/opt/clinops"}}]


def test_a_worker_completes_a_triggered_run_and_a_scheduled_one(environment: dict[str, str], tmp_path: Path) -> None:
    generate(tmp_path / "source", 40, seed=7)
    expected = expected_features(tmp_path / "source")
    parameters = {"source": str(tmp_path / "source"), "store": str(tmp_path / "store"), "shards": 2}
    local = deployment(environment, "icu-features", "local")
    worker = start(environment, "-m", "prefect", "worker", "start", "--pool", "clinops-local", "--name", "test")
    try:
        body = {"parameters": parameters | {"date": "2024-01-15"}, "state": {"type": "SCHEDULED"}}
        triggered = api(environment, "POST", f"deployments/{local['id']}/create_flow_run", body)
        finished(environment, {"id": {"any_": [triggered["id"]]}})
        found = stored_features(PipelineStore.from_uri(tmp_path / "store"), "2024-01-15")
        assert found.equals(expected)
        # The nightly schedule is changed to every twenty seconds. The server's scheduler makes the runs.
        nightly = f"deployments/{local['id']}/schedules/{local['schedules'][0]['id']}"
        api(environment, "PATCH", nightly, {"schedule": {"interval": 20}, "parameters": parameters})
        run = finished(environment, {"tags": {"all_": ["auto-scheduled"]}})
        # If no date is given, a run computes the date for which it was scheduled.
        day = run["expected_start_time"][:10]
        assert run["name"] == f"icu-features-{day}"
        assert stored_features(PipelineStore.from_uri(tmp_path / "store"), day).equals(expected)
    finally:
        # A worker that is asked to end waits for its runs, and the schedule has made more runs.
        for process in [*psutil.Process(worker.pid).children(recursive=True), worker]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        worker.wait()


def finished(environment: dict[str, str], which: dict[str, Any]) -> dict[str, Any]:
    """Wait for the first completed flow run that matches."""
    deadline = time.monotonic() + 1200
    flow = {"flows": {"name": {"any_": ["icu-features"]}}, "flow_runs": which}
    while time.monotonic() < deadline:
        for found in api(environment, "POST", "flow_runs/filter", flow):
            assert found["state_type"] not in ("FAILED", "CRASHED", "CANCELLED"), found["state"]["message"]
            if found["state_type"] == "COMPLETED":
                return found
        time.sleep(0.5)
    raise AssertionError("no run has completed in twenty minutes")
