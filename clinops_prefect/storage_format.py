"""The storage formats of artifacts. Apart from the code for them, which imports pandas and PyArrow."""

from enum import StrEnum

# The first and the last four bytes of a Parquet file.
PARQUET_MAGIC = b"PAR1"


class StorageFormat(StrEnum):
    """The storage format of an artifact. Use Parquet, unless a program that cannot read Parquet must read it."""

    PARQUET = "parquet"
    CSV = "csv"

    @property
    def extension(self) -> str:
        """The file name extension, with the dot."""
        return f".{self.value}"

    @property
    def content_type(self) -> str:
        """The media type as registered with IANA."""
        return "application/vnd.apache.parquet" if self is StorageFormat.PARQUET else "text/csv"

    @property
    def sidecar_bytes(self) -> int:
        """How many bytes longer the key of a sidecar is than its artifact's key; 0 for a format without sidecars."""
        return len(".0123456789abcdef.schema.json") if self is StorageFormat.CSV else 0
