"""Names of executions: the state machine's name, a unique id, and a number for each further attempt.

`runs/flow_runs.py` says which id is unique for a Prefect run.
"""

import hashlib

from clinops_prefect.errors import InvalidExecutionError
from clinops_prefect.step_functions.language.aws_limits import NAME_LENGTH, name_problems


def default_name(machine: str, unique: str) -> str:
    """The name of an execution: the machine's name, shortened to AWS's limit, and `unique`."""
    return f"{machine[: NAME_LENGTH - len(unique) - 1]}-{unique}"


def attempt_name(name: str, attempt: int) -> str:
    """The name of the `attempt`-th execution for `name`: at most 80 characters, as AWS demands."""
    if attempt == 1:
        return name
    suffix = f"-{attempt}"
    if len(name) + len(suffix) > NAME_LENGTH:
        # Without the hash, two long names with the same beginning would become one name.
        suffix = f"-{hashlib.sha256(name.encode()).hexdigest()[:12]}{suffix}"
    return name[: NAME_LENGTH - len(suffix)] + suffix


def check_name(name: str) -> None:
    """Raise unless AWS accepts `name` as the name of an execution.

    Raises:
        InvalidExecutionError: The name is empty, longer than 80 characters, or has a character that AWS refuses.
        TypeError: The name is not a string.
    """
    if not isinstance(name, str):
        raise TypeError(f"an execution's name must be text, not {type(name).__name__}")
    if problems := name_problems(name, "the execution's name"):
        raise InvalidExecutionError("; ".join(problems))
