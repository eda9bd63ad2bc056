"""Distributed Maps as AWS runs them: each child an execution of its own, with an input and a context of its own.

moto evaluates them inside the parent: children see the parent's context, a map with a failed child succeeds, and items
come from JSON and CSV only. Here a map reads every format, batches, selects, fails when more children fail than are
tolerated, writes its results, and can be asked about with ListMapRuns, DescribeMapRun and ListExecutions. A redrive
runs only the children that failed.
"""

import base64
import datetime
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

from moto.core.responses import ActionResult
from moto.stepfunctions.parser.api import ExecutionStatus, HistoryEventType, MapRunStatus
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor.map_run_record import (
    MapRunRecord,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.state_map import StateMap
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.event.event_manager import EventHistoryContext
from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded, ProgramError, ProgramTimedOut
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

from clinops_prefect.testing.step_functions_emulator.items import own_client, read_items

# How many children run at once, whatever a map allows: each is a thread here.
AT_ONCE = 40
DATA_BYTES = 262_144
# What is left of a distributed map for moto's parser; the rest stays as text in its comment.
_KEPT = {
    *("Type", "QueryLanguage", "Next", "End", "Retry", "Catch", "InputPath", "OutputPath", "ResultPath"),
    *("ResultSelector", "Output", "Assign"),
}
# As base64: moto hands on a comment with its escapes.
_MARK = "distributed map "
_STOPPED: dict[Any, str] = {ProgramEnded: "SUCCEEDED", ProgramError: "FAILED", ProgramTimedOut: "TIMED_OUT"}

_children: dict[str, SimpleNamespace] = {}
_of_run: dict[str, list[SimpleNamespace]] = {}
# Execution and state -> the children that succeeded, by the number of the item, for a redrive.
# Executions that are redriven and have not come to their map yet.
redriven: set[str] = set()
_succeeded: dict[tuple[str, str], dict[int, SimpleNamespace]] = {}
_parse = AmazonStateLanguageParser.parse


def install() -> None:
    """Mend moto, in this process."""
    AmazonStateLanguageParser.parse = staticmethod(lambda definition: _parse(_reduced(definition)))
    evaluate = StateMap._eval_execution
    StateMap._eval_execution = lambda state, env: _run(state, env) if _raw(state) else evaluate(state, env)
    describe: Any = StepFunctionsParserBackend.describe_execution
    StepFunctionsParserBackend.describe_execution = cast(
        Any,
        lambda backend, execution_arn: _children.get(execution_arn) or describe(backend, execution_arn),
    )
    list_executions = StepFunctionResponse.list_executions
    StepFunctionResponse.list_executions = lambda response: (
        _list_children(response) if response._get_param("mapRunArn") else list_executions(response)
    )


def _reduced(definition: str) -> str:
    """The definition without what moto's parser does not know of distributed maps."""
    try:
        machine = json.loads(definition)
    except ValueError:
        return definition  # moto words the error
    if not isinstance(machine, dict) or not isinstance(machine.get("States"), dict):
        return definition
    language = machine.get("QueryLanguage", "JSONPath")
    states = {name: _reduced_state(state, language) for name, state in machine["States"].items()}
    return json.dumps(machine | {"States": states})


def _reduced_state(state: Any, language: str) -> Any:
    config = state.get("ItemProcessor", {}).get("ProcessorConfig", {}) if isinstance(state, dict) else {}
    if config.get("Mode") != "DISTRIBUTED":
        return state
    raw = {"QueryLanguage": language} | state
    _parse(_reduced(json.dumps(_processor(raw))))  # raises for what is wrong inside
    empty = {"StartAt": "X", "States": {"X": {"Type": "Pass", "End": True}}}
    kept = {name: value for name, value in state.items() if name in _KEPT}
    comment = _MARK + base64.b64encode(json.dumps(raw).encode()).decode()
    return kept | {"Comment": comment, "ItemProcessor": {"ProcessorConfig": config, **empty}}


def _processor(raw: dict[str, Any]) -> dict[str, Any]:
    """The program of a map's children, which inherits the machine's query language and not the map's own."""
    return {name: value for name, value in raw["ItemProcessor"].items() if name != "ProcessorConfig"}


def _raw(state: Any) -> dict[str, Any]:
    text = state.comment.comment if state.comment else ""
    raw: dict[str, Any] = json.loads(base64.b64decode(text.removeprefix(_MARK))) if text.startswith(_MARK) else {}
    return raw


class _Template:
    """A field of a map that is evaluated with paths or with JSONata, by moto itself: as the output of a Pass state."""

    def __init__(self, env: Any, language: str, field: Any) -> None:
        if language == "JSONata":
            state = {"Type": "Pass", "QueryLanguage": language, "Output": {"v": field}, "End": True}
        else:
            state = {"Type": "Pass", "Parameters": field, "End": True}
        self.env, self.wrapped = env, language == "JSONata"
        self.program = _parse(json.dumps({"StartAt": "P", "States": {"P": state}}))[0]

    def value(self, item: Any = None, number: int = 0) -> Any:
        given = self.env.states.get_input()
        context = self.env.states.get_context() | {"Map": {"Item": {"Index": number, "Value": item}}}
        env = _environment(self.env, context)
        env.states.reset(given)
        self.program.eval(env)
        if not isinstance(env.program_state(), ProgramEnded):
            state: Any = env.program_state()
            raise _failure(self.env, state.error.get("error", "States.Runtime"), state.error.get("cause", ""))
        value = env.states.get_input()
        return value["v"] if self.wrapped else value


def _environment(env: Any, context: Any) -> Any:
    return Environment(
        aws_execution_details=env.aws_execution_details,
        execution_type=env.execution_type,
        context=context,
        event_history_context=EventHistoryContext.of_program_start(),
        cloud_watch_logging_session=None,
        activity_store={},
    )


class _Error(ErrorName):
    """An error of Step Functions itself: moto's own class takes none that it does not know."""


def _failure(env: Any, error: str, cause: str) -> FailureEventException:
    return FailureEventException(
        FailureEvent(
            env=env,
            error_name=_Error(error),
            event_type=HistoryEventType.MapRunFailed,
            event_details=cast(Any, {"mapRunFailedEventDetails": {"error": error, "cause": cause}}),
        )
    )


def _run(state: Any, env: Any) -> None:
    raw = _raw(state)
    language = raw["QueryLanguage"]

    def evaluated(field: Any) -> Any:
        return _Template(env, language, field).value()

    parameters = "Arguments" if language == "JSONata" else "Parameters"
    if reader := raw.get("ItemReader"):
        try:
            items = read_items(reader, evaluated(reader[parameters]))
        except FailureEventException:
            raise
        except Exception as error:
            raise _failure(env, "States.ItemReaderFailed", f"{type(error).__name__}: {error}") from error
    elif language == "JSONata":
        items = evaluated(raw["Items"])
    else:
        items = _at(raw.get("ItemsPath", "$"), env)
    if not isinstance(items, list):
        raise _failure(env, "States.Runtime", "the items of the map are no array")

    record = MapRunRecord(
        state_machine_arn=env.states.context_object.context_object_data["StateMachine"]["Id"],
        execution_arn=env.states.context_object.context_object_data["Execution"]["Id"],
        max_concurrency=raw.get("MaxConcurrency", 0),
        tolerated_failure_count=raw.get("ToleratedFailureCount", 0),
        tolerated_failure_percentage=raw.get("ToleratedFailurePercentage", 0.0),
        label=raw.get("Label"),
    )
    env.map_run_record_pool_manager.add(record)
    children = _MapRun(env, state.name, raw, record).outcome(list(_inputs(env, raw, items)))
    failed = [child for child in children if child.status != "SUCCEEDED"]
    count, percentage = record.tolerated_failure_count, record.tolerated_failure_percentage
    if failed and len(failed) > count and 100 * len(failed) > percentage * len(children):
        record.set_stop(MapRunStatus.FAILED)
        cause = "The specified tolerated failure threshold was exceeded"
        raise _failure(env, "States.ExceedToleratedFailureThreshold", cause)
    record.set_stop(MapRunStatus.SUCCEEDED)
    outputs = [child.output for child in children if child.status == "SUCCEEDED"]
    if writer := raw.get("ResultWriter"):
        output: Any = _write_results(record, children, evaluated(writer[parameters]))
    else:
        output = outputs
    if len(json.dumps(output, ensure_ascii=False).encode()) > DATA_BYTES:
        raise _failure(env, "States.DataLimitExceeded", "the output of the map is longer than 262,144 bytes")
    env.stack.append(output)


def _at(path: str, env: Any) -> Any:
    """The value at a path, which moto's own engine does not find under names such as `patient-list`."""
    value = env.states.get_context() if path.startswith("$$") else env.states.get_input()
    for name, index, quoted in re.findall(r"\.([^.\[]+)|\[(\d+)\]|\[['\"](.*?)['\"]\]", path):
        try:
            value = value[int(index)] if index else value[name or quoted]
        except (KeyError, IndexError, TypeError):
            raise _failure(env, "States.Runtime", f"there is nothing at {path}") from None
    return value


def _inputs(env: Any, raw: dict[str, Any], items: list[Any]) -> Iterator[Any]:
    if selector := raw.get("ItemSelector"):
        template = _Template(env, raw["QueryLanguage"], selector)
        items = [template.value(item, number) for number, item in enumerate(items)]
    batcher = raw.get("ItemBatcher")
    if not batcher:
        yield from items
        return
    shared = batcher.get("BatchInput")
    beside = {} if shared is None else {"BatchInput": _Template(env, raw["QueryLanguage"], shared).value()}
    size = batcher["MaxItemsPerBatch"]
    for start in range(0, len(items), size):
        yield beside | {"Items": items[start : start + size]}


class _MapRun:
    """The children of one map run."""

    def __init__(self, env: Any, state: str, raw: dict[str, Any], record: MapRunRecord) -> None:
        self.env, self.record, self.raw = env, record, raw
        self.program = _parse(_reduced(json.dumps(_processor(raw))))[0]
        execution = env.states.context_object.context_object_data["Execution"]["Id"]
        self.done = _succeeded.setdefault((execution, state), {})
        if execution not in redriven:
            self.done.clear()
        redriven.discard(execution)
        self.failed, self.lock, self.total = 0, threading.Lock(), 0
        _of_run[record.map_run_arn] = []

    def outcome(self, inputs: list[Any]) -> list[SimpleNamespace]:
        self.total = len(inputs)
        workers = min(self.record.max_concurrency or AT_ONCE, AT_ONCE)
        with ThreadPoolExecutor(workers) as pool:
            return [child for child in pool.map(self._child, range(len(inputs)), inputs) if child]

    def _exceeded(self) -> bool:
        percentage = self.record.tolerated_failure_percentage
        return self.failed > self.record.tolerated_failure_count and 100 * self.failed > percentage * self.total

    def _child(self, number: int, given: Any) -> SimpleNamespace | None:
        if number in self.done:
            return self.done[number]
        counters = (self.record.item_counter, self.record.execution_counter)
        for counter in counters:
            counter.total.count()
        if self._exceeded():
            for counter in counters:
                counter.aborted.count()
            return None
        child = self._started(given)
        if len(json.dumps(given, ensure_ascii=False).encode()) > DATA_BYTES:
            child.exec_status, child.error = ExecutionStatus.FAILED, "States.DataLimitExceeded"
        else:
            self._finish(child)
        child.status = str(child.exec_status.value)
        child.stop_date = datetime.datetime.now(datetime.UTC)
        if child.status == "SUCCEEDED":
            self.done[number] = child
        else:
            with self.lock:
                self.failed += 1
        for counter in counters:
            {"SUCCEEDED": counter.succeeded, "TIMED_OUT": counter.timed_out}.get(child.status, counter.failed).count()
        return child

    def _started(self, given: Any) -> SimpleNamespace:
        machine, name = self.record.map_state_machine_arn, str(uuid4())
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{name}"
        context = self.env.states.get_context()
        context["Execution"] = context["Execution"] | {"Id": arn, "Name": name, "Input": given}
        context.pop("State", None)
        child = SimpleNamespace(
            **{"exec_arn": arn, "execution_arn": arn, "name": name, "status": "RUNNING", "state_machine_arn": machine},
            **{"execution_input": json.dumps(given), "start_date": datetime.datetime.now(datetime.UTC)},
            **{"stop_date": None, "exec_status": ExecutionStatus.RUNNING, "output": None, "output_details": None},
            **{"error": None, "cause": None, "map_run_arn": self.record.map_run_arn, "given": given},
            items=len(given["Items"]) if "ItemBatcher" in self.raw else 1,
            env=_environment(self.env, context),
        )
        child.to_history_output = lambda: {"events": child.env.event_manager.get_event_history()}
        _children[arn] = child
        with self.lock:
            _of_run[self.record.map_run_arn].append(child)
        return child

    def _finish(self, child: SimpleNamespace) -> None:
        child.env.states.reset(child.given)
        child.env.event_manager.add_event(
            context=child.env.event_history_context,
            event_type=HistoryEventType.ExecutionStarted,
            event_details=cast(Any, {"executionStartedEventDetails": {"input": child.execution_input}}),
            update_source_event_id=False,
        )
        self.program.eval(child.env)
        state: Any = child.env.program_state()
        child.exec_status = ExecutionStatus(_STOPPED.get(type(state), "ABORTED"))
        if isinstance(state, ProgramEnded):
            child.output = child.env.states.get_input()
        elif isinstance(state, ProgramError):
            failure: Any = state.error
            child.error, child.cause = failure.get("error"), failure.get("cause")
        elif isinstance(state, ProgramTimedOut):
            child.error = "States.Timeout"


def _write_results(record: Any, children: list[SimpleNamespace], where: dict[str, str]) -> dict[str, Any]:
    """What AWS writes: a manifest, and the children of each outcome in files beside it."""
    prefix = where.get("Prefix", "")
    folder = f"{prefix}{'' if not prefix or prefix.endswith('/') else '/'}{record.map_run_arn.rpartition(':')[2]}"
    s3 = own_client("s3")
    files: dict[str, list[dict[str, Any]]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    for status in ("FAILED", "SUCCEEDED"):
        described = [_result(child) for child in children if (child.status == "SUCCEEDED") == (status == "SUCCEEDED")]
        if described:
            body, key = json.dumps(described).encode(), f"{folder}/{status}_0.json"
            s3.put_object(Bucket=where["Bucket"], Key=key, Body=body)
            files[status].append({"Key": key, "Size": len(body)})
    manifest = {"DestinationBucket": where["Bucket"], "MapRunArn": record.map_run_arn, "ResultFiles": files}
    s3.put_object(Bucket=where["Bucket"], Key=f"{folder}/manifest.json", Body=json.dumps(manifest).encode())
    details = {"Bucket": where["Bucket"], "Key": f"{folder}/manifest.json"}
    return {"MapRunArn": record.map_run_arn, "ResultWriterDetails": details}


def _result(child: SimpleNamespace) -> dict[str, Any]:
    result = {
        "ExecutionArn": child.exec_arn,
        "Input": child.execution_input,
        "Name": child.name,
        "StartDate": child.start_date.isoformat(),
        "StateMachineArn": child.state_machine_arn,
        "Status": child.status,
        "StopDate": child.stop_date.isoformat(),
    }
    ended = {"Output": json.dumps(child.output)} if child.status == "SUCCEEDED" else {}
    return result | ended | ({"Error": child.error, "Cause": child.cause} if child.error else {})


def _list_children(response: StepFunctionResponse) -> ActionResult:
    wanted = response._get_param("statusFilter")
    listed = [
        child for child in _of_run.get(str(response._get_param("mapRunArn")), []) if wanted in (None, "", child.status)
    ]
    start, size = int(response._get_param("nextToken") or 0), int(response._get_param("maxResults") or 100)
    page: dict[str, Any] = {
        "executions": [
            {
                "executionArn": child.exec_arn,
                "stateMachineArn": child.state_machine_arn,
                "name": child.name,
                "status": child.status,
                "startDate": child.start_date,
                "mapRunArn": child.map_run_arn,
                "itemCount": child.items,
            }
            for child in listed[start : start + size]
        ]
    }
    if start + size < len(listed):
        page["nextToken"] = str(start + size)
    return ActionResult(page)
