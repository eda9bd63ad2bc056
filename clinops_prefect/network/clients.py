"""The client cache: one client for each process and configuration.

Making a client costs far more than a request (500 small uploads took two minutes with one client each), and a client
stored on a block breaks pickling and deep copies. So clients are kept here; the key is their configuration.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from clinops_prefect.forks import in_child

T = TypeVar("T")

_clients: dict[Hashable, Any] = {}
_lock = threading.Lock()


def cached_client(key: Hashable, make: Callable[[], T]) -> T:
    """Return the client for `key`, made once per process. Safe in threads and after a fork."""
    # Look up without the lock: this is atomic, and every request comes through here.
    if (client := _clients.get(key)) is not None:
        return client  # type: ignore[no-any-return]
    with _lock:
        if key not in _clients:
            _clients[key] = make()
        return _clients[key]  # type: ignore[no-any-return]


def forget_client(key: Hashable) -> None:
    """Remove the client for `key` from the cache, so that the next call of `cached_client` makes a new one."""
    _clients.pop(key, None)


def fingerprint(credentials: Any) -> str:
    """A digest of a credentials block and its secrets, for the key of a client. The digest reveals no secret."""
    if credentials is None:
        return ""
    values = credentials.model_dump(mode="json", context={"include_secrets": True})
    text = json.dumps([type(credentials).__qualname__, values], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _forget() -> None:
    # A forked child that uses its parent's sockets would receive the parent's answers. A lock that another thread of
    # the parent held would never be released in the child.
    global _lock
    _lock = threading.Lock()
    _clients.clear()


in_child(_forget)
