"""Corrections of moto's parser of definitions, where it differs from AWS.

A definition with a wrong structure is refused. Nested states inherit the machine's query language. The parser does not
see the fields of distributed maps, which this module evaluates.
"""

import base64
import json
import re
from collections.abc import Callable
from typing import Any, cast

from moto.core.exceptions import AWSError
from moto.stepfunctions.parser import api
from moto.stepfunctions.parser.api import HistoryEventType
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.event.event_manager import EventHistoryContext
from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.parse.preprocessor import Preprocessor
from moto.stepfunctions.responses import StepFunctionResponse

from clinops_prefect.step_functions.language.structure import structure_problems


class InvalidDefinition(AWSError):
    TYPE = "InvalidDefinition"
    STATUS = 400


# The fields of a distributed map that moto's parser gets. The other fields are stored as text in the map's comment.
_KEPT = {
    *("Type", "QueryLanguage", "Next", "End", "Retry", "Catch", "InputPath", "OutputPath", "ResultPath"),
    *("ResultSelector", "Output", "Assign"),
}
# The text in the comment is base64, since moto passes on a comment with its escapes.
_MARK = "distributed map "
_parse = AmazonStateLanguageParser.parse
_open: Any = Preprocessor._open_query_language_scope


def install() -> None:
    """Correct moto's parser in this process."""
    AmazonStateLanguageParser.parse = staticmethod(lambda definition: _parse(reduced(definition)))
    for name in ("create_state_machine", "update_state_machine"):
        setattr(StepFunctionResponse, name, _well_structured(getattr(StepFunctionResponse, name)))
    Preprocessor._open_query_language_scope = _open_scope
    for kind in vars(api).values():
        # moto's parser raises errors whose answers have no code, and clients tell errors by their codes.
        if isinstance(kind, type) and issubclass(kind, AWSError) and (code := getattr(kind, "code", "")):
            kind.TYPE = code


def _well_structured(change: Callable[..., Any]) -> Callable[..., Any]:
    def changed(response: StepFunctionResponse) -> Any:
        try:
            definition = json.loads(response._get_param("definition") or "null")
        except ValueError:
            definition = None  # moto words the error
        if definition is not None and (problems := structure_problems(definition)):
            raise InvalidDefinition(f"Invalid State Machine Definition: '{'; '.join(problems)}'")
        return change(response)

    return changed


def parse(definition: dict[str, Any]) -> Any:
    """moto's program for a definition."""
    return _parse(reduced(json.dumps(definition)))[0]


def _open_scope(preprocessor: Any, tree: Any) -> None:
    """Give a nested state the machine's query language, and not the language of the state around it."""
    # Set on the instance: moto's list belongs to the class, and two threads that parse at once would share it.
    scopes = vars(preprocessor).get("_query_language_per_scope", [])
    preprocessor._query_language_per_scope = scopes[:1]
    _open(preprocessor, tree)
    preprocessor._query_language_per_scope = [*scopes, preprocessor._query_language_per_scope[-1]]


def reduced(definition: str) -> str:
    """The definition without the fields of distributed maps that moto's parser does not know."""
    try:
        machine = json.loads(definition)
    except ValueError:
        return definition  # moto words the error
    if not isinstance(machine, dict):
        return definition
    return json.dumps(_reduced_states(machine, machine.get("QueryLanguage", "JSONPath")))


def _reduced_states(machine: Any, language: str) -> Any:
    if not isinstance(machine, dict) or not isinstance(machine.get("States"), dict):
        return machine
    return machine | {"States": {name: _reduced_state(state, language) for name, state in machine["States"].items()}}


def _reduced_state(state: Any, language: str) -> Any:
    if not isinstance(state, dict):
        return state
    if isinstance(state.get("Branches"), list):
        return state | {"Branches": [_reduced_states(branch, language) for branch in state["Branches"]]}
    processor = state.get("ItemProcessor")
    config = processor.get("ProcessorConfig", {}) if isinstance(processor, dict) else {}
    if config.get("Mode") != "DISTRIBUTED":
        return state | ({"ItemProcessor": _reduced_states(processor, language)} if processor else {})
    raw = {"QueryLanguage": language} | state | {"ItemProcessor": {"QueryLanguage": language} | state["ItemProcessor"]}
    parse(children_program(raw))  # raises if the children's states are wrong
    empty = {"StartAt": "X", "States": {"X": {"Type": "Pass", "End": True}}}
    kept = {name: value for name, value in state.items() if name in _KEPT}
    comment = _MARK + base64.b64encode(json.dumps(raw).encode()).decode()
    return kept | {"Comment": comment, "ItemProcessor": {"ProcessorConfig": config, **empty}}


def children_program(raw: dict[str, Any]) -> dict[str, Any]:
    """The definition of a map's children. They have the machine's query language, not the map's own."""
    return {name: value for name, value in raw["ItemProcessor"].items() if name != "ProcessorConfig"}


def raw_of(state: Any) -> dict[str, Any]:
    """The definition of a distributed map. Empty for an inline map."""
    text = state.comment.comment if state.comment else ""
    raw: dict[str, Any] = json.loads(base64.b64decode(text.removeprefix(_MARK))) if text.startswith(_MARK) else {}
    return raw


class Template:
    """A field of a map with paths or JSONata. moto evaluates the field as the output of a Pass state."""

    def __init__(self, env: Any, language: str, field: Any) -> None:
        if language == "JSONata":
            state = {"Type": "Pass", "QueryLanguage": language, "Output": {"v": field}, "End": True}
        else:
            state = {"Type": "Pass", "Parameters": field, "End": True}
        self.env, self.wrapped = env, language == "JSONata"
        self.program = parse({"StartAt": "P", "States": {"P": state}})

    def value(self, item: Any = None, number: int = 0) -> Any:
        """The field's value for an item of a map, or for the map's own input."""
        given = self.env.states.get_input()
        context = self.env.states.get_context() | {"Map": {"Item": {"Index": number, "Value": item}}}
        env = environment_of(self.env, context, self.env.variable_store)
        env.states.reset(given)
        self.program.eval(env)
        if not isinstance(env.program_state(), ProgramEnded):
            state: Any = env.program_state()
            raise failure(self.env, state.error.get("error", "States.Runtime"), state.error.get("cause", ""))
        value = env.states.get_input()
        return value["v"] if self.wrapped else value


def environment_of(env: Any, context: Any, variables: Any = None) -> Any:
    """An environment for a separate program, with its own context, history and, unless given, variables."""
    return Environment(
        aws_execution_details=env.aws_execution_details,
        execution_type=env.execution_type,
        context=context,
        event_history_context=EventHistoryContext.of_program_start(),
        cloud_watch_logging_session=None,
        activity_store={},
        variable_store=variables,
    )


class _Error(ErrorName):
    """An error of Step Functions with any name. moto's own class accepts only the names that it knows."""


def failure(env: Any, error: str, cause: str) -> FailureEventException:
    """An exception with which the map's state fails."""
    return FailureEventException(
        FailureEvent(
            env=env,
            error_name=_Error(error),
            event_type=HistoryEventType.MapRunFailed,
            event_details=cast(Any, {"mapRunFailedEventDetails": {"error": error, "cause": cause}}),
        )
    )


def value_at(path: str, env: Any) -> Any:
    """The value at a path. moto's own engine does not find names such as `patient-list`."""
    value = env.states.get_context() if path.startswith("$$") else env.states.get_input()
    for name, index, quoted in re.findall(r"\.([^.\[]+)|\[(\d+)\]|\[['\"](.*?)['\"]\]", path):
        try:
            value = value[int(index)] if index else value[name or quoted]
        except (KeyError, IndexError, TypeError):
            raise failure(env, "States.Runtime", f"there is nothing at {path}") from None
    return value
