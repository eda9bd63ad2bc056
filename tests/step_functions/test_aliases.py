"""Aliases, encryption and deletion of a state machine."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from clinops_prefect.errors import InvalidExecutionError, InvalidPipelineError, StateMachineNotFoundError
from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.step_functions.language.steps import PipelineStep
from clinops_prefect.testing.step_functions_emulator import Emulator
from tests.step_functions.test_pipeline import pipeline, versions_of

__all__ = ["pipeline"]

KEY = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"


def routes(aws: Emulator, alias_arn: str) -> list[tuple[str, int]]:
    found = aws.client("stepfunctions").describe_state_machine_alias(stateMachineAliasArn=alias_arn)
    return [
        (route["stateMachineVersionArn"].rpartition(":")[2], route["weight"]) for route in found["routingConfiguration"]
    ]


def test_each_deployment_moves_the_alias_and_executions_start_through_it(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    pipeline.alias = "live"
    pipeline.add_step(PipelineStep("A", function("count")))
    with pytest.raises(StateMachineNotFoundError, match="deploy"):
        pipeline.execute({})
    arn = pipeline.deploy()
    assert arn == pipeline.started_arn == f"{pipeline.state_machine_arn}:live"
    assert routes(aws, arn) == [("1", 100)]
    aws.forget_calls()
    assert pipeline.deploy() == arn
    assert not [call for call in aws.calls() if call.startswith(("Create", "Update"))]
    # What others deploy without the alias is not what runs through it.
    other = pipeline.model_copy(update={"alias": "", "steps": [PipelineStep("A", function("fail"), retry_attempts=0)]})
    other.deploy()
    assert pipeline.wait(pipeline.execute({})) == {"n": 1}
    assert pipeline.run({}, "a-name", deploy=False) == {"n": 1}
    pipeline.add_step(PipelineStep("B", function("count")))
    version = pipeline.deploy(publish=True)
    assert routes(aws, arn) == [(version.rpartition(":")[2], 100)]
    assert pipeline.wait(pipeline.execute({})) == {"n": 2}
    assert pipeline.run({}) == {"n": 2}


def test_an_old_version_with_another_alias_stays_and_a_rollback_moves_the_alias_back(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    pipeline.alias, pipeline.keep_versions = "stable", 1
    pipeline.add_step(PipelineStep("A", function("count")))
    stable = pipeline.deploy()
    pipeline.alias = "next"
    for number in range(3):
        pipeline.comment = str(number)
        moved = pipeline.deploy()
    assert versions_of(aws, pipeline)[-1] == 1
    assert routes(aws, stable) == [("1", 100)]
    assert routes(aws, moved) == [("4", 100)]


def test_a_redrive_through_an_alias_compares_with_what_the_alias_runs(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str], tmp_path: Any
) -> None:
    gate = tmp_path / "gate"
    pipeline.alias = "live"
    pipeline.add_step(PipelineStep("Gate", function("gate"), {"gate": str(gate)}, retry_attempts=0))
    pipeline.deploy()
    with pytest.raises(Exception, match="Gate"):
        pipeline.run({}, "once", deploy=False)
    gate.touch()
    pipeline.model_copy(update={"alias": "", "comment": "another"}).deploy()
    assert pipeline.run({}, "once", deploy=False)["passed"]
    # Redriven, not started anew: the alias still runs the definition of the first attempt.
    assert [
        event.event
        for event in pipeline.history(pipeline.state_machine_arn.replace(":stateMachine:", ":execution:") + ":once")
    ].count("redriven") == 1


def test_an_alias_that_a_rival_creates_meanwhile_is_moved(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    pipeline.alias = "live"
    pipeline.add_step(PipelineStep("A", function("count")))
    pipeline.deploy()
    pipeline.comment = "changed"
    aws.fail("DescribeStateMachineAlias", "ResourceNotFound")
    aws.fail("CreateStateMachineAlias", "ConflictException")
    assert routes(aws, pipeline.deploy()) == [("2", 100)]


def test_a_key_is_set_when_the_machine_is_created_and_when_it_is_updated(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    client = aws.client("stepfunctions")
    pipeline.add_step(PipelineStep("A", function("count")))
    arn = pipeline.deploy()
    pipeline.kms_key_id = KEY
    pipeline.deploy()
    found = client.describe_state_machine(stateMachineArn=arn)["encryptionConfiguration"]
    assert (found["type"], found["kmsKeyId"]) == ("CUSTOMER_MANAGED_KMS_KEY", KEY)
    aws.forget_calls()
    pipeline.deploy()
    assert "UpdateStateMachine" not in aws.calls()
    pipeline.kms_key_id = ""
    pipeline.comment = "without a key of its own it keeps the one it has"
    pipeline.deploy()
    assert client.describe_state_machine(stateMachineArn=arn)["encryptionConfiguration"]["kmsKeyId"] == KEY
    new = StepFunctionsPipeline(f"{pipeline.name}-new", aws.role_arn, kms_key_id="alias/clinops", steps=pipeline.steps)
    created = client.describe_state_machine(stateMachineArn=new.deploy())["encryptionConfiguration"]
    assert created["kmsKeyId"] == "alias/clinops"


@pytest.mark.parametrize(
    ("field", "wrong", "right"),
    [
        ("alias", "123", "v1.2_live-3"),
        ("alias", "with space", "a" * 80),
        ("kms_key_id", "my key", "mrk-1234567890abcdef1234567890abcdef"),
        ("kms_key_id", "arn:aws:s3:::bucket", "alias/clinops"),
    ],
)
def test_check_names_what_no_alias_or_key_is(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str], field: str, wrong: str, right: str
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    setattr(pipeline, field, wrong)
    assert [field in problem for problem in pipeline.check()] == [True]
    with pytest.raises(InvalidPipelineError, match=field):
        pipeline.deploy()
    setattr(pipeline, field, right)
    assert pipeline.check() == []


def test_a_machine_is_deleted_with_versions_and_aliases_unless_executions_run(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    pipeline.alias = "live"
    pipeline.add_step(PipelineStep("A", function("sleep"), {"seconds": 60}))
    pipeline.deploy()
    running = pipeline.execute({})
    with pytest.raises(InvalidExecutionError, match=r"1 running execution.*force=True") as caught:
        pipeline.delete()
    assert caught.value.uri == pipeline.state_machine_arn
    assert "DeleteStateMachine" not in aws.calls()
    pipeline.stop(running)
    pipeline.delete(force=True)
    with pytest.raises(StateMachineNotFoundError, match="nothing was deleted"):
        pipeline.delete()
    pipeline.delete(missing_ok=True)
    with pytest.raises(StateMachineNotFoundError):
        pipeline.execute({})


def test_delete_and_its_async_form_are_the_machines_and_of_the_class_prefects(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))

    async def twice() -> None:
        await pipeline.adeploy()
        await pipeline.adelete()
        await pipeline.adelete(missing_ok=True)

    asyncio.run(twice())
    # Of the class, these are Prefect's, which take a saved block's name.
    for method in (StepFunctionsPipeline.delete, StepFunctionsPipeline.adelete):
        assert method.__module__.startswith("prefect.")
        assert method.__self__ is StepFunctionsPipeline  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        pipeline.delete("a block's name")  # type: ignore[call-arg]


def test_where_the_machine_logs_is_compared_and_updated(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    def logs(name: str) -> dict[str, Any]:
        group = {"logGroupArn": f"arn:aws:logs:us-east-1:123456789012:log-group:{name}:*"}
        return {"level": "ALL", "destinations": [{"cloudWatchLogsLogGroup": group}]}

    pipeline.add_step(PipelineStep("A", function("count")))
    updates = []
    for name in ("one", "one", "two"):
        pipeline.logging_configuration = logs(name)
        arn = pipeline.deploy()
        updates.append(aws.calls().get("UpdateStateMachine", 0))
        found = aws.client("stepfunctions").describe_state_machine(stateMachineArn=arn)
        assert found["loggingConfiguration"]["destinations"] == logs(name)["destinations"]
    assert updates == [0, 0, 1]


def test_a_step_of_another_account_assumes_its_role(pipeline: StepFunctionsPipeline) -> None:
    role = "arn:aws:iam::210987654321:role/Ingest"
    pipeline.add_step(PipelineStep("A", "arn:aws:lambda:us-east-1:210987654321:function:ingest", assume_role_arn=role))
    assert pipeline.definition()["States"]["A"]["Credentials"] == {"RoleArn": role}
    assert pipeline.check() == []
    for wrong, word in [
        ("Ingest", "assume_role_arn"),
        ("arn:aws-cn:iam::210987654321:role/I", "partition"),
        ("arn:aws:iam::2109:role/I", "12 digits"),
    ]:
        pipeline.steps[0] = PipelineStep("A", pipeline.steps[0].resource, assume_role_arn=wrong)  # type: ignore[union-attr]
        assert any(word in problem for problem in pipeline.check())
