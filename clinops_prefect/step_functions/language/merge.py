"""The one JSONata expression that this package writes: a step's parameters merged into what flows in.

`Parameters` of the Amazon States Language replace a state's input, so that a step with parameters would lose the
previous step's output. JSONata, set on that state alone, can merge. https://docs.jsonata.org
"""

import json
from typing import Any


def literal(value: Any) -> str:
    """A JSON value as a JSONata literal.

    JSON is JSONata as it stands, but for the two line separators that JSON allows in a string and JavaScript did not.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


# The execution's own input, in a state of the machine itself.
EXECUTION_INPUT = "$states.context.Execution.Input"
# The same in a map's children: each child is an execution of its own, and gets these values in its input.
RUN_VARIABLE = "run"


def merged_input(parameters: dict[str, Any], given: str = EXECUTION_INPUT) -> str:
    """The expression: what flows in < the parameters < the execution's input, for the keys that the parameters declare.

    What flows in and is no object becomes the value of `input`. The expression stands on one line, since AWS takes no
    line breaks in it.

    Args:
        parameters: The step's parameters.
        given: The expression of the execution's input.
    """
    return (
        f"{{% ($flow := $states.input; $in := {given}; "
        f"$p := {literal(parameters)}; "
        "$m := $type($in) = 'object' ? "
        f"$merge([$p, $sift($in, function($v, $k){{ $k in {literal(list(parameters))} }})]) : $p; "
        "$type($flow) = 'object' ? $merge([$flow, $m]) : $merge([{'input': $flow}, $m])) %}"
    )


def declared_input(keys: list[str]) -> str:
    """The expression of the execution's input, cut to `keys`: what a map hands to its children."""
    return (
        f"{{% ($in := {EXECUTION_INPUT}; $type($in) = 'object' ? "
        f"$merge([{{}}, $sift($in, function($v, $k){{ $k in {literal(keys)} }})]) : {{}}) %}}"
    )


def merged_output(result: str) -> str:
    """The expression of what flowed in, with what the step returned merged into it; what the step returned wins.

    A value that is no object becomes the value of `input`, or of `output`.
    """
    return (
        f"{{% ($flow := $states.input; $r := {result}; "
        "$merge([$type($flow) = 'object' ? $flow : {'input': $flow}, "
        "$type($r) = 'object' ? $r : {'output': $r}])) %}"
    )


def kept_input(result: str, key: str) -> str:
    """The expression of what flowed in, with what the step returned under `key`; without a key, that is dropped."""
    if not key:
        return "{% $states.input %}"
    return (
        f"{{% ($flow := $states.input; $r := {result}; "
        f"$merge([$type($flow) = 'object' ? $flow : {{'input': $flow}}, {{{literal(key)}: $r}}])) %}}"
    )


def nested_output(keys: list[str], value: str) -> str:
    """The expression of what flowed in with `value` at a path: what `ResultPath` does, for a JSONata state."""
    return f"{{% {_nested('$states.input', keys, value)} %}}"


def _nested(where: str, keys: list[str], value: str) -> str:
    if not keys:
        return value
    inner = _nested(f"$lookup({where}, {literal(keys[0])})", keys[1:], value)
    return f"$merge([{where}, {{{literal(keys[0])}: {inner}}}])"


def inert(value: Any) -> Any:
    """`value`, with the strings that a JSONata state would evaluate turned into expressions that give them back."""
    if isinstance(value, dict):
        return {key: inert(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [inert(item) for item in value]
    if isinstance(value, str) and value.strip().startswith("{%"):
        return f"{{% {literal(value)} %}}"
    return value
