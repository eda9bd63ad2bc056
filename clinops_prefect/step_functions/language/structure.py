"""Checks the structure of any definition in the Amazon States Language: start, names, targets and reachability.

Other fields of the states are left to AWS's own validation: https://states-language.net/spec.html#states-fields
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clinops_prefect.errors import InvalidPipelineError
from clinops_prefect.step_functions.language.aws_limits import NAME_LENGTH, short

_ENDING = {"Succeed", "Fail"}
_GOING_ON = {"Task", "Pass", "Wait", "Parallel", "Map"}
_TYPES = {*_ENDING, *_GOING_ON, "Choice"}
_CATCHING = {"Task", "Parallel", "Map"}

State = tuple[str, dict[str, Any]]


def read_definition(path: str | Path) -> Any:
    """The definition in a JSON file.

    Raises:
        InvalidPipelineError: The file cannot be read, is not JSON, or has a key twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Of two states with one name, Python's parser keeps only the last, so AWS would never see the first.
        if twice := sorted({key for key, _ in pairs if [key for key, _ in pairs].count(key) > 1}):
            raise InvalidPipelineError(f"{path} has the key {twice[0]!r} twice in one object: rename or remove one")
        return dict(pairs)

    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=once)
    except OSError as error:
        raise InvalidPipelineError(f"the definition {path} cannot be read ({type(error).__name__})") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidPipelineError(f"{path} is no JSON ({place}): AWS takes definitions as JSON only") from None
    except InvalidPipelineError:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidPipelineError(f"{path} is no JSON in UTF-8 ({type(error).__name__})") from None


def structure_problems(definition: Any) -> list[str]:
    """Why AWS would refuse the structure of a definition; every problem names its state."""
    if not isinstance(definition, dict):
        return [f"the definition is a {type(definition).__name__}, and must be an object with StartAt and States"]
    problems = list(_of_machine(definition, "the definition"))
    # State names are unique in the whole machine, including branches and maps.
    counted = Counter(name for name, _ in states_of(definition))
    return problems + [
        f"state {short(name)}: {count} states have this name" for name, count in counted.items() if count > 1
    ]


def states_of(machine: Any, *, with_children: bool = True) -> Iterator[State]:
    """All states with their names, including the states of branches and maps.

    Args:
        machine: A definition, a branch, or the processor of a map.
        with_children: Include the states of distributed maps, which run in executions of their own.
    """
    states = machine.get("States") if isinstance(machine, dict) else None
    for name, state in states.items() if isinstance(states, dict) else ():
        if not isinstance(state, dict):
            continue
        yield name, state
        if with_children or not is_distributed(state):
            for _, inner in _inner_machines(state):
                yield from states_of(inner, with_children=with_children)


def is_distributed(state: dict[str, Any]) -> bool:
    """Whether a state is a Distributed Map, whose children are executions."""
    processor = state.get("ItemProcessor")
    config = processor.get("ProcessorConfig") if isinstance(processor, dict) else None
    return isinstance(config, dict) and config.get("Mode") == "DISTRIBUTED"


def resources_of(definition: Any) -> list[tuple[str, str]]:
    """The names of all Task states and what they run."""
    return [
        (name, state["Resource"])
        for name, state in states_of(definition)
        if state.get("Type") == "Task" and isinstance(state.get("Resource"), str)
    ]


def _inner_machines(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    branches = state.get("Branches")
    for number, branch in enumerate(branches if isinstance(branches, list) else []):
        yield f"Branches[{number}]", branch
    for field in ("ItemProcessor", "Iterator"):
        if field in state:
            yield field, state[field]


def _of_machine(machine: Any, where: str) -> Iterator[str]:
    states = machine.get("States") if isinstance(machine, dict) else None
    if not isinstance(states, dict) or not states:
        yield f"{where} has no States"
        return
    start = machine.get("StartAt")
    if not isinstance(start, str) or start not in states:
        yield f"{where} starts at {start!r}, which is none of its states"
    wrong = False
    for name, state in states.items():
        what = f"state {short(name)}"
        found = [*_of_name(name), *(_of_state(state, set(states)) if isinstance(state, dict) else ["it is no object"])]
        wrong = wrong or bool(found)
        yield from (f"{what}: {problem}" for problem in found)
        if isinstance(state, dict):
            for field, inner in _inner_machines(state):
                yield from _of_machine(inner, f"{what}: {field}")
    # If a target is wrong, the state that was meant would also be reported as one that nothing leads to.
    if not wrong and isinstance(start, str) and start in states:
        yield from _of_reach(states, start, where)


def _of_name(name: str) -> Iterator[str]:
    if not 1 <= len(name) <= NAME_LENGTH:
        yield f"its name has {len(name)} characters, and may have 1 to {NAME_LENGTH}"


def _of_state(state: dict[str, Any], scope: set[str]) -> Iterator[str]:
    kind = state.get("Type")
    if not isinstance(kind, str) or kind not in _TYPES:
        yield f"its Type is {kind!r}, and may be {', '.join(sorted(_TYPES))}"
        return
    follows, ends = "Next" in state, state.get("End") is True
    if kind in _GOING_ON and follows == ends:
        yield "it has both Next and End" if ends else "it has neither Next nor End"
    if kind not in _GOING_ON and (follows or "End" in state):
        yield f"a {kind} state may have no {'Next' if follows else 'End'}"
    if kind == "Task" and not str(state.get("Resource", "")).startswith("arn:"):
        hint = ": put the ARN where the placeholder is" if "${" in str(state.get("Resource")) else ""
        yield f"its Resource is {state.get('Resource')!r}, and must be an ARN{hint}"
    if kind == "Choice" and not (isinstance(state.get("Choices"), list) and state["Choices"]):
        yield "it has no Choices"
    if kind == "Parallel" and not isinstance(state.get("Branches"), list):
        yield "it has no Branches"
    if kind == "Map" and not {"ItemProcessor", "Iterator"} & set(state):
        yield "it has no ItemProcessor"
    if "Catch" in state and kind not in _CATCHING:
        yield f"a {kind} state may have no Catch"
    for field, target in _targets(state):
        if not isinstance(target, str) or target not in scope:
            yield f"{field} goes on at {target!r}, which is no state beside it"


def _targets(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The states to which a state leads, each with the field that names it."""
    for field in ("Next", "Default"):
        if field in state:
            yield field, state[field]
    for field in ("Choices", "Catch"):
        rules = state.get(field)
        for number, rule in enumerate(rules if isinstance(rules, list) else []):
            yield f"{field}[{number}]", rule.get("Next") if isinstance(rule, dict) else None


def _of_reach(states: dict[str, Any], start: str, where: str) -> Iterator[str]:
    reached, rest = {start}, [start]
    while rest:
        for _, target in _targets(states[rest.pop()]):
            if target not in reached:
                reached.add(target)
                rest.append(target)
    yield from (f"state {short(name)}: nothing leads to it" for name in states if name not in reached)
    if not any(states[name].get("End") or states[name]["Type"] in _ENDING for name in reached):
        yield f"{where} never ends: no state that can be reached has End, or is of the type Succeed or Fail"
