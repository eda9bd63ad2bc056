"""Connections to Cloud Storage on which a large body may take its time, as long as it moves.

The SDK sends a part as one `bytes`, for all of which Python's `sendall` allows one time-out: on a fresh connection
that of connecting. 16 MiB in five seconds is more than many networks carry. Sent in pieces, each has it for itself.
"""

from typing import Any

import requests
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

_PIECE_BYTES = 1 << 20
# As many as threads ask for at once; the default of ten makes the others wait for nothing.
_CONNECTIONS = 64


class _InPieces:
    def send(self, data: Any) -> None:
        for piece in _pieces(data):
            super().send(piece)  # type: ignore[misc]  # of the connection that this is mixed into


class _PlainConnection(_InPieces, HTTPConnection):
    pass


class _TlsConnection(_InPieces, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS = {"http": _PlainPool, "https": _TlsPool}


class Adapter(requests.adapters.HTTPAdapter):
    """What a session of `requests` is to send with."""

    def __init__(self) -> None:
        super().__init__(pool_connections=8, pool_maxsize=_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Called by `requests`."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        """Called by `requests`, once for each proxy."""
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def _pieces(data: Any) -> Any:
    if not isinstance(data, bytes) or len(data) <= _PIECE_BYTES:
        return [data]
    view = memoryview(data)
    return (view[at : at + _PIECE_BYTES] for at in range(0, len(view), _PIECE_BYTES))
