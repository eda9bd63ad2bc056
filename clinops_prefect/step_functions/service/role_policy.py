"""The IAM policy for the role of a state machine, derived from the definition.

https://docs.aws.amazon.com/step-functions/latest/dg/service-integration-iam-templates.html
"""

import re
from collections.abc import Iterator
from typing import Any

from clinops_prefect.step_functions.language.states_language import action_of, kind_of
from clinops_prefect.step_functions.language.structure import is_distributed, states_of
from clinops_prefect.step_functions.service.policies import Grant, Place, key_grant, static
from clinops_prefect.step_functions.service.requests import iam_prefix

# For each optimized integration: the fields that name its targets, and the ARN of a target given by name.
_TARGETS = {
    "batch:submitJob": (("JobDefinition", "batch:job-definition/{}"), ("JobQueue", "batch:job-queue/{}")),
    "codebuild:startBuild": (("ProjectName", "codebuild:project/{}"),),
    "codebuild:startBuildBatch": (("ProjectName", "codebuild:project/{}"),),
    "databrew:startJobRun": (("Name", "databrew:job/{}"),),
    "dynamodb": (("TableName", "dynamodb:table/{}"),),
    "ecs:runTask": (("TaskDefinition", "ecs:task-definition/{}"),),
    "glue:startJobRun": (("JobName", "glue:job/{}"),),
    "lambda:invoke": (("FunctionName", "lambda:function:{}"),),
    "sns:publish": (("TopicArn", "sns:{}"),),
    "states:startExecution": (("StateMachineArn", "states:stateMachine:{}"),),
}
# The permissions to wait for a job (`.sync`): the actions, their resources (empty means the job's own target), and the
# name of the rule that Step Functions keeps in EventBridge.
_SYNC: dict[str, tuple[tuple[str, ...], str, str]] = {
    "batch": (("batch:DescribeJobs", "batch:TerminateJob"), "*", "StepFunctionsGetEventsForBatchJobsRule"),
    "codebuild": (
        (
            "codebuild:StopBuild",
            "codebuild:BatchGetBuilds",
            "codebuild:StopBuildBatch",
            "codebuild:BatchGetBuildBatches",
        ),
        "",
        "StepFunctionsGetEventForCodeBuildStartBuildRule",
    ),
    "databrew": (("databrew:ListJobRuns", "databrew:StopJobRun"), "", ""),
    "ecs": (("ecs:StopTask", "ecs:DescribeTasks"), "ecs:task/*", "StepFunctionsGetEventsForECSTaskRule"),
    "glue": (("glue:GetJobRun", "glue:GetJobRuns", "glue:BatchStopJobRun"), "", ""),
    "states": (
        ("states:DescribeExecution", "states:StopExecution"),
        "",
        "StepFunctionsGetEventsForStepFunctionsExecutionRule",
    ),
}
_EVENTS = ("events:PutTargets", "events:PutRule", "events:DescribeRule")
# The task's own role, and the role with which ECS pulls the image.
_ROLES_OF_A_TASK = 2
# Operations of S3 that have another name in IAM.
_S3 = {
    **dict.fromkeys(("ListObjectsV2", "ListObjects", "HeadBucket"), "ListBucket"),
    **{"HeadObject": "GetObject", "DeleteObjects": "DeleteObject", "CopyObject": "PutObject"},
}
# IAM has no narrower resource for these actions.
LOGGING = (
    *("logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery"),
    *("logs:ListLogDeliveries", "logs:CreateLogStream", "logs:PutLogEvents", "logs:PutResourcePolicy"),
    *("logs:DescribeResourcePolicies", "logs:DescribeLogGroups"),
)
TRACING = (*("xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets"),)


def role_grants(
    definition: dict[str, Any], place: Place, *, logs: bool, traces: bool, key: str
) -> tuple[list[Grant], list[str]]:
    """The grants that the role needs, and notes on what the definition does not say, so that you must check it.

    Args:
        definition: The machine in the Amazon States Language.
        place: The place of the machine: its ARN, region and account.
        logs: Whether AWS logs its executions.
        traces: Whether X-Ray traces its executions.
        key: The KMS key that encrypts the machine. Empty if there is none.
    """
    grants: list[Grant] = []
    notes: list[str] = []
    for name, state in states_of(definition):
        if state.get("Type") == "Map":
            grants += _of_map(state, place, name, notes)
        elif state.get("Type") == "Task":
            grants += _of_task(state, place, name, notes)
    if logs:
        grants.append(Grant("WriteLogs", LOGGING, ("*",)))
    if traces:
        grants.append(Grant("Trace", TRACING, ("*",)))
    if key:
        context = {"StringEquals": {"kms:EncryptionContext:aws:states:stateMachineArn": place.machine_arn}}
        grants.append(key_grant(place, key, ("kms:Decrypt", "kms:GenerateDataKey"), context))
    return grants, notes


def _of_task(state: dict[str, Any], place: Place, name: str, notes: list[str]) -> list[Grant]:
    if "Credentials" in state:
        role = static(state["Credentials"], "RoleArn")
        if not role:
            notes.append(f"state {name!r} computes the role that it assumes: allow sts:AssumeRole on that role alone")
            return []
        notes.append(f"state {name!r} runs with {role}: that role, not this one, must be allowed what it does")
        return [Grant("AssumeRoles", ("sts:AssumeRole",), (role,))]
    resource = str(state.get("Resource", ""))
    kind = kind_of(resource)
    if kind == "lambda":
        parts = resource.split(":")
        return [_invoke(":".join([*parts[:3], parts[3] or place.region, parts[4] or place.account, *parts[5:]]))]
    if kind != "integration":
        return []  # an activity needs no permission: its workers fetch the work
    arguments = state.get("Arguments", state.get("Parameters", {}))
    operation, _, pattern = action_of(resource).partition(".")
    return list(
        _of_integration(operation, pattern, arguments if isinstance(arguments, dict) else {}, place, name, notes)
    )


def _invoke(arn: str) -> Grant:
    return Grant("InvokeFunctions", ("lambda:InvokeFunction",), (arn,))


def _of_integration(
    operation: str, pattern: str, arguments: dict[str, Any], place: Place, name: str, notes: list[str]
) -> Iterator[Grant]:
    service, _, action = operation.partition(":")
    if operation == "lambda:invoke":
        (target,) = _targets(operation, arguments, place)
        qualifier = static(arguments, "Qualifier")
        yield _invoke(f"{target}:{qualifier}" if qualifier else target)
        if target.endswith("*"):
            notes.append(f"state {name!r} computes its function: name the functions that it may be")
        return
    if service == "aws-sdk":
        service, _, action = action.partition(":")
    named = action[:1].upper() + action[1:]
    if service == "s3":
        yield _of_s3(_S3.get(named, named), arguments, place)
        return
    if operation in ("http:invoke", "apigateway:invoke"):
        yield from _of_http(service, arguments, place, name, notes)
        return
    targets = _targets(operation, arguments, place)
    if operation == "sqs:sendMessage":
        targets = [_queue(static(arguments, "QueueUrl"), place)]
    if operation == "events:putEvents":
        targets = sorted(_buses(arguments, place))
    yield Grant(f"Call{_words(service)}", (f"{iam_prefix(service)}:{named}",), tuple(targets))
    # `:*` for the revisions of a task definition is intended, and needs no note.
    if any(re.search(r"(^|/|[^/]:)\*$", target.removesuffix(":*" if service == "ecs" else "")) for target in targets):
        notes.append(f"state {name!r}: {operation} is allowed on {', '.join(targets)}; name what it may act on")
    roles = sorted({arn for arn in _arns(arguments) if ":iam:" in arn and ":role/" in arn})
    if roles:
        yield Grant("HandOverRoles", ("iam:PassRole",), tuple(roles))
    if operation == "ecs:runTask" and len(roles) < _ROLES_OF_A_TASK:
        notes.append(f"state {name!r}: allow iam:PassRole on the roles of its task definition, which is not known here")
    if pattern.startswith("sync"):
        yield from _of_waiting(service, targets, place, name, notes)


def _of_waiting(service: str, targets: list[str], place: Place, name: str, notes: list[str]) -> Iterator[Grant]:
    if service not in _SYNC:
        notes.append(f"state {name!r}: see AWS's documentation for what waiting for {service} takes (.sync)")
        return
    actions, where, rule = _SYNC[service]
    if service == "states":
        # Executions of a version or an alias have ARNs of the machine.
        named = [target.replace(":stateMachine:", ":execution:", 1).split(":")[:7] for target in targets]
        waited = tuple(":".join([*parts, "*"]) for parts in named)
    else:
        waited = (("*",) if where == "*" else (place.arn(where),)) if where else tuple(targets)
    yield Grant(f"WaitFor{_words(service)}", actions, waited)
    if rule:
        yield Grant("HearOfTheEnd", _EVENTS, (place.arn(f"events:rule/{rule}"),))


def _of_http(service: str, arguments: dict[str, Any], place: Place, name: str, notes: list[str]) -> Iterator[Grant]:
    if service == "apigateway":
        yield Grant("CallAPIs", ("execute-api:Invoke",), (place.arn("execute-api:*"),))
        notes.append(
            f"state {name!r}: name the API that it may call, as arn:…:execute-api:region:account:api/stage/METHOD"
        )
        return
    yield Grant("CallHTTP", ("states:InvokeHTTPEndpoint",), (place.machine_arn,))
    authentication = arguments.get("Authentication", arguments.get("InvocationConfig"))
    connection = static(authentication, "ConnectionArn") or place.arn("events:connection/*")
    yield Grant("UseTheConnection", ("events:RetrieveConnectionCredentials",), (connection,))
    secrets = place.arn("secretsmanager:secret:events!connection/*")
    yield Grant("ReadItsSecret", ("secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"), (secrets,))


def _of_s3(action: str, arguments: dict[str, Any], place: Place) -> Grant:
    bucket, key = static(arguments, "Bucket") or "*", static(arguments, "Key") or "*"
    of_objects = action.endswith(("Object", "ObjectTagging", "ObjectAcl", "MultipartUpload", "ObjectAttributes"))
    return Grant("UseS3", (f"s3:{action}",), (f"arn:{place.partition}:s3:::{bucket}{f'/{key}' if of_objects else ''}",))


def _of_map(state: dict[str, Any], place: Place, name: str, notes: list[str]) -> list[Grant]:
    if not is_distributed(state):
        return []
    grants = [
        Grant("StartChildren", ("states:StartExecution",), (place.machine_arn,)),
        Grant(
            "FollowStopAndRedriveChildren",
            ("states:DescribeExecution", "states:StopExecution", "states:RedriveExecution"),
            (place.arn(f"states:execution:{place.name}:*"), place.arn(f"states:execution:{place.name}/*")),
        ),
    ]
    s3 = f"arn:{place.partition}:s3:::"
    if reader := state.get("ItemReader"):
        given, config = _arguments(reader), reader.get("ReaderConfig", {})
        bucket = static(given, "Bucket") or "*"
        if str(reader["Resource"]).endswith(":listObjectsV2"):
            prefix = static(given, "Prefix")
            condition = {"StringLike": {"s3:prefix": f"{prefix}*"}} if prefix else None
            grants.append(Grant("ListItems", ("s3:ListBucket",), (f"{s3}{bucket}",), condition))
            read = f"{prefix}*" if config.get("Transformation") else ""
        else:
            read = static(given, "Key") or "*"
        if read:
            grants.append(Grant("ReadItems", ("s3:GetObject",), (f"{s3}{bucket}/{read}",)))
        if config.get("InputType") == "MANIFEST":
            # The manifest names the files of the inventory, which are in the same bucket.
            grants.append(Grant("ReadItems", ("s3:GetObject",), (f"{s3}{bucket}/*",)))
        if "*" in bucket or read == "*":
            notes.append(f"state {name!r} computes where its items are: name the bucket and the prefix")
    if writer := state.get("ResultWriter"):
        given = _arguments(writer)
        bucket, prefix = static(given, "Bucket") or "*", static(given, "Prefix")
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        grants.append(
            Grant(
                "WriteResults",
                ("s3:PutObject", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"),
                (f"{s3}{bucket}/{folder}*",),
            )
        )
        if "*" in bucket:
            notes.append(f"state {name!r} computes where its results go: name the bucket and the prefix")
    return grants


def _arguments(part: dict[str, Any]) -> dict[str, Any]:
    given = part.get("Arguments", part.get("Parameters", {}))
    return given if isinstance(given, dict) else {}


def _targets(operation: str, arguments: dict[str, Any], place: Place) -> list[str]:
    """The ARNs of an integration's targets. `*` stands for what the definition does not say."""
    fields = _TARGETS.get(operation) or _TARGETS.get(operation.partition(":")[0])
    if not fields:
        service = operation.removeprefix("aws-sdk:").partition(":")[0]
        return sorted(arn for arn in _arns(arguments) if arn.split(":")[2] == iam_prefix(service)) or ["*"]
    found = []
    for field, template in fields:
        value = static(arguments, field)
        if operation == "lambda:invoke":
            value = value.rpartition(":function:")[2] if not value.startswith("arn:") else value
        if operation == "ecs:runTask" and value and value.count(":") in (0, 6) and "*" not in value:
            # Without a revision, ECS runs the newest one, and IAM checks the ARN with its revision.
            value += "" if value.startswith("arn:") and value.rpartition(":")[2].isdecimal() else ":*"
        found.append(value if value.startswith("arn:") else place.arn(template.format(value or "*")))
    return found


def _queue(url: str, place: Place) -> str:
    parts = re.fullmatch(r"https://sqs\.([a-z0-9-]+)\.[^/]+/(\d+)/(.+)", url)
    return f"arn:{place.partition}:sqs:{parts[1]}:{parts[2]}:{parts[3]}" if parts else place.arn("sqs:*")


def _buses(arguments: dict[str, Any], place: Place) -> Iterator[str]:
    entries = arguments.get("Entries", [])
    for entry in entries if isinstance(entries, list) else []:
        bus = (static(entry, "EventBusName") if isinstance(entry, dict) else "") or "default"
        yield bus if bus.startswith("arn:") else place.arn(f"events:event-bus/{bus}")


def _arns(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _arns(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _arns(item)
    elif isinstance(value, str) and re.fullmatch(r"arn:aws[a-z-]*(:[^:\s]*){4,}", value):
        yield value


def _words(service: str) -> str:
    return "".join(word.capitalize() for word in re.split(r"[^a-z0-9]+", service.lower()))
