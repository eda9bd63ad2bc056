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


def merged_input(parameters: dict[str, Any]) -> str:
    """The expression: what flows in < the parameters < the execution's input, for the keys that the parameters declare.

    What flows in and is no object becomes the value of `input`. It stands on one line: AWS takes no line breaks in it.
    """
    return (
        "{% ($flow := $states.input; $in := $states.context.Execution.Input; "
        f"$p := {literal(parameters)}; "
        "$m := $type($in) = 'object' ? "
        f"$merge([$p, $sift($in, function($v, $k){{ $k in {literal(list(parameters))} }})]) : $p; "
        "$type($flow) = 'object' ? $merge([$flow, $m]) : $merge([{'input': $flow}, $m])) %}"
    )


def inert(value: Any) -> Any:
    """`value`, with the strings that a JSONata state would evaluate turned into expressions that give them back."""
    if isinstance(value, dict):
        return {key: inert(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [inert(item) for item in value]
    if isinstance(value, str) and value.strip().startswith("{%"):
        return f"{{% {literal(value)} %}}"
    return value
