"""The store block for S3."""

import re
from typing import Literal

from prefect_aws import AwsCredentials
from pydantic import Field, HttpUrl

from clinops_prefect.aws.clients import AwsLogin, aws_client
from clinops_prefect.blocks.cloud import CloudPipelineStore
from clinops_prefect.errors import InvalidStoreError
from clinops_prefect.form_schemas import REGION_PATTERN, URL_PATTERN
from clinops_prefect.storage.backend import Backend
from clinops_prefect.storage.s3.backend import S3Backend

# A service that never answers takes five tries of 20 seconds. During a long completion or copy, S3 sends white space,
# so the read does not time out. "legacy" counts the tries of each request. The other modes share one quota among all
# requests of a client, which lives as long as the process: an outage would use it up and end all retries.
_CLIENT = {
    "retries": {"mode": "legacy", "total_max_attempts": 5},
    "connect_timeout": 5,
    "read_timeout": 20,
    "max_pool_connections": 64,
}
_CHECKSUMS = ("request_checksum_calculation", "response_checksum_validation")
_ACCESS_POINT = r"arn:aws[a-z-]*:s3:[a-z0-9-]*:[0-9]{12}:accesspoint[/:][A-Za-z0-9.-]{3,63}"


class S3PipelineStore(CloudPipelineStore):
    """Hand DataFrames from step to step through an S3 bucket.

    Attributes:
        bucket: The bucket, or the ARN of an access point of S3. Access points of Object Lambda, which return other
            bytes than the stored ones, and of Outposts are refused.
        prefix: The path below which the store keeps everything it writes.
        format: Parquet, or CSV.
        region: The region. If empty, it is taken from the credentials, the profile or the environment.
        profile: A named profile. If empty, the default credential chain is used.
        credentials: An `AwsCredentials` or `MinIOCredentials` block, instead of `profile`.
        endpoint_url: An endpoint other than AWS's own.
        request_payer: Whether you pay for the requests, which a Requester Pays bucket demands.
        checksums: `when_required` for services that refuse the newer checksums. If empty, the environment decides.
        kms_key_id: A KMS key to encrypt every object with.
        allow_http: Whether a plain http endpoint on a network is acceptable.
        allow_pickle: Whether Prefect results may be read with a serializer that can run code.

    Example:
        Load a saved store and pass a frame on:
        ```python
        import pandas as pd

        from clinops_prefect import S3PipelineStore

        store = S3PipelineStore.load("BLOCK_NAME")
        windows = pd.DataFrame({"stay_id": [1, 2], "heart_rate": [84.0, 91.5]})
        uri = store.upload(windows, "features/windows_2024_01")
        windows = store.download("features/windows_2024_01")
        ```
    """

    _block_type_name = "S3 Pipeline Store"
    _block_type_slug = "s3-pipeline-store"
    # The logo that Prefect's own block for this service has.
    _logo_url = HttpUrl(str(AwsCredentials._logo_url))

    bucket: str = Field(
        kw_only=False,  # for type checkers, which otherwise refuse it by position; pydantic ignores it
        description="The name of the bucket, without s3://, or the ARN of an access point. It must exist.",
        json_schema_extra={
            "position": 0,
            "pattern": f"^([A-Za-z0-9][A-Za-z0-9._-]{{1,253}}[A-Za-z0-9]|{_ACCESS_POINT})$",
        },
    )
    endpoint_url: str = Field(
        default="",
        title="Endpoint URL",
        description="An endpoint other than AWS's own, such as MinIO's. If empty, the environment decides.",
        json_schema_extra={"position": 7, "pattern": URL_PATTERN},
    )
    region: str = Field(
        default="",
        description="An AWS region, such as us-east-1. If empty, it is taken from the credentials or the environment.",
        json_schema_extra={"position": 3, "pattern": REGION_PATTERN},
    )
    profile: str = Field(
        default="",
        title="AWS profile",
        description="A named AWS profile. If empty, the default credential chain is used.",
        json_schema_extra={"position": 4},
    )
    credentials: AwsLogin | None = Field(
        default=None,
        title="AWS credentials",
        repr=False,  # AwsCredentials shows its session token
        description="An AWS or MinIO credentials block. If empty, the profile or the default credential chain is used.",
        json_schema_extra={"position": 5},
    )
    request_payer: bool = Field(
        default=False,
        title="Requester pays",
        description="Whether your account pays for the requests, as a Requester Pays bucket demands.",
        json_schema_extra={"position": 9},
    )
    checksums: Literal["", "when_supported", "when_required"] = Field(
        default="",
        description="when_required, for a service that refuses S3's newer checksums. If empty, the environment "
        "decides; without a setting there, when_supported.",
        json_schema_extra={"position": 10},
    )
    kms_key_id: str = Field(
        default="",
        title="KMS key",
        description=(
            "The KMS key (id, ARN or alias) that encrypts every object. If empty, the bucket's default is used."
        ),
        json_schema_extra={"position": 8, "pattern": "^([A-Za-z0-9/_:-]+)?$"},
    )

    @classmethod
    def _split(cls, location: str) -> tuple[str, str]:
        # An ARN may contain a slash, so the first slash need not end the bucket.
        if found := re.fullmatch(f"({_ACCESS_POINT})(?:/(.*))?", location, re.DOTALL):
            return found[1], found[2] or ""
        return super()._split(location)

    @classmethod
    def _check_bucket(cls, bucket: str) -> None:
        if re.fullmatch(_ACCESS_POINT, bucket):
            return
        if bucket.startswith("arn:"):
            raise InvalidStoreError(
                f"bucket {bucket!r} is no ARN of an access point of S3, such as arn:aws:s3:REGION:ACCOUNT:accesspoint/"
                "NAME; those of Object Lambda and Outposts are not supported"
            )
        super()._check_bucket(bucket)

    @classmethod
    def _backend_type(cls) -> type[Backend]:
        return S3Backend

    def _backend(self) -> S3Backend:
        client = self._client(
            aws_client,
            "s3",
            region=self.region,
            profile=self.profile,
            credentials=self.credentials,
            config=_CLIENT | (dict.fromkeys(_CHECKSUMS, self.checksums) if self.checksums else {}),
        )
        return S3Backend(self.bucket, client, request_payer=self.request_payer, kms_key_id=self.kms_key_id)
