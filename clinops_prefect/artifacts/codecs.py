"""The codec of each format. In its own module, because the codecs import the module of the protocol."""

from clinops_prefect.artifacts.codec import Codec
from clinops_prefect.artifacts.csv import CsvCodec
from clinops_prefect.artifacts.parquet import ParquetCodec
from clinops_prefect.storage_format import StorageFormat

_CODECS: dict[StorageFormat, Codec] = {codec.format: codec for codec in (ParquetCodec(), CsvCodec())}


def codec_of(format: StorageFormat) -> Codec:
    """The codec of a format."""
    return _CODECS[format]
