"""The local store on a full or read-only disk, after a crash at the worst moment, and with two writers."""

import contextlib
import errno
import fcntl
import multiprocessing
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import AccessDeniedError, ArtifactNotFoundError, LocalPipelineStore, ServiceUnavailableError
from clinops_prefect.artifacts.parquet import ParquetCodec
from clinops_prefect.artifacts.removal import remove_all
from clinops_prefect.storage.local import atomic_file
from clinops_prefect.storage.local.backend import LocalBackend
from tests.doors import LocalDoor
from tests.faults.victim import start, version, write_again_and_again, write_named
from tests.gallery import assert_same

SMALL = pd.DataFrame({"v": range(100)})
# 16 MB that do not compress, for a disk of 8.
BIG = pd.DataFrame({f"c{i}": np.random.default_rng(i).random(130_000) for i in range(16)})
DISK_BYTES = 8 << 20
NOBODY = 65534


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of eight megabytes. None if this process may not mount one."""
    root = tmp_path / "disk"
    root.mkdir()
    options = f"size={DISK_BYTES},mode=0777"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", root], capture_output=True).returncode:
        yield None
        return
    yield root
    subprocess.run(["umount", "--lazy", root], check=True)


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("write", ["upload", "upload_batches", "write_bytes", "copy"])
def test_a_full_disk_is_a_service_unavailable_error_and_keeps_the_old_artifact(
    disk: Path | None, write: str, nameless: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_file, "_CAN_BE_NAMELESS", nameless)
    root = disk or tmp_path / "limited"
    store = LocalPipelineStore(root)
    store.upload(SMALL, "x")
    store.write_bytes("x.bin", b"old")
    store.upload(BIG.iloc[:50_000], "half")  # six of the eight megabytes
    before = {path.name: path.read_bytes() for path in root.iterdir()}
    calls: dict[str, Callable[[], Any]] = {
        "upload": lambda: store.upload(BIG, "x"),
        "upload_batches": lambda: store.upload_batches([BIG.iloc[:9_000], BIG], "x"),
        "write_bytes": lambda: store.write_bytes("x.bin", bytes(3 << 20)),
        "copy": lambda: store.copy_artifact("half", "x"),
    }
    # Without a mount, files are limited to two megabytes, and the kernel answers a longer write with EFBIG.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if disk is None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, limits[1]))
    try:
        with pytest.raises(ServiceUnavailableError) as caught:
            calls[write]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.uri.startswith(root.as_uri())
    if disk is not None:
        assert "Free some space" in str(caught.value)
    assert {path.name: path.read_bytes() for path in root.iterdir()} == before
    assert_same(store.download("x"), SMALL)
    store.delete_artifact("half")
    store.upload(SMALL[:7], "x")
    assert_same(store.download("x"), SMALL[:7])


def test_a_local_folder_is_searched_for_leftovers_at_most_once_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched, now = list[Path](), 0.0
    monkeypatch.setattr(atomic_file, "sweep", searched.append)
    monkeypatch.setattr(atomic_file, "time", SimpleNamespace(time=lambda: now))
    store = LocalPipelineStore(tmp_path)
    for now, times in ((1e9, 1), (1e9 + 3599, 1), (1e9 + 3600, 2)):  # noqa: B007
        store.write_bytes("x.bin", b"1")
        assert searched == [tmp_path] * times


def test_a_read_that_the_disk_fails_names_the_artifact_and_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = LocalPipelineStore(tmp_path)
    store.write_bytes("x.bin", b"1")
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(ServiceUnavailableError, match=r"x\.bin: Input/output error$") as caught:
        store.read_bytes("x.bin")
    assert caught.value.uri == (tmp_path / "x.bin").as_uri()


def test_a_folder_that_is_read_only_can_be_read_and_refuses_writes() -> None:
    """The process has no privileges, because root can write to every folder."""
    # Not in pytest's own folder, because only its owner may read that one.
    with tempfile.TemporaryDirectory() as created:
        root = Path(created)
        store = LocalPipelineStore(root)
        store.upload(SMALL, "x")
        before = (root / "x.parquet").read_bytes()
        root.chmod(0o555)
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        child = context.Process(target=_use_without_privileges, args=(store, answers))
        child.start()
        found = answers.get(timeout=600)
        child.join()
        assert found == {
            "upload": "AccessDeniedError",
            "upload_batches": "AccessDeniedError",
            "upload below": "AccessDeniedError",
            "write_bytes": "AccessDeniedError",
            "delete": "AccessDeniedError",
            "copy": "AccessDeniedError",
            "download": SMALL["v"].tolist(),
            "list": ["x"],
            "stat": 100,
        }
        assert {path.name: path.read_bytes() for path in root.iterdir()} == {"x.parquet": before}
        root.chmod(0o755)


def _use_without_privileges(store: LocalPipelineStore, answers: Any) -> None:
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    calls: dict[str, Callable[[], Any]] = {
        "upload": lambda: store.upload(SMALL[:1], "x"),
        "upload_batches": lambda: store.upload_batches([SMALL], "y"),
        "upload below": lambda: store.upload(SMALL, "a/b"),
        "write_bytes": lambda: store.write_bytes("r.txt", b"1"),
        "delete": lambda: store.delete_artifact("x"),
        "copy": lambda: store.copy_artifact("x", "y"),
        "download": lambda: store.download("x")["v"].tolist(),
        "list": store.list_artifacts,
        "stat": lambda: store.stat("x").rows,
    }
    found = {}
    for name, call in calls.items():
        try:
            found[name] = call()
        except AccessDeniedError as error:
            found[name] = type(error).__name__
        except Exception as error:
            found[name] = repr(error)
    answers.put(found)


@pytest.mark.parametrize("killed_at", ["rename", "content"])
def test_leftovers_of_a_crash_are_never_listed_and_are_removed_later(tmp_path: Path, killed_at: str) -> None:
    """On a file system without nameless files, such as NFS, a temporary file outlives its writer."""
    store, door = LocalPipelineStore(tmp_path), LocalDoor(tmp_path)
    store.upload(SMALL, "x")
    victim = start(write_named, store, BIG, killed_at)
    victim.join()
    assert victim.exitcode == -9
    (left,) = door.unfinished()
    assert (tmp_path / left).stat().st_size > 0
    assert store.list_artifacts() == ["x"]
    assert_same(store.download("x"), SMALL)
    # As if this process had not written here for an hour.
    atomic_file._swept.clear()
    store.upload(SMALL[:8], "x")
    assert door.unfinished() == []
    assert_same(store.download("x"), SMALL[:8])


@pytest.mark.parametrize("nameless", [True, False])
def test_a_temporary_file_that_is_being_written_is_not_removed(
    tmp_path: Path, nameless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_file, "_CAN_BE_NAMELESS", nameless)
    store, door = LocalPipelineStore(tmp_path), LocalDoor(tmp_path)
    with atomic_file.AtomicFile(tmp_path / "slow.parquet") as slow:
        slow.write(b"half")
        if nameless:
            slow._link(tmp_path / f"{atomic_file.TEMPORARY}slow.tmp")
        assert len(door.unfinished()) == 1
        atomic_file._swept.clear()
        store.upload(SMALL, "x")
        store.delete_artifact("x")
        assert len(door.unfinished()) == 1
    atomic_file._swept.clear()
    store.upload(SMALL, "x")
    assert door.unfinished() == []


def test_a_file_that_is_just_being_made_is_not_taken_away_by_a_search_for_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its lock, another process may lock it as abandoned, and then remove it."""
    monkeypatch.setattr(atomic_file, "_CAN_BE_NAMELESS", False)
    store, lock, searched = LocalPipelineStore(tmp_path), atomic_file._lock, list[Path]()

    def search_first(descriptor: int) -> bool:
        if searched:
            return lock(descriptor)
        searched.extend(tmp_path.glob(f"{atomic_file.TEMPORARY}*"))
        with searched[0].open("rb+") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock(descriptor)

    monkeypatch.setattr(atomic_file, "_lock", search_first)
    store.upload(SMALL, "x")
    assert len(searched) == 1
    assert_same(store.download("x"), SMALL)


def test_an_abandoned_file_is_locked_until_it_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left, unlink, locked = tmp_path / f"{atomic_file.TEMPORARY}left.tmp", Path.unlink, list[bool]()
    left.write_bytes(b"half")

    def removed(path: Path, missing_ok: bool = False) -> None:
        with path.open("rb+") as other, contextlib.suppress(BlockingIOError):
            locked.append(True)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked[-1] = False
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", removed)
    atomic_file.sweep(tmp_path)
    assert locked == [True]
    assert not left.exists()


def test_many_removals_that_fail_at_once_say_how_many_succeeded(tmp_path: Path) -> None:
    class Refusing(LocalBackend):
        def _remove(self, key: str) -> None:
            raise PermissionError(errno.EACCES, "refused")

    for _ in range(3):
        with pytest.raises(AccessDeniedError, match="0 of 3000 artifacts were deleted"):
            remove_all(Refusing(tmp_path), ParquetCodec(), [f"k{number}" for number in range(3_000)], ())


def test_a_folder_is_removed_with_its_last_artifact_despite_leftovers_of_a_killed_writer(tmp_path: Path) -> None:
    store, door = LocalPipelineStore(tmp_path), LocalDoor(tmp_path)
    store.upload(SMALL, "a/b/x")
    (tmp_path / "a/b" / f"{atomic_file.TEMPORARY}left.tmp").write_bytes(b"half")
    store.delete_artifact("a/b/x")
    assert list(tmp_path.iterdir()) == []
    assert door.unfinished() == []


def test_two_processes_that_write_simultaneously_leave_one_of_their_versions(tmp_path: Path) -> None:
    for format in ("parquet", "csv"):
        store = LocalPipelineStore(tmp_path / format, format=format)
        store.upload(version(0, 2_000), "x")
        numbers = [list(range(1, 13)), list(range(101, 113))]
        pipes = [multiprocessing.Pipe() for _ in numbers]
        writers = [
            start(write_again_and_again, store, mine, there) for mine, (_, there) in zip(numbers, pipes, strict=True)
        ]
        for here, _ in pipes:
            here.send("go")
        seen: set[int] = set()
        # Until it has met both writers, and some of their versions.
        while len(seen) < 5 or not (min(seen - {0}) < 100 < max(seen)):
            found = store.download("x")
            seen.add(int(found["version"].iloc[0]))
            assert_same(found, version(int(found["version"].iloc[0]), 2_000))
            assert all(writer.is_alive() for writer in writers)
        for here, _ in pipes:
            here.send("enough")
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0, 0]
        last = store.download("x")
        assert int(last["version"].iloc[0]) in (12, 112)
        assert_same(last, version(int(last["version"].iloc[0]), 2_000))
        assert len(LocalDoor(tmp_path / format).keys()) == {"parquet": 1, "csv": 2}[format]


def test_a_named_pipe_in_the_directory_is_no_artifact_and_blocks_no_call(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.parquet")
    store = LocalPipelineStore(tmp_path)
    for read in (store.download, store.stat, lambda name: list(store.iter_batches(name))):
        with pytest.raises(ArtifactNotFoundError):
            read("x")
    assert not store.exists("x")
    store.upload(SMALL, "x")
    assert_same(store.download("x"), SMALL)


def test_a_folder_that_a_crash_left_empty_is_removed_later(tmp_path: Path) -> None:
    """The next removal in the same folder also removes empty folders, but none that holds an artifact."""
    store = LocalPipelineStore(tmp_path)
    for name in ("a/crashed/deep/x", "a/b/y", "a/kept/deep/z"):
        store.upload(SMALL, name)
    (tmp_path / "a/crashed/deep/x.parquet").unlink()
    store.delete_artifact("a/kept/deep/z")
    store.upload(SMALL, "a/kept/deep/z")
    store.delete_artifact("a/b/y")
    assert store.list_artifacts() == ["a/kept/deep/z"]
    store.delete_artifact("a/kept/deep/z")
    assert list(tmp_path.iterdir()) == []
