"""The store block for a directory: no account, no network, the same interface."""

import os
import re
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

from prefect.filesystems import LocalFileSystem
from pydantic import Field, HttpUrl

from clinops_prefect.errors import InvalidStoreError
from clinops_prefect.locations import shown
from clinops_prefect.storage.backend import Backend
from clinops_prefect.storage.local.backend import LocalBackend
from clinops_prefect.store import PipelineStore
from clinops_prefect.store_block import run_logger

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# A percent sign that encodes nothing, an encoded slash, or an encoded NUL, which ends a path.
_BAD_ENCODING = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}|%2[fF]|%00")


class LocalPipelineStore(PipelineStore):
    """Hand DataFrames from step to step through a directory: the default, with no account and no network.

    The store follows symbolic links in the directory, so whoever may make links there decides what the store reaches.
    No artifact name leads out of the directory, and the store never makes a link. If an artifact is a link, overwriting
    or deleting the artifact replaces or removes the link, not its target.

    Attributes:
        directory: The directory. The first write creates it.
        prefix: The path in the directory below which the store keeps everything it writes.
        format: Parquet, or CSV.
        allow_pickle: Whether Prefect results may be read with a serializer that can run code.

    Example:
        Load a saved store and pass a frame on:
        ```python
        import pandas as pd

        from clinops_prefect import LocalPipelineStore

        store = LocalPipelineStore.load("BLOCK_NAME")
        windows = pd.DataFrame({"stay_id": [1, 2], "heart_rate": [84.0, 91.5]})
        uri = store.upload(windows, "features/windows_2024_01")
        windows = store.download("features/windows_2024_01")
        ```
    """

    _block_type_name = "Local Pipeline Store"
    _block_type_slug = "local-pipeline-store"
    # The logo of Prefect's own block for local files.
    _logo_url = HttpUrl(str(LocalFileSystem._logo_url))
    _first_field: ClassVar[str] = "directory"

    directory: str = Field(
        description="The directory that holds the artifacts; created by the first write.",
        json_schema_extra={"position": 0},
    )

    def __init__(self, directory: str | os.PathLike[str] | None = None, /, **data: Any) -> None:
        if isinstance(data.get("directory"), os.PathLike):
            data["directory"] = os.fspath(data["directory"])
        super().__init__(None if directory is None else os.fspath(directory), **data)
        if _URI.match(self.directory):
            raise InvalidStoreError(
                f"the directory {shown(self.directory)} is a URI: use PipelineStore.from_uri, or that scheme's store"
            )

    @classmethod
    def _at(cls, location: str, *, is_uri: bool, **fields: Any) -> "LocalPipelineStore":
        return cls(_path_of(location) if is_uri else location, **fields)

    @classmethod
    def _backend_type(cls) -> type[Backend]:
        return LocalBackend

    def _backend(self) -> LocalBackend:
        if not self.directory:
            raise InvalidStoreError("the directory of a LocalPipelineStore is empty: give a path, such as './data'")
        try:
            root = Path(self.directory).expanduser().absolute()
        except RuntimeError:
            raise InvalidStoreError(
                f"the directory {self.directory!r} begins with the home directory of a user who has none"
            ) from None
        # The log line shows where the data is, in case the path was mistyped or relative to another folder.
        shown_root = ascii(os.fspath(root))[1:-1]
        return LocalBackend(root, made=lambda: run_logger().info("the store made the new folder %s", shown_root))


def _path_of(location: str) -> str:
    """The path after `file://` in a URI."""
    host, slash, path = location.partition("/")
    if host.casefold() not in ("", "localhost"):
        raise InvalidStoreError(
            f"file://{host} means a folder of the machine {host!r}; did you mean {shown(f'file:///{host}{slash}{path}')}?"
        )
    if not slash:
        raise InvalidStoreError("file:// has no path: write file:///srv/data")
    if bad := _BAD_ENCODING.search(path):
        raise InvalidStoreError(
            f"{shown(f'file:///{path}')} has {bad[0]!r} in it, which is no character of a file's name; write a percent "
            "sign as %25"
        )
    return f"/{os.fsdecode(unquote_to_bytes(path))}"
