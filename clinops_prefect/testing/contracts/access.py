"""Direct SDK access: reads and writes the objects with the provider's own client, without the code under test."""

from typing import Protocol


class DirectAccess(Protocol):
    """What the contract suites do with the provider's own client.

    With it the suites check what the store wrote, and write what the store is to read. Keys are full keys, with the
    store's prefix and the extension.
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
        """Replace the bytes of an object and keep its metadata, as a failing disk would."""
        ...

    def unfinished(self) -> list[str]:
        """The keys of temporary files, and of uploads that were neither finished nor aborted.

        The list is empty if the service has no unfinished uploads, or cannot list them.
        """
        ...

    def keep_versions(self) -> object:
        """Switch on versions for the empty bucket. Called only if the backend has versions."""
        ...
