"""Symbolic links in a local store's directory: exactly the listed artifacts can be read."""

import errno
import logging
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clinops_prefect import (
    AccessDeniedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    InvalidArtifactNameError,
    LocalPipelineStore,
    OperationNotSupportedError,
)
from tests.gallery import assert_same

FRAME = pd.DataFrame({"code": ["007", "b"], "v": [1, 2]})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def _all_readable(store: LocalPipelineStore) -> list[str]:
    names = store.list_artifacts()
    for name in names:
        assert store.exists(name), name
        assert_same(store.download(name), FRAME)
    return names


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_a_folder_behind_a_link_is_listed_read_written_and_emptied(root: Path, tmp_path: Path, format: str) -> None:
    """Links to another disk, as operators make them: relative and absolute, to another link, and the store itself."""
    elsewhere = tmp_path / "disk"
    LocalPipelineStore(elsewhere, format=format).upload(FRAME, "old/x")
    store = LocalPipelineStore(root, prefix="p", format=format)
    store.upload(FRAME, "own")
    (root / "p/disk").symlink_to(elsewhere)
    (root / "p/again").symlink_to("disk")
    assert _all_readable(store) == ["again/old/x", "disk/old/x", "own"]
    assert store.list_artifacts("disk") == ["disk/old/x"]
    assert store.list_artifacts("disk/old/") == ["disk/old/x"]
    store.upload(FRAME, "disk/new/y")
    with pytest.raises(ArtifactExistsError):
        store.upload(FRAME, "again/new/y", overwrite=False)
    assert (elsewhere / f"new/y.{format}").is_file()
    for name in ("disk/new/y", "disk/old/x"):
        store.delete_artifact(name)
    assert _all_readable(store) == ["own"]
    # The operator's link and folder stay.
    assert (root / "p/disk").is_symlink()
    assert elsewhere.is_dir()
    linked = tmp_path / "link"
    linked.symlink_to(root)
    assert _all_readable(LocalPipelineStore(linked, prefix="p", format=format)) == ["own"]


def test_loops_end_and_list_each_file_once_in_each_place(root: Path) -> None:
    store = LocalPipelineStore(root)
    store.upload(FRAME, "a/x")
    store.upload(FRAME, "b/y")
    (root / "a/self").symlink_to(".")
    (root / "a/up").symlink_to("..")
    (root / "a/b").symlink_to("../b")
    (root / "b/a").symlink_to("../a")
    (root / "nowhere").symlink_to("nowhere")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    assert _all_readable(store) == ["a/b/y", "a/x", "b/a/x", "b/y"]
    for prefix in ("a", "b", "a/b", "b/a"):
        below = [name for name in store.list_artifacts() if name.startswith(f"{prefix}/")]
        assert store.list_artifacts(prefix) == below
    assert store.exists("a/self/x")  # readable, but listed only once, at its real place


def test_a_link_to_a_file_is_an_artifact_and_a_broken_one_is_not(root: Path, tmp_path: Path) -> None:
    store = LocalPipelineStore(root)
    store.upload(FRAME, "x")
    (root / "link.parquet").symlink_to("x.parquet")
    (root / "broken.parquet").symlink_to("gone.parquet")
    (root / "loop.parquet").symlink_to("loop.parquet")
    os.mkfifo(root / "pipe.parquet")
    (root / "folder.parquet").mkdir()
    assert _all_readable(store) == ["link", "x"]
    for name in ("broken", "loop", "pipe", "folder"):
        assert not store.exists(name)
        with pytest.raises(ArtifactNotFoundError):
            store.download(name)
    store.upload(FRAME[:1], "link")
    assert_same(store.download("x"), FRAME)
    (tmp_path / "target.parquet").write_bytes((root / "x.parquet").read_bytes())
    (root / "removed.parquet").symlink_to(tmp_path / "target.parquet")
    store.delete_artifact("removed")
    assert (tmp_path / "target.parquet").is_file()


def test_a_folder_that_cannot_be_read_is_an_error_and_not_a_shorter_list(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalPipelineStore(root)
    store.upload(FRAME, "a/x")
    store.upload(FRAME, "b/y")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        # The tests may run as root, for whom file modes have no effect.
        if str(path).endswith("/b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert store.list_artifacts("a") == ["a/x"]
    with pytest.raises(AccessDeniedError):
        store.list_artifacts()


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL], ids=["NFS", "old kernel", "others"])
def test_a_file_system_without_nameless_files_takes_named_ones(
    root: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first error is that of NFS and FAT. The test cannot mount such a file system."""
    opened, refused = os.open, []

    def refuse(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            refused.append(path)
            raise OSError(error, os.strerror(error))
        return opened(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    store = LocalPipelineStore(root)
    store.upload(FRAME[:0], "x")
    store.upload(FRAME, "x")
    with pytest.raises(ArtifactExistsError):
        store.upload(FRAME[:0], "x", overwrite=False)
    store.upload(FRAME, "below/y", overwrite=False)
    assert refused
    for name in ("x", "below/y"):
        assert_same(store.download(name), FRAME)
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == ["x.parquet", "y.parquet"]


def test_a_file_system_without_hard_links_says_so_and_nothing_is_written(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is FAT's. The test cannot mount such a file system."""
    monkeypatch.setattr("clinops_prefect.storage.local.atomic_file._CAN_BE_NAMELESS", False)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    store = LocalPipelineStore(root)
    with pytest.raises(OperationNotSupportedError, match="hard links"):
        store.upload(FRAME, "x", overwrite=False)
    assert [path for path in root.rglob("*") if path.is_file()] == []
    store.upload(FRAME, "x")
    assert_same(store.download("x"), FRAME)


@pytest.mark.parametrize("error", [errno.ENOTSUP, errno.ENOSYS, None], ids=["not supported", "no such call", "macOS"])
@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_a_file_system_without_extended_attributes_keeps_frames_and_says_what_it_does_not_keep(
    root: Path, format: str, error: int | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The errors are those of such file systems. The test cannot mount one."""

    def refuse(*_: Any) -> None:
        assert error is not None
        raise OSError(error, os.strerror(error))

    for name in ("setxattr", "getxattr"):
        if error is None:
            monkeypatch.delattr(os, name)
        else:
            monkeypatch.setattr(os, name, refuse)
    store = LocalPipelineStore(root, format=format)
    with caplog.at_level(logging.WARNING):
        store.upload(FRAME, "x")
    assert not store._backend().keeps_metadata(f"x.{format}")
    assert_same(store.download("x"), FRAME)
    if format == "csv":
        assert f"{root} keeps no extended attributes" in caplog.text


@pytest.mark.parametrize("without", ["source", "target", "both"])
def test_a_csv_artifact_without_extended_attributes_keeps_its_sidecar(
    root: Path, without: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader and the writers find the sidecar by the checksum of the text that they read."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    bare = {"source": [root], "target": [elsewhere], "both": [root, elsewhere]}[without]
    kept, told = os.setxattr, os.getxattr

    def path_of(file: Any) -> Path:
        return Path(f"/proc/self/fd/{file}").readlink() if isinstance(file, int) else Path(file)

    def only_elsewhere(call: Any) -> Any:
        def called(file: Any, *arguments: Any) -> Any:
            if any(path_of(file).is_relative_to(folder) for folder in bare):
                raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
            return call(file, *arguments)

        return called

    monkeypatch.setattr(os, "setxattr", only_elsewhere(kept))
    monkeypatch.setattr(os, "getxattr", only_elsewhere(told))
    old = pd.DataFrame({"code": ["007", None], "day": pd.to_datetime(["2024-01-01", None]), "n": [1.5, 2]})
    new = old.assign(code=["008", "009"])
    store, other = (LocalPipelineStore(folder, format="csv") for folder in (root, elsewhere))

    def sidecars(folder: Path) -> int:
        return len(list(folder.glob("*.schema.json")))

    store.upload(old, "x", overwrite=False)
    with pytest.raises(ArtifactExistsError):
        store.upload(new, "x", overwrite=False)
    assert_same(store.download("x"), old)
    store.upload(new, "x", metadata={"run": "seven"})
    assert_same(pd.concat(store.iter_batches("x")), new)
    assert (store.stat("x").rows, store.stat("x").metadata, sidecars(root)) == (2, {"run": "seven"}, 1)

    store.copy_artifact("x", "y")
    store.copy_artifact("x", "x", store=other)
    for copied, name in ((store, "y"), (other, "x")):
        assert_same(copied.download(name), new)
        assert copied.stat(name).metadata == {"run": "seven"}
    assert (sidecars(root), sidecars(elsewhere)) == (2, 1)

    # A text of another program has no sidecar, and removing the artifacts removes theirs.
    (root / "y.csv").unlink()
    (root / "y.csv").write_text("code\n007\n")
    assert store.download("y")["code"].tolist() == ["007"]
    assert store.stat("y").rows is None
    for name in ("x", "y"):
        store.delete_artifact(name)
    assert list(root.iterdir()) == []


def test_an_extended_attribute_that_cannot_be_written_for_another_reason_is_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "setxattr", refuse)
    store = LocalPipelineStore(root, format="csv")
    with pytest.raises(AccessDeniedError):
        store.upload(FRAME, "x")
    assert store.list_artifacts() == []
    assert store._backend().keeps_metadata("x.csv")


def test_a_name_that_a_folder_has_or_that_is_below_a_file_is_refused(root: Path) -> None:
    store = LocalPipelineStore(root)
    store.upload(FRAME, "kept")
    (root / "folder.parquet").mkdir()
    (root / "file").write_bytes(b"1")
    for name in ("folder", "file/x"):
        with pytest.raises(InvalidArtifactNameError) as caught:
            store.upload(FRAME, name)
        assert caught.value.uri == store.uri(name)
        assert str(caught.value).startswith(store.uri(name))
        with pytest.raises(ArtifactNotFoundError):
            store.list_versions(name)
        assert not store.exists(name)
    assert store.list_artifacts() == ["kept"]
