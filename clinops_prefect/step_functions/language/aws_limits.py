"""What AWS would refuse as a name or as JSON. Messages never contain a value: it may be a patient's."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

NAME_LENGTH = 80
DATA_BYTES = 262_144
LARGEST_INTEGER = 2**53
# JSON parsers, Python's included, fail on deeper nesting.
DEEPEST = 200

# For names of machines and executions. Of a state's name only the length is checked: AWS's own samples have a state
# "Job Complete?".
_BAD_IN_NAME = re.compile(r"[\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def name_problems(name: str, what: str) -> list[str]:
    """Why AWS would refuse the name of a state machine or an execution."""
    problems = []
    if not 1 <= len(name) <= NAME_LENGTH:
        problems.append(f"{what} {short(name)} has {len(name)} characters, and may have 1 to {NAME_LENGTH}")
    if bad := sorted(set(_BAD_IN_NAME.findall(name))):
        problems.append(f"{what} {short(name)} may not hold {' '.join(map(repr, bad))}")
    return problems


def data_problems(value: Any, what: str) -> list[str]:
    """Why AWS would refuse `value` as the input of an execution or a state. The problems contain no values."""
    problems = list(_json_problems(value, what))
    if not problems and (size := len(_encoded(value))) > DATA_BYTES:
        problems.append(f"{what} has {size:,} bytes as JSON, and may have {DATA_BYTES:,}")
    return problems


def json_problems(value: Any, what: str) -> list[str]:
    """Why `value` cannot be written as JSON. The problems contain no values."""
    return list(_json_problems(value, what))


def short(text: str) -> str:
    """`text` in quotation marks, cut to the longest length of a name."""
    return repr(text if len(text) <= NAME_LENGTH else text[:NAME_LENGTH] + "…")


def _json_problems(value: Any, where: str, depth: int = 0) -> Iterator[str]:
    if depth > DEEPEST:
        yield f"{where.partition('.')[0].partition('[')[0]} is nested deeper than {DEEPEST} levels"
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield f"{where} has a key of type {type(key).__name__}, and JSON's keys are text"
            else:
                yield from _text_problems(key, f"{where} has a key that")
                yield from _json_problems(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _json_problems(item, f"{where}[{index}]", depth + 1)
    elif isinstance(value, str):
        yield from _text_problems(value, where)
    elif value is None or isinstance(value, bool):
        return
    elif isinstance(value, int):
        # JSONata and most JSON parsers read numbers as doubles, and would round the integer.
        if abs(value) > LARGEST_INTEGER:
            yield f"{where} is an integer beyond 2^53, which would be rounded: pass it as text"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{where} is NaN or infinite, which JSON does not have"
    else:
        yield f"{where} is a {type(value).__name__}, which JSON does not have"


def _text_problems(text: str, where: str) -> Iterator[str]:
    if any("\ud800" <= character <= "\udfff" for character in text):
        yield f"{where} holds half a surrogate pair, which UTF-8 does not have"


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
