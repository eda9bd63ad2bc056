"""What an artifact is stored as. Apart from the code that does it, which brings pandas and PyArrow."""

from enum import StrEnum

# What a Parquet file begins and ends with.
PARQUET_MAGIC = b"PAR1"


class StorageFormat(StrEnum):
    """What an artifact is stored as. Parquet unless something must read it that cannot read Parquet."""

    PARQUET = "parquet"
    CSV = "csv"

    @property
    def extension(self) -> str:
        """With the dot."""
        return f".{self.value}"

    @property
    def content_type(self) -> str:
        """As registered with IANA."""
        return "application/vnd.apache.parquet" if self is StorageFormat.PARQUET else "text/csv"

    @property
    def sidecar_bytes(self) -> int:
        """How much longer than an artifact's key the key of its sidecar is; 0 for a format without one."""
        return len(".0123456789abcdef.schema.json") if self is StorageFormat.CSV else 0
