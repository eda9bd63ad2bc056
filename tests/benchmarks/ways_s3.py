"""How frames get to S3 and back: this package, what clinops 0.6.1 does, and what else one would pick.

Each way is a class with `upload` and `download`; its packages are imported when it is made, so that a process holds
only its own.
"""

import io
from typing import Any

import pandas as pd

from tests.benchmarks.servers import BUCKET

Filters = list[tuple[str, str, Any]]
_LOGIN = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench"}


class Ours:
    """The store of this package."""

    def __init__(self, endpoint: str) -> None:
        import polars  # noqa: F401  # with the first large frame, otherwise; the others' packages are here, too

        from clinops_prefect import S3PipelineStore

        self.store = S3PipelineStore(BUCKET, endpoint_url=endpoint, region="us-east-1")

    def upload(self, df: pd.DataFrame, name: str) -> None:
        self.store.upload(df, name)

    def download(self, name: str, columns: list[str] | None = None, filters: Filters | None = None) -> pd.DataFrame:
        return self.store.download(name, columns=columns, filters=filters)


class Reference:
    """pandas and boto3's managed transfer: what clinops 0.6.1 does."""

    def __init__(self, endpoint: str) -> None:
        import boto3

        self.client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **_LOGIN)

    def upload(self, df: pd.DataFrame, name: str) -> None:
        buffer = io.BytesIO()
        (df if isinstance(df, pd.DataFrame) else df.to_pandas()).to_parquet(buffer)
        buffer.seek(0)
        self.client.upload_fileobj(buffer, BUCKET, f"{name}.parquet")

    def download(self, name: str, columns: list[str] | None = None, filters: Filters | None = None) -> pd.DataFrame:
        buffer = io.BytesIO()
        self.client.download_fileobj(BUCKET, f"{name}.parquet", buffer)
        buffer.seek(0)
        return pd.read_parquet(buffer, columns=columns, filters=filters)


class Polars:
    """polars and its own S3 client, from a pandas frame and back to one."""

    def __init__(self, endpoint: str) -> None:
        import polars

        self.pl = polars
        self.options = {**_LOGIN, "aws_endpoint_url": endpoint, "aws_region": "us-east-1", "aws_allow_http": "true"}

    def upload(self, df: pd.DataFrame, name: str) -> None:
        # lz4: the fastest of its compressions.
        uri = f"s3://{BUCKET}/{name}.parquet"
        frame = self.pl.from_pandas(df) if isinstance(df, pd.DataFrame) else df
        frame.write_parquet(uri, compression="lz4", storage_options=self.options)

    def download(self, name: str, columns: list[str] | None = None, filters: Filters | None = None) -> pd.DataFrame:
        scan = self.pl.scan_parquet(f"s3://{BUCKET}/{name}.parquet", storage_options=self.options)
        for column, _, value in filters or ():
            scan = scan.filter(self.pl.col(column) == value)
        found: pd.DataFrame = (scan.select(columns) if columns else scan).collect().to_pandas()
        return found


class Awswrangler:
    """AWS SDK for pandas."""

    def __init__(self, endpoint: str) -> None:
        import awswrangler
        import boto3

        self.wr = awswrangler
        awswrangler.config.s3_endpoint_url = endpoint
        self.session = boto3.Session(region_name="us-east-1", **_LOGIN)

    def upload(self, df: pd.DataFrame, name: str) -> None:
        self.wr.s3.to_parquet(df, f"s3://{BUCKET}/{name}.parquet", boto3_session=self.session)

    def download(self, name: str, columns: list[str] | None = None, filters: Filters | None = None) -> pd.DataFrame:
        arguments = {"pyarrow_additional_kwargs": {"filters": filters}} if filters else {}
        found: pd.DataFrame = self.wr.s3.read_parquet(
            f"s3://{BUCKET}/{name}.parquet", columns=columns, boto3_session=self.session, use_threads=True, **arguments
        )
        return found


WAYS: dict[str, Any] = {
    "clinops_prefect": Ours,
    "pandas + boto3": Reference,
    "polars": Polars,
    "awswrangler": Awswrangler,
}
OURS, REFERENCE = "clinops_prefect", "pandas + boto3"
