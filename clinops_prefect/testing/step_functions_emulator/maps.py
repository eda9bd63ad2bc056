"""Distributed Maps as AWS runs them: each child is a separate execution with its own input and context.

moto evaluates children inside the parent: they see the parent's context, a map with a failed child succeeds, and items
come from JSON and CSV only. Here a map reads every format, makes batches, and applies its selector. It fails if more
children fail than are tolerated, and writes its results. ListMapRuns, DescribeMapRun and ListExecutions know it. A
redrive runs only the failed children.
"""

import datetime
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

from moto.stepfunctions.parser.api import ExecutionStatus, HistoryEventType, MapRunStatus
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor.map_run_record import (
    MapRunRecord,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.state_map import StateMap
from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded, ProgramError, ProgramTimedOut
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

from clinops_prefect.testing.step_functions_emulator.definitions import (
    Template,
    children_program,
    environment_of,
    failure,
    parse,
    raw_of,
    value_at,
)
from clinops_prefect.testing.step_functions_emulator.items import read_items
from clinops_prefect.testing.step_functions_emulator.map_results import children_of_run, list_children, write_results

# The most children that run at once, even if the map allows more: each child is a thread here.
AT_ONCE = 40
DATA_BYTES = 262_144
_STOPPED: dict[Any, str] = {ProgramEnded: "SUCCEEDED", ProgramError: "FAILED", ProgramTimedOut: "TIMED_OUT"}

_children: dict[str, SimpleNamespace] = {}
# Executions that are redriven and have not reached their map yet.
redriven: set[str] = set()
# From an execution and a state to the children that succeeded, by the number of the item. A redrive needs them.
_succeeded: dict[tuple[str, str], dict[int, SimpleNamespace]] = {}


def install() -> None:
    """Mend moto, in this process."""
    evaluate = StateMap._eval_execution
    StateMap._eval_execution = lambda state, env: _run(state, env) if raw_of(state) else evaluate(state, env)
    describe: Any = StepFunctionsParserBackend.describe_execution
    StepFunctionsParserBackend.describe_execution = cast(
        Any,
        lambda backend, execution_arn: _children.get(execution_arn) or describe(backend, execution_arn),
    )
    list_executions = StepFunctionResponse.list_executions
    StepFunctionResponse.list_executions = lambda response: (
        list_children(response) if response._get_param("mapRunArn") else list_executions(response)
    )


def _run(state: Any, env: Any) -> None:
    raw = raw_of(state)
    language = raw["QueryLanguage"]

    def evaluated(field: Any) -> Any:
        return Template(env, language, field).value()

    parameters = "Arguments" if language == "JSONata" else "Parameters"
    if reader := raw.get("ItemReader"):
        try:
            items = read_items(reader, evaluated(reader[parameters]))
        except FailureEventException:
            raise
        except Exception as error:
            raise failure(env, "States.ItemReaderFailed", f"{type(error).__name__}: {error}") from error
    elif language == "JSONata":
        items = evaluated(raw["Items"])
    else:
        items = value_at(raw.get("ItemsPath", "$"), env)
    if not isinstance(items, list):
        raise failure(env, "States.Runtime", "the items of the map are no array")

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
        raise failure(env, "States.ExceedToleratedFailureThreshold", cause)
    record.set_stop(MapRunStatus.SUCCEEDED)
    outputs = [child.output for child in children if child.status == "SUCCEEDED"]
    if writer := raw.get("ResultWriter"):
        output: Any = write_results(record, children, evaluated(writer[parameters]))
    else:
        output = outputs
    if len(json.dumps(output, ensure_ascii=False).encode()) > DATA_BYTES:
        raise failure(env, "States.DataLimitExceeded", "the output of the map is longer than 262,144 bytes")
    env.stack.append(output)


def _inputs(env: Any, raw: dict[str, Any], items: list[Any]) -> Iterator[Any]:
    if selector := raw.get("ItemSelector"):
        template = Template(env, raw["QueryLanguage"], selector)
        items = [template.value(item, number) for number, item in enumerate(items)]
    batcher = raw.get("ItemBatcher")
    if not batcher:
        yield from items
        return
    shared = batcher.get("BatchInput")
    beside = {} if shared is None else {"BatchInput": Template(env, raw["QueryLanguage"], shared).value()}
    size = batcher["MaxItemsPerBatch"]
    for start in range(0, len(items), size):
        yield beside | {"Items": items[start : start + size]}


class _MapRun:
    """The children of one map run."""

    def __init__(self, env: Any, state: str, raw: dict[str, Any], record: MapRunRecord) -> None:
        self.env, self.record, self.raw = env, record, raw
        self.program = parse(children_program(raw))
        execution = env.states.context_object.context_object_data["Execution"]["Id"]
        self.done = _succeeded.setdefault((execution, state), {})
        if execution not in redriven:
            self.done.clear()
        redriven.discard(execution)
        self.failed, self.lock, self.total = 0, threading.Lock(), 0
        children_of_run[record.map_run_arn] = []

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
            env=environment_of(self.env, context),
        )
        child.to_history_output = lambda: {"events": child.env.event_manager.get_event_history()}
        _children[arn] = child
        with self.lock:
            children_of_run[self.record.map_run_arn].append(child)
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
