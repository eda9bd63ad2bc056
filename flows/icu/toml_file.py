"""Reading the files that say what a run looks for: the catalogue, and the tables of FHIR's and MEDS's codes."""

import tomllib
from pathlib import Path
from typing import Any


def read_toml(path: str | Path, what: str, error: type[ValueError]) -> tuple[dict[str, Any], bytes]:
    """Read a TOML file.

    Args:
        path: The file.
        what: What it is, for the message.
        error: What to raise where it cannot be read, or is no TOML.

    Returns:
        What is in it, and its bytes.
    """
    # A worker has its own folder and its own disk: the whole path tells on which of them the file is missing.
    whole = Path(path).absolute()
    otherwise = f"give the path of a {what} on this machine, or leave it out for the one that comes with the flow"
    try:
        data = whole.read_bytes()
    except FileNotFoundError as cause:
        raise error(f"{whole}: No such file; {otherwise}") from cause
    except OSError as cause:
        raise error(f"{whole} cannot be read ({cause.strerror}); {otherwise}") from cause
    try:
        return tomllib.loads(data.decode("utf-8")), data
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise error(f"{path} is not TOML in UTF-8: {cause}") from cause
