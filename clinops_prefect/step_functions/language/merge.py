"""JSONata expressions that merge a step's parameters into its input, and its result into its output.

`Parameters` of the Amazon States Language replace a state's input, so that a step with parameters would lose the
previous step's output. JSONata can merge, and is set on that state only. https://docs.jsonata.org
"""

import json
from typing import Any


def literal(value: Any) -> str:
    """A JSON value as a JSONata literal.

    All JSON is valid JSONata, except for two line separators that JSON allows in a string and JavaScript did not.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


# How a state of the machine itself reads the execution's input.
EXECUTION_INPUT = "$states.context.Execution.Input"
# The variable with the execution's input in a map's children. Each child is an execution of its own, so the map passes
# these values in the child's input.
RUN_VARIABLE = "run"


def merged_input(parameters: dict[str, Any], given: str = EXECUTION_INPUT) -> str:
    """The JSONata expression of a step's merged input.

    The order is: the state's input, then the parameters, then the execution's input, of which only the keys that the
    parameters declare. A later value wins. A state's input that is no object becomes the value of `input`. The
    expression has no line break, since AWS refuses one.

    Args:
        parameters: The step's parameters.
        given: The JSONata expression of the execution's input.
    """
    return (
        f"{{% ($flow := $states.input; $in := {given}; "
        f"$p := {literal(parameters)}; "
        "$m := $type($in) = 'object' ? "
        f"$merge([$p, $sift($in, function($v, $k){{ $k in {literal(list(parameters))} }})]) : $p; "
        "$type($flow) = 'object' ? $merge([$flow, $m]) : $merge([{'input': $flow}, $m])) %}"
    )


def declared_input(keys: list[str]) -> str:
    """The JSONata expression of `keys` of the execution's input, which a map passes to its children."""
    return (
        f"{{% ($in := {EXECUTION_INPUT}; $type($in) = 'object' ? "
        f"$merge([{{}}, $sift($in, function($v, $k){{ $k in {literal(keys)} }})]) : {{}}) %}}"
    )


def merged_output(result: str) -> str:
    """The JSONata expression of the state's input with the step's result merged into it. The result wins.

    An input that is no object becomes the value of `input`, and such a result the value of `output`.
    """
    return (
        f"{{% ($flow := $states.input; $r := {result}; "
        f"$merge([{_object('$flow', 'input')}, {_object('$r', 'output')}])) %}}"
    )


def kept_input(result: str, key: str) -> str:
    """The JSONata expression of the state's input with the result under `key`. Without a key, the result is dropped."""
    if not key:
        return "{% $states.input %}"
    return (
        f"{{% ($flow := $states.input; $r := {result}; "
        f"$merge([{_object('$flow', 'input')}, {{{literal(key)}: $r}}])) %}}"
    )


def nested_output(keys: list[str], value: str) -> str:
    """The JSONata expression of the state's input with `value` at a path, as JSONPath's `ResultPath` does.

    `ResultPath` fails on an input that is no object. Here it becomes the value of `input`, so that the handler runs.
    """
    return f"{{% {_nested('$states.input', keys, value)} %}}"


def _nested(where: str, keys: list[str], value: str, depth: int = 0) -> str:
    if not keys:
        return value
    # `$merge` would merge the items of a list into one object.
    found, whole, key = f"$found{depth}", f"$whole{depth}", literal(keys[0])
    inner = _nested(f"$lookup({whole}, {key})", keys[1:], value, depth + 1)
    return f"({found} := {where}; {whole} := {_object(found, 'input')}; $merge([{whole}, {{{key}: {inner}}}]))"


def _object(name: str, key: str) -> str:
    """A variable's value if it is an object, else an object with the value under `key`."""
    return f"$type({name}) = 'object' ? {name} : {{'{key}': {name}}}"


def inert(value: Any) -> Any:
    """`value` for a JSONata state: a string that AWS would evaluate becomes an expression that returns this string."""
    if isinstance(value, dict):
        return {key: inert(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [inert(item) for item in value]
    if isinstance(value, str) and value.strip().startswith("{%"):
        return f"{{% {literal(value)} %}}"
    return value
