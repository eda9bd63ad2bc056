"""Corrections of moto's executions, where they differ from AWS.

Executions get JSONata, and a stop that takes effect at once, with its error and cause. The history can be read
backwards and in pages. The definition of an execution's start can be read, and failed executions can be redriven. An
output that is a text is JSON, and a choice about a value that is not there fails.
"""

import datetime
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import jsonata
from moto.core.exceptions import AWSError
from moto.core.responses import ActionResult
from moto.stepfunctions.parser.api import ExecutionStatus, HistoryEventType
from moto.stepfunctions.parser.asl.component.state.choice.comparison.comparison_variable import ComparisonVariable
from moto.stepfunctions.parser.asl.component.state.choice.comparison.variable import NoSuchVariable
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.event.event_manager import EventHistoryContext
from moto.stepfunctions.parser.asl.jsonata import jsonata as engine
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils import json_path
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication, Execution
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker
from moto.stepfunctions.responses import StepFunctionResponse

from clinops_prefect.step_functions.language.paths import is_reference
from clinops_prefect.testing.step_functions_emulator import maps

_ENDS = (
    HistoryEventType.ExecutionSucceeded,
    HistoryEventType.ExecutionFailed,
    HistoryEventType.ExecutionTimedOut,
    HistoryEventType.ExecutionAborted,
)
ENDED = (ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT, ExecutionStatus.ABORTED)
# moto sets the status of an execution before its output or its error, in the execution's own thread. Without the lock,
# a request could see one without the other, or an end could replace another one.
_end = threading.Lock()


class ExecutionNotRedrivable(AWSError):
    TYPE = "ExecutionNotRedrivable"
    STATUS = 400


def install() -> None:
    """Correct moto in this process."""
    engine._eval_jsonata = lambda expression: jsonata.Jsonata(expression).evaluate(None)
    json_path.parse = _parse_path
    StepFunctionResponse.get_execution_history = _history
    StepFunctionResponse.stop_execution = _stop
    StepFunctionResponse.redrive_execution = _redrive
    StepFunctionResponse.describe_state_machine_for_execution = _describe_machine
    ComparisonVariable._eval_body = _compare
    _extend_describe()
    _keep_aborted()
    _show_timeouts()


_parse_any_path: Any = json_path.parse


def _parse_path(path: str) -> Any:
    """The parsed JSONPath. moto's own parser would take names such as `$.where` or `$.patient-list` for operators."""
    return _parse_any_path(re.sub(r"\.([^.\[\]'\"]+)", r".'\1'", path) if is_reference(path) else path)


def _compare(comparison: ComparisonVariable, env: Environment) -> None:
    """Compare a value of a choice. moto would take a value that is not there for one that does not match."""
    comparison.variable.eval(env)
    operator = comparison.comparison_function.operator_type.name
    if isinstance(env.stack[-1], NoSuchVariable) and not operator.startswith("Is"):
        path = comparison.variable.string_sampler.literal_value
        raise RuntimeError(  # moto makes States.Runtime of it, as AWS does
            f"Invalid path '{path}': The choice state's condition path references an invalid value."
        )
    comparison.comparison_function.eval(env)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _history(response: StepFunctionResponse) -> ActionResult:
    arn = response._get_param("executionArn")
    events = list(_until_end(response.stepfunction_backend.get_execution_history(arn)["events"]))
    if response._get_param("includeExecutionData") is False:
        events = [{key: _without_data(value) for key, value in event.items()} for event in events]
    if response._get_param("reverseOrder"):
        events.reverse()
    start, size = int(response._get_param("nextToken") or 0), int(response._get_param("maxResults") or 100)
    page: dict[str, Any] = {"events": events[start : start + size]}
    if start + size < len(events):
        page["nextToken"] = str(start + size)
    return ActionResult(page)


def _until_end(events: list[Any]) -> Iterator[Any]:
    """The events up to the execution's end. In moto, branches go on after it."""
    ended = False
    for event in events:
        ended = ended and event["type"] != HistoryEventType.ExecutionRedriven
        if not ended:
            yield event
        ended = ended or event["type"] in _ENDS


def _describe_machine(response: StepFunctionResponse) -> ActionResult:
    execution: Any = response.stepfunction_backend.describe_execution(response._get_param("executionArn"))
    machine = execution.state_machine
    described = {"stateMachineArn": machine.arn, "name": machine.name, "definition": machine.definition}
    return ActionResult(described | {"roleArn": machine.roleArn, "updateDate": machine.creation_date})


def _without_data(details: Any) -> Any:
    if not isinstance(details, dict):
        return details
    return {key: value for key, value in details.items() if not key.startswith(("input", "output"))}


def _stop(response: StepFunctionResponse) -> ActionResult:
    execution: Any = response.stepfunction_backend.describe_execution(response._get_param("executionArn"))
    error, cause = response._get_param("error"), response._get_param("cause")
    with _end:
        is_running = execution.exec_status == ExecutionStatus.RUNNING
        if is_running:
            execution.stop_date = _now()
            execution.exec_status, execution.error, execution.cause = ExecutionStatus.ABORTED, error, cause
    if is_running:
        # The execution's thread may not have begun yet.
        while execution.exec_worker.env is None:
            time.sleep(0.01)
        execution.exec_worker.stop(stop_date=execution.stop_date, error=error, cause=cause)
        details = {"executionAbortedEventDetails": {"error": error, "cause": cause}}
        _add_end(execution.exec_worker.env, HistoryEventType.ExecutionAborted, details)
    return ActionResult({"stopDate": execution.stop_date})


def _add_end(env: Any, kind: HistoryEventType, details: dict[str, Any]) -> None:
    """Add the event of a stop or a timeout at once. moto adds it when the state ends that runs then."""
    # AWS gives such an event no `previousEventId`.
    env.event_manager.add_event(EventHistoryContext.of_program_start(), kind, details)


def _show_timeouts() -> None:
    time_out = Environment.set_timed_out

    def time_out_and_show(env: Environment) -> None:
        time_out(env)
        _add_end(env, HistoryEventType.ExecutionTimedOut, {"executionTimedOutEventDetails": {}})

    Environment.set_timed_out = time_out_and_show


def _keep_aborted() -> None:
    reflect = BaseExecutionWorkerCommunication._reflect_execution_status

    def reflect_unless_aborted(communication: Any) -> None:
        with _end:
            # moto's worker goes on until its state ends, and would then overwrite the status that the stop has set.
            if communication.execution.exec_status != ExecutionStatus.ABORTED:
                reflect(communication)

    BaseExecutionWorkerCommunication._reflect_execution_status = reflect_unless_aborted


def _extend_describe() -> None:
    describe = StepFunctionResponse.describe_execution

    def describe_with_redrive(response: StepFunctionResponse) -> ActionResult:
        execution: Any = response.stepfunction_backend.describe_execution(response._get_param("executionArn"))
        with _end:
            result = describe(response)
            if execution.exec_status == ExecutionStatus.SUCCEEDED:
                # moto leaves a text without its quotation marks, so that "5" would be read as a number.
                result._result["output"] = to_json_str(execution.output)
            result._result["redriveCount"] = getattr(execution, "redrive_count", 0)
            result._result["redriveStatus"] = "REDRIVABLE" if execution.exec_status in ENDED else "NOT_REDRIVABLE"
        return result

    StepFunctionResponse.describe_execution = describe_with_redrive


def _redrive(response: StepFunctionResponse) -> ActionResult:
    execution: Any = response.stepfunction_backend.describe_execution(response._get_param("executionArn"))
    if execution.exec_status not in ENDED:
        raise ExecutionNotRedrivable(f"Execution is {execution.exec_status}: '{execution.exec_arn}'")
    old = execution.exec_worker.env.event_manager
    # A redrive cannot start inside a branch, so the whole Parallel or Map state runs again.
    outer = json.loads(execution.state_machine.definition)["States"]
    entered = [
        event
        for event in old.get_event_history()
        if event["type"].endswith("StateEntered") and event["stateEnteredEventDetails"]["name"] in outer
    ][-1]
    redriven = _Redriven(execution, old, entered["stateEnteredEventDetails"])
    date = _now()
    with _end:
        execution.error = execution.cause = execution.stop_date = None
        execution.redrive_count = getattr(execution, "redrive_count", 0) + 1
        execution.exec_worker, execution.exec_status = redriven, ExecutionStatus.RUNNING
    redriven.start()
    return ActionResult({"redriveDate": date})


class _Redriven(ExecutionWorker):
    """Runs the execution again from the state that failed, with the state's input, and in the same history."""

    def __init__(self, execution: Execution, events: Any, state: dict[str, Any]) -> None:
        first = execution._get_start_execution_worker()
        super().__init__(first._evaluation_details, first._execution_communication, None, first._activity_store)
        self.events, self.state = events, state
        self.env = None

    def _execution_logic(self) -> None:
        definition = json.loads(self._evaluation_details.state_machine_details.definition)
        program = AmazonStateLanguageParser.parse(json.dumps(definition | {"StartAt": self.state["name"]}))[0]
        env = self._get_evaluation_environment()
        env.event_manager = self.events
        maps.redriven.add(self._evaluation_details.execution_details.arn)
        env.states.reset(json.loads(self.state["input"]))
        self.env = env
        self.events.add_event(context=env.event_history_context, event_type=HistoryEventType.ExecutionRedriven)
        program.eval(env)
        self._execution_communication.terminated()
