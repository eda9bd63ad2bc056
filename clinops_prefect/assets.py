"""Records what a task run reads and writes for Prefect's Assets page: URIs, rows, bytes and column names, no values."""

import hashlib
import os
from typing import Any
from urllib.parse import unquote_to_bytes

from prefect.assets import Asset
from prefect.context import AssetContext

from clinops_prefect.artifacts.info import ArtifactInfo

# The page shows at most this many column names, because a thousand of them would make it unreadable.
_MOST_COLUMNS = 200
_MOST_KEY = 512
# The characters that an asset key may contain besides letters and digits, but without "~", which marks an encoded one.
_PLAIN = "/:._-=+,@!*()$;"


def wrote(info: ArtifactInfo) -> None:
    """Record that the current task run wrote this artifact. Does nothing outside a task run."""
    metadata: dict[str, Any] = {
        "uri": info.uri,
        "rows": info.rows,
        "bytes": info.bytes,
        "number of columns": len(info.schema),
        "columns": list(info.schema)[:_MOST_COLUMNS],
    }
    wrote_object(info.uri, metadata)


def wrote_object(uri: str, metadata: dict[str, Any]) -> None:
    """Record that the current task run wrote this object. Does nothing outside a task run."""
    context = AssetContext.get()
    if context is not None:
        asset = _asset(uri)
        context.downstream_assets.add(asset)
        context.add_asset_metadata(asset.key, metadata)
        context.update_tracked_assets()


def read(uri: str) -> None:
    """Record that the results of the current task run depend on this URI. Does nothing outside a task run."""
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
    # Only file:// URIs are percent-encoded. They are decoded so that the page shows the file's own name.
    return os.fsdecode(unquote_to_bytes(uri)) if uri.startswith("file://") else uri


def _encoded(character: str) -> str:
    # An asset key allows fewer characters than a URI. Percent-encoding is no way out, since "%" is not allowed either.
    return "".join(f"~{byte:02X}" for byte in os.fsencode(character))
