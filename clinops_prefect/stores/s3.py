"""Artifacts in an S3 bucket."""

from pydantic import Field

from clinops_prefect.aws import AwsLogin
from clinops_prefect.backend import Backend
from clinops_prefect.stores.cloud import CloudPipelineStore
from clinops_prefect.stores.s3_backend import S3Backend


class S3PipelineStore(CloudPipelineStore):
    """Hand DataFrames from step to step through an S3 bucket.

    Attributes:
        bucket: The bucket.
        prefix: The path below which the store keeps everything it writes.
        format: Parquet, or CSV.
        region: The region; empty, as the credentials, the profile or the environment says.
        profile: A named profile; empty, the default credential chain.
        credentials: An `AwsCredentials` or `MinIOCredentials` block, instead of `profile`.
        endpoint_url: Another endpoint than AWS's own.
        kms_key_id: A KMS key to encrypt every object with.
        allow_http: Whether a plain http endpoint on a network is acceptable.
        allow_pickle: Whether Prefect results may be read with a serializer that can run code.

    Example:
        Load a saved store and pass a frame on:
        ```python
        from clinops_prefect import S3PipelineStore

        store = S3PipelineStore.load("BLOCK_NAME")
        uri = store.upload(windows_df, "features/windows_2024_01")
        windows_df = store.download("features/windows_2024_01")
        ```
    """

    _block_type_name = "S3 Pipeline Store"
    _block_type_slug = "s3-pipeline-store"

    region: str = Field(
        default="",
        description="An AWS region, such as us-east-1. Empty: as the credentials or the environment says.",
        json_schema_extra={"position": 3},
    )
    profile: str = Field(
        default="",
        description="A named AWS profile. Empty: the default credential chain.",
        json_schema_extra={"position": 4},
    )
    credentials: AwsLogin | None = Field(
        default=None,
        repr=False,  # AwsCredentials shows its session token
        description="An AWS or MinIO credentials block. Empty: the profile, or the default credential chain.",
        json_schema_extra={"position": 5},
    )
    kms_key_id: str = Field(
        default="",
        title="KMS key",
        description="A KMS key (id, ARN or alias) to encrypt every object with. Empty: the bucket's default.",
        json_schema_extra={"position": 8},
    )

    @classmethod
    def _backend_type(cls) -> type[Backend]:
        return S3Backend

    def _backend(self) -> S3Backend:
        return S3Backend(self)
