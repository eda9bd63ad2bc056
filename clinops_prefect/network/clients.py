"""One client per process and configuration, whatever asks for it.

Making a client costs far more than a request (500 small uploads took two minutes with one client each), and a client on
a block breaks pickling and deep copies. So clients live here, keyed by what they were made from.
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
    """Return the client made for `key`, making it once per process; safe in threads and after a fork."""
    # Read outside the lock: a dictionary look-up is atomic, and this is on the path of every request.
    if (client := _clients.get(key)) is not None:
        return client  # type: ignore[no-any-return]
    with _lock:
        if key not in _clients:
            _clients[key] = make()
        return _clients[key]  # type: ignore[no-any-return]


def forget_client(key: Hashable) -> None:
    """Make the client for `key` anew when it is asked for next."""
    _clients.pop(key, None)


def fingerprint(credentials: Any) -> str:
    """A digest of a credentials block, secrets included, to key a client by; the digest reveals none of them."""
    if credentials is None:
        return ""
    values = credentials.model_dump(mode="json", context={"include_secrets": True})
    text = json.dumps([type(credentials).__qualname__, values], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _forget() -> None:
    # A child that goes on using its parent's sockets would mix both processes' answers, and a lock that another
    # thread of the parent held would never be released here.
    global _lock
    _lock = threading.Lock()
    _clients.clear()


in_child(_forget)
