"""What all command lines have in common: examples in `--help`, one message where something fails, and exit codes.

0    done
1    it failed for a reason that nobody expected; --debug shows the traceback
2    an argument is wrong
3    the source, the store or a file cannot be used
4    a limit is exceeded, or a result was not accepted; nothing bad was published
5    a part of the work failed; the rest is done
6    try again later: a service does not answer, or another run is under way
130  interrupted
"""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn, TypeVar

from clinops_prefect.errors import ClinopsPrefectError, ServiceUnavailableError

UNEXPECTED, WRONG_ARGUMENT, UNUSABLE, BEYOND_LIMITS, INCOMPLETE, LATER, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130
_CODES: dict[type[BaseException], int] = {
    ServiceUnavailableError: LATER,
    ClinopsPrefectError: UNUSABLE,
    OSError: UNUSABLE,
    ImportError: UNUSABLE,
    ValueError: WRONG_ARGUMENT,
}
_SIGN_IN = (
    "Sign in (aws sso login, gcloud auth application-default login, az login), name a profile or key in the "
    "environment, or save a block with credentials and pass its reference, such as s3-pipeline-store/prod."
)
# What to do about what the operating system says, which tells no more than "[Errno 2] No such file or directory".
_REMEDIES = {
    errno.ENOENT: "Check how the path is written, and from which folder the command runs.",
    errno.ENOTDIR: "A part of the path is a file: name another folder.",
    errno.EISDIR: "The path is a folder: name a file in it.",
    errno.EACCES: "Change the rights of the path, or name one that this user may use.",
    errno.EPERM: "Change the rights of the path, or name one that this user may use.",
    errno.EROFS: "The disk is mounted for reading only: name a path on another one.",
    errno.ENOSPC: "The disk is full: make room, and run the command again.",
    errno.EDQUOT: "The quota of this user is used up: make room, and run the command again.",
    errno.EMFILE: "Too many files are open: raise the limit (ulimit -n), and run the command again.",
}
# Prefect 3 says so; without these words the exit code would be 1 (tests/flows/test_command_lines.py).
_NO_SERVER = ("Timed out while attempting to connect to ephemeral Prefect API server", "Failed to reach API at")
# The states of a task that failed, and of a task that waited for one.
_FAILED = ("Finished in state Failed", "Finished in state NotReady")
# Tells worker processes, which inherit the environment, that this command shows no traceback.
_QUIET = "CLINOPS_QUIET_WORKERS"
_T = TypeVar("_T")


class Stopped(SystemExit):
    """The end of a command that failed: its text is what was said, its code the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(code)
        self.text = text

    def __str__(self) -> str:
        return self.text


class Parser(argparse.ArgumentParser):
    """A parser whose help ends with an example, whose errors are one line, and which knows `--debug`.

    Args:
        module: What follows `python -m`.
        description: What the command does, in a sentence.
        example: Arguments of a call that works.
    """

    def __init__(self, module: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            epilog=f"example:\n  python -m {module} {example}\n\nexit codes:\n{_exit_codes()}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--debug", action="store_true", help="show the traceback of what fails")

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith(("?", ".")) else "."
        stop(f"{self.prog}: {message}{end} See --help.", WRONG_ARGUMENT)


def stop(text: str, code: int) -> NoReturn:
    """Say why on standard error, and end with the code."""
    sys.stderr.write(f"{text}\n")
    raise Stopped(text, code)


def run(
    work: Callable[[], _T], *, debug: bool, otherwise: str = "", codes: Mapping[type[BaseException], int] | None = None
) -> _T:
    """Do the work of a command; where it fails, say so in one message.

    Args:
        work: What to do.
        debug: Let the exception go on, with its traceback.
        otherwise: What a failure leaves, in a sentence.
        codes: Exit codes of further kinds of exceptions; the most special kind decides.

    Raises:
        Stopped: It failed.
    """
    if not debug:
        _quiet()
        os.environ[_QUIET] = "1"
    try:
        return work()
    except KeyboardInterrupt:
        stop(f"\nInterrupted. {otherwise}".rstrip(), INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        known = {**_CODES, **(codes or {})}
        code = next((known[kind] for kind in type(error).__mro__ if kind in known), UNEXPECTED)
        if _is_without_server(error):
            code = LATER
        lines = [f"\nIt failed. {otherwise}".rstrip(), f"{type(error).__name__}: {error}"]
        if isinstance(error, PermissionError) and "redentials" in str(error):
            lines.append(_SIGN_IN)
        elif isinstance(error, OSError) and error.errno in _REMEDIES:
            lines.append(_REMEDIES[error.errno])
        if code == UNEXPECTED:
            lines.append("Nobody expected this: --debug shows where it comes from.")
        text = "\n".join(lines)
    finally:
        os.environ.pop(_QUIET, None)
    stop(text, code)


def quiet_as_the_command() -> None:
    """In a worker process: keep from the terminal what the command that started the process keeps from it."""
    if _QUIET in os.environ:
        _quiet()


def server_for_a_command() -> None:
    """Prepare Prefect's temporary server, where the settings name none: it may be slow to start.

    It starts when the first flow does, and takes the settings from the environment.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

    if PREFECT_API_URL.value():
        return
    name = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
    # Prefect's own 20 or 30 seconds are too few for a busy machine.
    seconds = os.environ.setdefault(name, str(max(180, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value())))
    # It would report its use, and where there is no internet an error.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    refresh_global_settings_context()
    sys.stderr.write(
        f"A temporary Prefect server starts, which takes 10 s and on a busy machine up to {seconds} s. A running one\n"
        "saves them: prefect server start, and PREFECT_API_URL=http://127.0.0.1:4200/api.\n"
    )


def _is_without_server(error: Exception) -> bool:
    """Whether Prefect's server did not start, or does not answer: Prefect has no kind of error for either."""
    return type(error) is RuntimeError and str(error).startswith(_NO_SERVER)


def _exit_codes() -> str:
    lines = (__doc__ or "").splitlines()
    return "\n".join(f"  {line.strip()}" for line in lines if line.strip()[:1].isdigit())


class _Expected(logging.Filter):
    """Keeps from the terminal what the last message says again: tracebacks, and states that failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info or record.getMessage().startswith(_FAILED))


def _quiet() -> None:
    if "prefect" in sys.modules:
        from prefect.logging.configuration import setup_logging

        setup_logging()  # else it would be done by the first run, which makes other handlers
    # Of the handlers that write to the terminal alone: Prefect's own log keeps the traceback.
    for name in ("", "prefect", "prefect.flow_runs", "prefect.task_runs"):
        for handler in logging.getLogger(name).handlers:
            if hasattr(handler, "console") and not any(isinstance(each, _Expected) for each in handler.filters):
                handler.addFilter(_Expected())
