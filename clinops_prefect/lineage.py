"""What a task run reads and writes, for Prefect's Assets page: URIs, rows, bytes and column names; never a value."""

from typing import Any
from urllib.parse import quote

from prefect.assets import Asset
from prefect.context import AssetContext

from clinops_prefect.artifacts.info import ArtifactInfo

# Column names are text that the user chose; a thousand of them would drown the page.
_MOST_COLUMNS = 200
_MOST_KEY = 512


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
    context, asset = AssetContext.get(), _asset(uri)
    if context is not None and asset is not None:
        context.downstream_assets.add(asset)
        context.add_asset_metadata(asset.key, metadata)
        context.update_tracked_assets()


def read(uri: str) -> None:
    """Tell the task run, if there is one, that what it makes depends on this."""
    context, asset = AssetContext.get(), _asset(uri)
    if context is not None and asset is not None:
        context.direct_asset_dependencies.add(asset)
        context.update_tracked_assets()


def _asset(uri: str) -> Asset | None:
    # A key takes fewer characters than a URI. The percent sign of an encoded one is among those it does not take.
    key = "".join(part if part.isalnum() or part in "/:._-~=+,@!*()$;" else quote(part, safe="") for part in uri)
    key = key.replace("%", "~")
    return Asset(key=key) if len(key) <= _MOST_KEY else None
