"""What a task run reads and writes, for Prefect's Assets page: URIs, rows, bytes and column names; never a value."""

import hashlib
import os
from typing import Any
from urllib.parse import unquote_to_bytes

from prefect.assets import Asset
from prefect.context import AssetContext

from clinops_prefect.artifacts.info import ArtifactInfo

# Column names are text that the user chose; a thousand of them would drown the page.
_MOST_COLUMNS = 200
_MOST_KEY = 512
# What a key takes beside letters and digits. Not the tilde, which begins an encoded character.
_PLAIN = "/:._-=+,@!*()$;"


def wrote(info: ArtifactInfo) -> None:
    """Tell the task run, if there is one, that it made this artifact."""
    metadata: dict[str, Any] = {
        "uri": info.uri,
        "rows": info.rows,
        "bytes": info.bytes,
        "number of columns": len(info.schema),
        "columns": list(info.schema)[:_MOST_COLUMNS],
    }
    wrote_object(info.uri, metadata)


def wrote_object(uri: str, metadata: dict[str, Any]) -> None:
    """Tell the task run, if there is one, that it made this object."""
    context = AssetContext.get()
    if context is not None:
        asset = _asset(uri)
        context.downstream_assets.add(asset)
        context.add_asset_metadata(asset.key, metadata)
        context.update_tracked_assets()


def read(uri: str) -> None:
    """Tell the task run, if there is one, that what it makes depends on this."""
    context = AssetContext.get()
    if context is not None:
        context.direct_asset_dependencies.add(_asset(uri))
        context.update_tracked_assets()


def _asset(uri: str) -> Asset:
    key = "".join(part if part.isalnum() or part in _PLAIN else _encoded(part) for part in _as_written(uri))
    if len(key) > _MOST_KEY:
        digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:32]
        key = f"{key[: _MOST_KEY - len(digest) - 2]}~~{digest}"
    return Asset(key=key)


def _as_written(uri: str) -> str:
    # Only file:// URIs come percent-encoded; encoding them again would show another name than the file has.
    return os.fsdecode(unquote_to_bytes(uri)) if uri.startswith("file://") else uri


def _encoded(character: str) -> str:
    # A key takes fewer characters than a URI. The percent sign of an encoded one is among those it does not take.
    return "".join(f"~{byte:02X}" for byte in os.fsencode(character))
