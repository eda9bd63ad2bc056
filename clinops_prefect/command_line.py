"""What all command lines share: examples in `--help`, one message for a failure, and exit codes.

0    done
1    it failed for a reason that nobody expected; --debug shows the traceback
2    an argument is wrong
3    the source, the store or a file cannot be used
4    a limit is exceeded or a result not accepted; nothing bad was published
5    a part of the work failed; the rest is done
6    try again later: a service does not answer, or another run is under way
130  interrupted
"""

import argparse
import errno
import io
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
# Error number -> remedy. The message of the operating system, such as "No such file or directory", gives none.
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
# Beginnings of Prefect 3's messages. Without them the exit code would be 1 (tests/flows/test_command_lines.py).
_NO_SERVER = ("Timed out while attempting to connect to ephemeral Prefect API server", "Failed to reach API at")
# How Prefect's log reports a failed task, and a task that waited for a failed one.
_FAILED = ("Finished in state Failed", "Finished in state NotReady")
# Environment variable that tells worker processes that this command shows no tracebacks.
_QUIET = "CLINOPS_QUIET_WORKERS"
_T = TypeVar("_T")


class Stopped(SystemExit):
    """Ends a failed command. `text` is the message on standard error, `code` the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(code)
        self.text = text

    def __str__(self) -> str:
        return self.text


class Parser(argparse.ArgumentParser):
    """An argument parser with `--debug`, an example at the end of the help, and errors of one line.

    Args:
        module: The module after `python -m`.
        description: One sentence that says what the command does.
        example: The arguments of a working call.
    """

    def __init__(self, module: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            epilog=f"example:\n  python -m {module} {example}\n\nexit codes:\n{_exit_codes()}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # A terminal of another encoding, such as Latin-1, gets escapes for what it cannot show. Python's default is to
        # raise, so that a command whose work is done would fail on its last line.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        self.add_argument("--debug", action="store_true", help="show the traceback of what fails")

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith(("?", ".")) else "."
        stop(f"{self.prog}: {message}{end} See --help.", WRONG_ARGUMENT)


def stop(text: str, code: int) -> NoReturn:
    """Print the message on standard error and exit with the code."""
    sys.stderr.write(f"{text}\n")
    raise Stopped(text, code)


def run(
    work: Callable[[], _T], *, debug: bool, otherwise: str = "", codes: Mapping[type[BaseException], int] | None = None
) -> _T:
    """Run the work of a command. A failure prints one message and exits.

    Args:
        work: The function to call.
        debug: Whether to let an exception propagate with its traceback.
        otherwise: One sentence that says what a failure leaves behind.
        codes: Exit codes of further exception types. The most derived type decides.

    Raises:
        Stopped: The work failed.
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
    """Call this in a worker process, so that it shows no tracebacks if the command that started it shows none."""
    if _QUIET in os.environ:
        _quiet()


def server_for_a_command() -> None:
    """If the settings name no Prefect server, give Prefect's temporary server enough time to start.

    The temporary server starts with the first flow and takes its settings from the environment.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

    if PREFECT_API_URL.value():
        return
    name = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
    # Prefect's default of 20 or 30 seconds is too short on a busy machine.
    seconds = os.environ.setdefault(name, str(max(180, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value())))
    # Otherwise the server reports usage data, and logs an error if there is no internet.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Otherwise the server imports every installed collection as it starts, to register types of blocks that no command
    # needs: saving a block registers its type. The second setting alone would import them; without it, a later server
    # would believe that they are registered.
    os.environ.setdefault("PREFECT_API_BLOCKS_REGISTER_ON_START", "false")
    os.environ.setdefault("PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION", "false")
    refresh_global_settings_context()
    sys.stderr.write(
        f"A temporary Prefect server starts, which takes 10 s and on a busy machine up to {seconds} s. A running one\n"
        "saves them: prefect server start, and PREFECT_API_URL=http://127.0.0.1:4200/api.\n"
    )


def _is_without_server(error: Exception) -> bool:
    """Whether Prefect's server did not start or does not answer. Prefect has no error type for this."""
    return type(error) is RuntimeError and str(error).startswith(_NO_SERVER)


def _exit_codes() -> str:
    lines = (__doc__ or "").splitlines()
    return "\n".join(f"  {line.strip()}" for line in lines if line.strip()[:1].isdigit())


class _Expected(logging.Filter):
    """Filters tracebacks and failed states from the terminal, because the command's last message repeats them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info or record.getMessage().startswith(_FAILED))


def _quiet() -> None:
    if "prefect" in sys.modules:
        from prefect.logging.configuration import setup_logging

        setup_logging()  # otherwise the first run does this, and replaces the handlers that we filter
    # Only handlers that write to the terminal are filtered, so Prefect's own log keeps the tracebacks.
    for name in ("", "prefect", "prefect.flow_runs", "prefect.task_runs"):
        for handler in logging.getLogger(name).handlers:
            if hasattr(handler, "console") and not any(isinstance(each, _Expected) for each in handler.filters):
                handler.addFilter(_Expected())
