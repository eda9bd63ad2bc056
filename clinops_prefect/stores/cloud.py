"""What the cloud stores share: a bucket, an endpoint, and the refusal of clear text on a network."""

import abc
import ipaddress
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field

from clinops_prefect.errors import ClinopsPrefectError
from clinops_prefect.store import PipelineStore

T = TypeVar("T")


# ABC among the bases themselves is what keeps Prefect from registering a class as a block.
class CloudPipelineStore(PipelineStore, abc.ABC):
    """A store in a bucket."""

    bucket: str = Field(
        description="The name of the bucket, without s3:// or gs://. It must exist.", json_schema_extra={"position": 0}
    )
    endpoint_url: str = Field(
        default="",
        title="Endpoint URL",
        description="Another endpoint than the provider's own, such as MinIO's or an emulator's. Empty: the default.",
        json_schema_extra={"position": 7},
    )
    allow_http: bool = Field(
        default=False,
        title="Allow HTTP",
        description="Whether an http:// endpoint outside this machine is acceptable. Data travels unencrypted then.",
        json_schema_extra={"position": 9},
    )

    def __init__(self, bucket: str | None = None, /, **data: Any) -> None:
        super().__init__(bucket, **data)
        if not self.bucket or "/" in self.bucket:
            raise ValueError(f"bucket must be the name of a bucket, without scheme or path, not {self.bucket!r}")
        self._check_endpoint(self.endpoint_url)

    @classmethod
    def _at(cls, location: str, *, is_uri: bool, **fields: Any) -> Self:  # noqa: ARG003 - a bucket is a bucket
        bucket, _, prefix = location.partition("/")
        return cls(bucket, **{"prefix": prefix, **fields})

    def _check_endpoint(self, endpoint_url: str) -> None:
        """Refuse an endpoint that would send clinical data, and credentials, in clear text over a network."""
        parts = urlsplit(endpoint_url)
        if parts.scheme == "http" and not self.allow_http and not is_loopback(endpoint_url):
            raise InsecureEndpointError(
                f"the endpoint http://{parts.netloc} is not encrypted: use https://, or accept it with allow_http=True"
            )


class InsecureEndpointError(ClinopsPrefectError, ValueError):
    """The endpoint is plain http on a network, and `allow_http` is not set."""


def is_loopback(endpoint_url: str) -> bool:
    """Whether the endpoint is on this machine."""
    host = urlsplit(endpoint_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
