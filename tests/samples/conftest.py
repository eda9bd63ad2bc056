"""One Prefect server and one emulator of each cloud for all pages; each page finds them empty."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clinops_prefect.testing.step_functions_emulator import Emulator, emulator
from tests.doors import AzureDoor, GCSDoor, S3Door
from tests.prefect.server import PrefectServer, prefect_server
from tests.samples.pages import ROOT, pages

BUCKET = "my-clinical-bucket"  # on Azure the container of this name
ECHO = "def handler(event, context):\n    return event\n"
PROFILE = "clinical-prod"
# Beside those that a page names by their whole ARN.
FUNCTIONS = {"clinops-ingest", "clinops-preprocess", "clinops-features"}


@dataclass
class Surroundings:
    """What a reader has around a page: clouds, a Prefect server, a home folder, and nothing in them."""

    environment: dict[str, str]
    server: PrefectServer
    doors: tuple[S3Door, GCSDoor, AzureDoor]

    def empty(self) -> None:
        """Forget what the page before stored."""
        for door in self.doors:
            for key in door.keys():
                door.delete(key)
        for block in self.server.post("block_documents/filter", include_secrets=False):
            self.server.ask("DELETE", f"block_documents/{block['id']}").raise_for_status()


@pytest.fixture(scope="session")
def aws() -> Iterator[Emulator]:
    """Step Functions, Lambda and S3, with every function that a page names; each returns its event."""
    with emulator() as running:
        sources = [*pages(), *(ROOT / "clinops_prefect").rglob("*.py")]
        named = {name for path in sources for name in re.findall(r"function:([\w-]+)", path.read_text())}
        for name in sorted(named | FUNCTIONS):
            running.function(name, ECHO)
        yield running


@pytest.fixture(scope="session")
def surroundings(
    aws: Emulator, gcs_endpoint: str, azure_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Surroundings]:
    home = tmp_path_factory.mktemp("home")
    profile = f"aws_access_key_id = testing\naws_secret_access_key = testing\nregion = {aws.region}\n"
    (home / ".aws").mkdir()
    (home / ".aws/credentials").write_text(f"[{PROFILE}]\n{profile}")
    azure = AzureDoor(azure_endpoint, BUCKET)
    with prefect_server(tmp_path_factory.mktemp("prefect")) as server:
        environment = {
            **{name: value for name, value in server.environment.items() if not name.startswith("AZURE_")},
            **aws.environment,
            **azure.environment(),
            "STORAGE_EMULATOR_HOST": gcs_endpoint,
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        yield Surroundings(environment, server, (S3Door(aws.url, BUCKET), GCSDoor(gcs_endpoint, BUCKET), azure))


@pytest.fixture
def run_page(surroundings: Surroundings, tmp_path: Path) -> Iterator["RunPage"]:
    surroundings.empty()
    yield RunPage(surroundings, tmp_path)
    shutil.rmtree(tmp_path, ignore_errors=True)


@dataclass
class RunPage:
    surroundings: Surroundings
    folder: Path

    def __call__(self, steps: str) -> None:
        work = self.folder / "work"
        work.mkdir()
        done = subprocess.run(
            [sys.executable, str(Path(__file__).parent / "run_page.py")],
            input=steps,
            cwd=work,
            env=self.surroundings.environment | {"SAMPLES_STATE": str(self.folder / "state")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout[-12_000:]
