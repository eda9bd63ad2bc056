"""A file that appears under its name only when it is complete, even if the writing process is killed."""

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

# Prefix of the names of incomplete files. Listings skip such files.
TEMPORARY = ".clinops-"

# A file without a name disappears with the process that writes it. Linux supports this on nearly every file system.
_CAN_BE_NAMELESS = hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir()
# Where files cannot be locked, an incomplete file that nobody has written to for this long counts as abandoned.
_STALE_SECONDS = 24 * 3600.0
# A directory, which may have many files, is searched for abandoned files at most this often.
_SWEEP_SECONDS = 3600.0
_swept: dict[Path, float] = {}
# A process that removes the last file of a directory also removes the directory, perhaps one that we have just made.
_TRIES = 100


class AtomicFile:
    """A new file, as a context manager. Without a call of `place`, leaving the context discards the file.

    Args:
        path: The path that `place` gives the file. Missing directories are made.

    Raises:
        NotADirectoryError: A parent in the path is a file.
        OSError: Any other error of the file system.
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
            # Closing writes the rest of the buffer, which fails on a full disk.
            self._file.close()
        finally:
            if self._named is not None:
                self._named.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append to the file."""
        self._file.write(data)

    def fileno(self) -> int:
        """The file descriptor, for setting extended attributes."""
        return self._file.fileno()

    def place(self, overwrite: bool) -> None:
        """Give the complete file its name, in one step.

        Raises:
            FileExistsError: `overwrite` is false and a file of that name exists.
        """
        self._file.flush()
        # Without this, a crash of the machine could leave an empty file under the right name.
        os.fsync(self._file.fileno())
        if not overwrite:
            self._retried(lambda: self._link(self._path))
        else:
            if self._named is None:
                # A hard link cannot replace an existing file, but a rename can.
                named = _temporary_name(self._path.parent)
                self._retried(lambda: self._link(named))
                self._named = named
            self._named.replace(self._path)
        # A missing directory means that somebody has already removed the file, so nothing is left to sync.
        with suppress(FileNotFoundError):
            _sync(self._path.parent)
        now = time.time()
        if now - _swept.get(self._path.parent, 0.0) >= _SWEEP_SECONDS:
            _swept[self._path.parent] = now
            sweep(self._path.parent)

    def _create(self) -> None:
        directory = self._path.parent
        if _CAN_BE_NAMELESS:
            # The error of a file system without nameless files, such as NFS, differs between systems. Any other error
            # comes again when the named file is made.
            with suppress(OSError):
                self._file = os.fdopen(os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o666), "wb")
                _lock(self._file.fileno())
                return
        named = _temporary_name(directory)
        self._file = named.open("xb")
        if not _lock(self._file.fileno()) or not named.exists():
            # Another process is about to remove the file as abandoned, or did so before we locked it.
            self._file.close()
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(named))
        self._named = named

    def _link(self, path: Path) -> None:
        source = self._named or Path(f"/proc/self/fd/{self._file.fileno()}")
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            # Python follows the link in /proc to the nameless file only if the directory descriptors are given.
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
        # pathlib also raises this error if the directory existed for mkdir but is gone when pathlib checks its type.
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
    """Remove the incomplete files that killed processes have left in the directory."""
    # The caller's own write has succeeded, so an error here (another process sweeps too, no permission) is ignored.
    with suppress(OSError):
        for path in directory.glob(f"{TEMPORARY}*.tmp"):
            _remove_if_abandoned(path)


def remove_empty(directory: Path) -> bool:
    """Remove a directory that holds no artifact, with its empty directories and abandoned files. True if it is gone."""
    with suppress(OSError):
        with os.scandir(directory) as entries:
            # `all` stops at the first artifact, since a directory may have very many.
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


def _lock(descriptor: int) -> bool:
    """Lock the file until this process ends, so that files of killed processes can be recognised.

    Returns:
        False if another process has locked the file.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def _remove_if_abandoned(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:
            if time.time() - path.stat().st_mtime <= _STALE_SECONDS:
                return
        # While it is locked: a writer that has just made the file locks it next, and would else believe that it stays.
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
