"""The guides, run as they are written: all Python of a page as one program, its shell commands before it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.doors import GCSDoor, S3Door
from tests.prefect.server import PrefectServer

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = [DOCS / f"how-to/{name}.md" for name in ("flows", "plain-python", "ui")]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> str:
    """The code of a language, every line at the number that it has on the page."""
    lines = [""] * page.count("\n")
    for block in BLOCK.finditer(page):
        if block[1] == language:
            first = page[: block.start(2)].count("\n")
            code = block[2].splitlines()
            lines[first : first + len(code)] = code
    return "\n".join(lines)


@pytest.fixture(scope="module")
def clouds(s3_endpoint: str, gcs_endpoint: str) -> dict[str, str]:
    """An environment where both clouds have the bucket that the guides name."""
    for door in (S3Door(s3_endpoint, "my-clinical-bucket"), GCSDoor(gcs_endpoint, "my-clinical-bucket")):
        assert door.keys() == []
    return {"AWS_ENDPOINT_URL": s3_endpoint, "STORAGE_EMULATOR_HOST": gcs_endpoint}


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_every_example_runs(guide: Path, server: PrefectServer, clouds: dict[str, str], tmp_path: Path) -> None:
    page = guide.read_text()
    bin = Path(sys.executable).parent
    environment = server.environment | clouds | {"PYTHONPATH": str(DOCS.parent), "PATH": f"{bin}:{os.environ['PATH']}"}
    program = tmp_path / f"{guide.stem}_{uuid4().hex[:6]}.py"
    program.write_text(blocks(page, "python"))
    for command in (["bash", "-euc", blocks(page, "bash")], [sys.executable, str(program)]):
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_guides_have_no_code_that_is_not_run() -> None:
    assert len(GUIDES) == 3
    for guide in GUIDES:
        page = guide.read_text()
        assert {block[1] for block in BLOCK.finditer(page)} <= {"python", "bash"}
        assert page.count("```") == 2 * len(BLOCK.findall(page))
