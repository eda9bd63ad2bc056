"""Finds a source's files: one file per table, numbered files, or a folder of files."""

import re
from fnmatch import fnmatch

from flows.sources.objects import SourcePath, as_source_path, in_order, path_below

TABLE_SUFFIXES = (".csv", ".csv.gz", ".csv.bz2", ".csv.zst", ".parquet")
RESOURCE_SUFFIXES = tuple(f".{kind}{packed}" for kind in ("ndjson", "jsonl") for packed in ("", ".gz", ".bz2", ".zst"))
_SHOWN = 8


class TableError(ValueError):
    """A table cannot be read. The message names the path and the column, never a cell."""


class TableNotFoundError(TableError, FileNotFoundError):
    """The source has no such table."""


def find_table(source: str | SourcePath, name: str) -> list[SourcePath]:
    """A table's files, in the order in which to read them.

    Args:
        source: The folder with `icu/` and `hosp/`.
        name: The table, such as `icu/chartevents`: a file of that name with one of `TABLE_SUFFIXES`, numbered parts
            (`chartevents_0001.csv.gz`), or a folder of that name with such files in it, at any depth. Case does not
            matter.

    Raises:
        TableNotFoundError: There is no such table. The message says what was looked for, and what the folder has.
        TableError: The table is there in two forms, and it is not clear which is meant.
    """
    root = as_source_path(source)
    path = root / name
    folder = _folder(root, name.split("/")[:-1])
    stem = path.name.casefold()
    part = re.compile(rf"{re.escape(stem)}[_.-](?:part[_-]?)?\d+")
    ways: dict[str, list[SourcePath]] = {}
    for entry in in_order(folder.iterdir()) if folder is not None else ():
        if entry.is_dir() and entry.name.casefold() == stem:
            for file in in_order(entry.rglob("*")):
                if file.is_file() and not is_hidden(file, entry) and (suffix := _suffix(file, TABLE_SUFFIXES)):
                    ways.setdefault(f"{entry.name}/*{suffix}", []).append(file)
        elif entry.is_file() and (suffix := _suffix(entry, TABLE_SUFFIXES)):
            bare = entry.name.casefold().removesuffix(suffix)
            if bare == stem:
                ways[entry.name] = [entry]
            elif part.fullmatch(bare):
                ways.setdefault(f"{path.name}_*{suffix}", []).append(entry)
    if not ways:
        there = what_is_there(folder if folder is not None else root)
        raise TableNotFoundError(f"{path}: no such table; looked for {', '.join(TABLE_SUFFIXES)}; {there}")
    if len(ways) > 1:
        raise TableError(f"{path}: which one? There are {', '.join(ways)}")
    return next(iter(ways.values()))


def find_optional_table(source: str | SourcePath, name: str) -> list[SourcePath]:
    """As `find_table`, but an empty list if there is no such table."""
    try:
        return find_table(source, name)
    except TableNotFoundError:
        return []


def find_resources(root: SourcePath, pattern: str) -> list[SourcePath]:
    """The sorted NDJSON files whose name without suffix matches a pattern, at any depth. Case does not matter."""
    return in_order(
        file
        for file in root.rglob("*")
        if (suffix := _suffix(file, RESOURCE_SUFFIXES))
        and fnmatch(file.name.casefold().removesuffix(suffix), pattern.casefold())
        and not is_hidden(file, root)
        and file.is_file()
    )


def _folder(source: SourcePath, names: list[str]) -> SourcePath | None:
    for name in names:
        if not source.is_dir():
            return None
        found = [entry for entry in source.iterdir() if entry.is_dir() and entry.name.casefold() == name.casefold()]
        if not found:
            return None
        source = found[0]
    return source if source.is_dir() else None


def _suffix(file: SourcePath, known: tuple[str, ...]) -> str:
    name = file.name.casefold()
    return max((suffix for suffix in known if name.endswith(suffix)), key=len, default="")


def is_hidden(file: SourcePath, below: SourcePath) -> bool:
    """Whether a file is a helper file of a program such as Spark or an editor: `_SUCCESS`, `.part-0.crc`."""
    return any(name.startswith((".", "_")) for name in path_below(file, below).parts)


def what_is_there(folder: SourcePath) -> str:
    """The content of a folder as text, for a message."""
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    if not names:
        return f"{folder} is empty"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{folder} holds {', '.join(names[:_SHOWN])}{more}"
