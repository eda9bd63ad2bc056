"""A file that appears whole under its name, or not at all, whatever kills the process that writes it."""

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

# In front of the name of a file that is not complete; a listing leaves such files out.
TEMPORARY = ".clinops-"

# A file without a name goes with the process that writes it. Linux has them, on nearly every file system.
_CAN_BE_NAMELESS = hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir()
# Where files cannot be locked: nobody writes to a file for this long without adding to it.
_STALE_SECONDS = 24 * 3600.0
# What killed processes left behind is looked for at most this often in a directory, which may have many files.
_SWEEP_SECONDS = 3600.0
_swept: dict[Path, float] = {}
# Whoever removes the last file below a path removes the path too, which may be the one that was just made here.
_TRIES = 100


class AtomicFile:
    """A file to write, then to `place`; left without that, it is gone.

    Args:
        path: The name that it will have. The directories of it are made.

    Raises:
        NotADirectoryError: A part of the path is a file.
        OSError: As the file system says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes]
        self._named: Path | None = None

    def __enter__(self) -> Self:
        self._retried(self._create)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            # Writes what is still buffered, for which a full disk has no room.
            self._file.close()
        finally:
            if self._named is not None:
                self._named.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Add to the file."""
        self._file.write(data)

    def fileno(self) -> int:
        """For extended attributes."""
        return self._file.fileno()

    def place(self, overwrite: bool) -> None:
        """Give the complete file its name, in one step.

        Raises:
            FileExistsError: `overwrite` is false and there is a file of that name.
        """
        self._file.flush()
        # A crash of the machine must not leave a file with the right name and no content.
        os.fsync(self._file.fileno())
        if not overwrite:
            self._retried(lambda: self._link(self._path))
        else:
            if self._named is None:
                # A link cannot replace; a rename can.
                named = _temporary_name(self._path.parent)
                self._retried(lambda: self._link(named))
                self._named = named
            self._named.replace(self._path)
        # Not there any more: somebody removed the file already, and there is nothing to keep.
        with suppress(FileNotFoundError):
            _sync(self._path.parent)
        now = time.time()
        if now - _swept.get(self._path.parent, 0.0) >= _SWEEP_SECONDS:
            _swept[self._path.parent] = now
            sweep(self._path.parent)

    def _create(self) -> None:
        directory = self._path.parent
        if _CAN_BE_NAMELESS:
            # A file system without them says so in one of these ways.
            with suppress(IsADirectoryError, NotImplementedError):
                self._file = os.fdopen(os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o666), "wb")
                _lock(self._file.fileno())
                return
        named = _temporary_name(directory)
        self._file = named.open("xb")
        _lock(self._file.fileno())
        if not named.exists():
            # Somebody took it for abandoned before it was locked.
            self._file.close()
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(named))
        self._named = named

    def _link(self, path: Path) -> None:
        source = self._named or Path(f"/proc/self/fd/{self._file.fileno()}")
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            # With a directory given, Python follows the link in /proc to the nameless file; without, it does not.
            os.link(source, path.name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(directory)

    def _retried(self, step: Callable[[], None]) -> None:
        for last in (*[False] * (_TRIES - 1), True):
            try:
                _make(self._path.parent)
                step()
            except FileNotFoundError:
                if last:
                    raise
            else:
                return


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        # Also what pathlib says of a directory that was there for mkdir and is gone when it looks what it was.
        if any(parent.is_file() for parent in (directory, *directory.parents)):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from None
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory)) from None


def _temporary_name(directory: Path) -> Path:
    return directory / f"{TEMPORARY}{uuid.uuid4().hex}.tmp"


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(directory: Path) -> None:
    """Remove what processes that were killed have left in the directory."""
    # It is no concern of the caller if somebody else removes the same, or may not.
    with suppress(OSError):
        for path in directory.glob(f"{TEMPORARY}*.tmp"):
            if _is_abandoned(path):
                path.unlink(missing_ok=True)


def remove_empty(directory: Path) -> bool:
    """Remove a directory in which is nothing but what killed processes left, such as empty ones; whether it is gone."""
    with suppress(OSError):
        with os.scandir(directory) as entries:
            # The first artifact ends this: a directory may have very many.
            only_left = all(
                entry.name.startswith(TEMPORARY)
                or (entry.is_dir(follow_symlinks=False) and remove_empty(Path(entry.path)))
                for entry in entries
            )
        if only_left:
            sweep(directory)
            directory.rmdir()
            return True
    return False


def _lock(descriptor: int) -> None:
    """Hold the file as long as this process lives: a killed one's is nobody's."""
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_abandoned(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - path.stat().st_mtime > _STALE_SECONDS
    finally:
        os.close(descriptor)
    return True
