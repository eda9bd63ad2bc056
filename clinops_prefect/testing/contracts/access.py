"""Direct SDK access: the same objects through the provider's own client, past the code under test."""

from typing import Protocol


class DirectAccess(Protocol):
    """What the contract suites do without the store.

    The suites check with it what the store wrote, and put there what the store is to read. A key is a full key: the
    store's prefix and the extension are part of it.
    """

    def keys(self) -> list[str]:
        """The keys of all objects, sorted."""
        ...

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write an object, as another program would."""
        ...

    def replace_bytes(self, key: str, data: bytes) -> None:
        """Give an object other bytes and keep its metadata, as a failing disk would."""
        ...

    def unfinished(self) -> list[str]:
        """The keys of uploads that were begun and neither finished nor aborted, and of temporary files.

        An empty list where the service has no such thing, or cannot list it.
        """
        ...

    def keep_versions(self) -> object:
        """Make the empty bucket keep versions. Only called where the backend can."""
        ...
