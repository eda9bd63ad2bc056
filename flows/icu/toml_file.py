"""Reads the TOML files of a run: the catalogue, and the tables of FHIR and MEDS codes."""

import tomllib
from pathlib import Path
from typing import Any


def read_toml(path: str | Path, what: str, error: type[ValueError]) -> tuple[dict[str, Any], bytes]:
    """The content of a TOML file.

    Args:
        path: The file.
        what: What kind of file it is, for the message.
        error: The error to raise if the file cannot be read or is not TOML.

    Returns:
        The parsed content, and the file's bytes.
    """
    # A worker has its own folder and disk, so the message has the absolute path of the missing file.
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
