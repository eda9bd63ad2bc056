"""Paths and intrinsic functions of the Amazon States Language, and the translation of a path to JSONata.

https://states-language.net/spec.html#path and
https://docs.aws.amazon.com/step-functions/latest/dg/intrinsic-functions.html
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from clinops_prefect.step_functions.language.aws_limits import short

INTRINSICS = {
    *("Array", "ArrayContains", "ArrayGetItem", "ArrayLength", "ArrayPartition", "ArrayRange", "ArrayUnique"),
    *("Base64Decode", "Base64Encode", "Format", "Hash", "JsonMerge", "JsonToString", "MathAdd", "MathRandom"),
    *("StringSplit", "StringToJson", "UUID"),
}

_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
# A name after a dot may have every character that means nothing else in the grammar: AWS accepts `$.patient-list`.
_NAME = r"[^\s.\[\]()'\"*?@,:;$&|<>=!+{}/\\]+"
# A path to one value is a chain of names and indexes.
_REFERENCE = re.compile(rf"\$\$?(?:\.(?:{_NAME})|\[(?:\d+|{_QUOTED})\])*")
_SEGMENT = re.compile(rf"\.({_NAME})|\[(\d+)\]|\[({_QUOTED})\]")
# All other paths of JSONPath: variables, wildcards, descent, slices, unions and filters.
_INSIDE = rf"(?:[^\[\]'\"]|{_QUOTED})+"
_PATH = re.compile(
    rf"\$(?:\$|[A-Za-z_]\w*)?(?:\.\.?(?:\*|{_NAME})|\.?\[(?:{_INSIDE}|(?:[^\[\]]*\[{_INSIDE}\])*[^\[\]]*)\])*"
)
_CALL = re.compile(r"States\.(\w+)\((.*)\)", re.DOTALL)


def is_reference(text: str) -> bool:
    """Whether `text` is a path to one value: `$.a[0].b`, `$['x']`, `$.patient-list` or `$$.Execution.Input.x`."""
    return bool(_REFERENCE.fullmatch(text))


def is_intrinsic(text: str) -> bool:
    """Whether `text` calls an intrinsic function that AWS has, such as `States.Format('{}', $.date)`."""
    match = _CALL.fullmatch(text)
    return bool(match and match[1] in INTRINSICS and _balanced(match[2]))


def is_dynamic(text: str) -> bool:
    """Whether `text` is a path or an intrinsic function, so that a key that ends in `.$` may have it as its value."""
    return bool(_PATH.fullmatch(text)) or is_intrinsic(text)


def looks_dynamic(text: str) -> bool:
    """Whether `text` begins like a path (`$.`, `$$.`, `$[`) or an intrinsic function (`States.…(`), valid or not."""
    return text == "$" or text.startswith(("$.", "$$.", "$[")) or bool(re.match(r"States\.\w+\(", text))


def keys_of(path: str) -> list[str] | None:
    """The names along a path into the state's input. None if `path` has an index, or is no such path."""
    if not is_reference(path) or path.startswith("$$"):
        return None
    segments = _SEGMENT.findall(path)
    return (
        None if any(index for _, index, _ in segments) else [name or _unquoted(quoted) for name, _, quoted in segments]
    )


def as_jsonata(path: str) -> str:
    """The JSONata expression of a path to one value."""
    context = path.startswith("$$")
    expression = "$states.context" if context else "$states.input"
    for name, index, quoted in _SEGMENT.findall(path):
        if index:
            expression += f"[{index}]"
        else:
            key = name or _unquoted(quoted)
            # Backticks can quote every name, except one that has a backtick itself.
            expression += f".`{key}`" if "`" not in key else f".$lookup($, {json.dumps(key)})"
    return expression


def paths(value: Any) -> Iterator[Any]:
    """The values that AWS is to evaluate: those of all keys that end in `.$`, at any depth."""
    # A loop, since recursion would fail on values nested too deeply before the check can report them.
    rest = [value]
    while rest:
        current = rest.pop()
        if isinstance(current, dict):
            for key, item in current.items():
                if isinstance(key, str) and key.endswith(".$"):
                    yield item
                else:
                    rest.append(item)
        elif isinstance(current, list | tuple):
            rest += current


def path_problems(value: Any, where: str) -> Iterator[str]:
    """What is wrong with keys that end in `.$`, at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not key.endswith(".$"):
                yield from path_problems(item, f"{where}.{key}")
                continue
            if key.removesuffix(".$") in value:
                yield f"{where} has {short(key)} beside {short(key.removesuffix('.$'))}, and AWS takes one of them"
            if not isinstance(item, str) or not is_dynamic(item):
                yield f"{where}.{key} is neither a path such as '$.date' nor an intrinsic function that AWS has"
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from path_problems(item, f"{where}[{index}]")


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _balanced(text: str) -> bool:
    depth = 0
    for part in re.findall(r"'(?:[^'\\]|\\.)*'|[()']", text):
        if part == "'":
            return False  # a quotation mark that is not closed
        depth += {"(": 1, ")": -1}.get(part, 0)
        if depth < 0:
            return False
    return depth == 0
