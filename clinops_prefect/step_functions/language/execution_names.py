"""How an execution is named: by its machine and what is unique, and once more for each attempt.

What is unique about a run of Prefect's is in `runs/flow_runs.py`.
"""

import hashlib

from clinops_prefect.errors import InvalidExecutionError
from clinops_prefect.step_functions.language.data import NAME_LENGTH, name_problems


def default_name(machine: str, unique: str) -> str:
    """The name of an execution of a state machine: the machine's name, cut where AWS needs it, and what is unique."""
    return f"{machine[: NAME_LENGTH - len(unique) - 1]}-{unique}"


def attempt_name(name: str, attempt: int) -> str:
    """The name of the execution that tries again what `name` stands for: at most 80 characters, as AWS demands."""
    if attempt == 1:
        return name
    suffix = f"-{attempt}"
    if len(name) + len(suffix) > NAME_LENGTH:
        # Two long names that begin alike stay two names.
        suffix = f"-{hashlib.sha256(name.encode()).hexdigest()[:12]}{suffix}"
    return name[: NAME_LENGTH - len(suffix)] + suffix


def check_name(name: str) -> None:
    """Raise unless `name` may be an execution's.

    Raises:
        InvalidExecutionError: It is empty, longer than 80 characters, or holds one that AWS refuses.
        TypeError: It is no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"an execution's name is text, and no {type(name).__name__}")
    if problems := name_problems(name, "the execution's name"):
        raise InvalidExecutionError("; ".join(problems))
