"""The permissions and the plan in the deployments' folder agree with the code."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from deployments import plan, prepare
from deployments.prepare import POOLS, chosen

ROOT = Path(__file__).parents[2]
PERMISSIONS = ROOT / "deployments/permissions"


def allowed(name: str) -> set[str]:
    statements = json.loads((PERMISSIONS / name).read_text())["Statement"]
    return {action for statement in statements for action in statement["Action"]}


def called(client: str, *modules: str) -> set[str]:
    """The operations that modules call on a boto3 client with this name, as AWS spells them."""
    code = "".join(path.read_text() for module in modules for path in sorted((ROOT / module).rglob("*.py")))
    names = re.findall(rf"\b{client}\.([a-z_]+)\(", code)
    return {"".join(word.capitalize() for word in name.split("_")) for name in names}


def test_the_policy_for_running_a_state_machine_has_exactly_the_calls_of_the_pipeline() -> None:
    # In these modules a client is AWS's or Prefect's. Prefect's has none of these operations.
    prefects = {"CreateArtifact", "ReadArtifacts", "ReadFlowRun", "ReadFlowRuns", "ReadTaskRun", "UpdateArtifact"}
    wanted = {f"states:{name}" for name in called("client", "clinops_prefect/step_functions") - prefects}
    assert allowed("aws-step-functions.json") == wanted | {"iam:PassRole"}


@pytest.mark.parametrize("path", sorted(PERMISSIONS.glob("*.json")), ids=lambda path: path.stem)
def test_no_policy_has_a_wildcard_action_and_few_resources_are_open(path: Path) -> None:
    for statement in json.loads(path.read_text())["Statement"]:
        assert not [action for action in statement["Action"] if "*" in action]
        if statement["Resource"] == "*":
            # AWS supports no narrower resource for these actions.
            assert re.match(
                "ecr:GetAuthorizationToken|ec2:Describe|ecs:.*TaskDefinition|states:Validate|logs:CreateLogDelivery|xray:Put",
                statement["Action"][0],
            )


@pytest.mark.parametrize("path", sorted(PERMISSIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_role_has_a_wildcard(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        rules = document.get("rules", [{"verbs": document.get("includedPermissions", [])}])
        assert not [word for rule in rules for words in rule.values() for word in words if "*" in word]


def test_the_readme_has_the_computed_plan(capsys: pytest.CaptureFixture[str]) -> None:
    plan.main()
    readme = (ROOT / "deployments/README.md").read_text()
    for line in capsys.readouterr().out.splitlines():
        assert line in readme


def test_you_choose_which_pools_are_made() -> None:
    assert chosen("") == list(POOLS)
    assert chosen("local, clinops-ecs") == ["clinops-local", "clinops-ecs"]
    with pytest.raises(SystemExit, match="no pool fargate; choose of local, docker"):
        chosen("local fargate")


def test_pressing_enter_makes_only_the_local_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    made: list[list[str]] = []

    async def noted(_client: object, pools: list[str]) -> None:
        made.append(pools)

    monkeypatch.setattr("sys.argv", ["prepare.py"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "")
    monkeypatch.setattr(prepare, "get_client", lambda: no_client())
    monkeypatch.setattr(prepare, "prepare", noted)
    asyncio.run(prepare.main())
    assert made == [["clinops-local"]]
    assert "Enter for local" in asked[0]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "exit codes"),
        (["local"], 6, "no Prefect server answers at http://127.0.0.1:9/api"),
        (["fargate"], 2, "there is no pool fargate"),
        (["--pool", "local"], 2, "unrecognized arguments: --pool"),
    ],
)
def test_the_preparation_ends_with_one_message_and_an_exit_code(arguments: list[str], code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "deployments/prepare.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_CLIENT_MAX_RETRIES": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert said in (done.stdout if code == 0 else done.stderr)


@asynccontextmanager
async def no_client() -> AsyncIterator[None]:
    yield None


@pytest.mark.parametrize("page", ["deployments/README.md", "docs/tutorial/scheduled.md", "deployments/prefect.yaml"])
def test_the_first_commands_deploy_only_on_the_local_pool(page: str) -> None:
    text = (ROOT / page).read_text()
    assert re.search(r"^#? *python deployments/prepare.py local( |$)", text, re.MULTILINE)
    assert "deploy --all" not in text
    assert "prefect --no-prompt deploy -n '*-local' --prefect-file" in text
    known = yaml.safe_load((ROOT / "deployments/prefect.yaml").read_text())["deployments"]
    local = [each["name"] for each in known if fnmatchcase(each["name"], "*-local")]
    assert len(local) == 4
    assert {each["name"] for each in known if each["work_pool"]["name"] == "clinops-local"} == set(local)
