"""The base class of the cloud stores, with a bucket and a checked endpoint."""

import abc
import functools
import re
from collections.abc import Callable
from typing import Any, Self, TypeVar

from pydantic import Field

from clinops_prefect import registry
from clinops_prefect.errors import InvalidStoreError
from clinops_prefect.form_schemas import URL_PATTERN
from clinops_prefect.locations import shown
from clinops_prefect.network.endpoints import check_endpoint
from clinops_prefect.store import PipelineStore

T = TypeVar("T")

# The forms in Prefect's UI also check the length.
_BUCKET = re.compile(r"[A-Za-z0-9._-]+")


# Prefect does not register a class as a block if ABC is among its direct bases.
class CloudPipelineStore(PipelineStore, abc.ABC):
    """A store in a bucket. Subclasses declare the field for the bucket."""

    endpoint_url: str = Field(
        default="",
        title="Endpoint URL",
        description="An endpoint other than the provider's own. If empty, the default is used.",
        json_schema_extra={"position": 7, "pattern": URL_PATTERN},
    )
    allow_http: bool = Field(
        default=False,
        title="Allow HTTP",
        description="Whether to accept an http:// endpoint outside this machine, to which data travels unencrypted.",
        json_schema_extra={"position": 20},
    )

    def __init__(self, bucket: str | None = None, /, **data: Any) -> None:
        super().__init__(bucket, **data)
        self._check_bucket(getattr(self, self._first_field))
        self._check_endpoint(self.endpoint_url)

    @classmethod
    def _at(cls, location: str, *, is_uri: bool, **fields: Any) -> Self:  # noqa: ARG003 - a bucket is a bucket
        bucket, prefix = cls._split(location)
        if not bucket:
            kind = registry.by_slug(cls.get_block_type_slug())
            scheme = kind.scheme if kind else cls.__name__
            what = cls._first_field
            meant = shown(f"{scheme}://{prefix.lstrip('/') or f'{what.upper()}/PREFIX'}")
            raise InvalidStoreError(f"{shown(f'{scheme}://{location}')} names no {what}; did you mean {meant}?")
        if prefix and fields.get("prefix"):
            raise InvalidStoreError("the prefix is given twice: in the URI, and as prefix=")
        return cls(bucket, **{"prefix": prefix, **fields})

    @classmethod
    def _split(cls, location: str) -> tuple[str, str]:
        """The bucket and the prefix in what follows `://`."""
        bucket, _, prefix = location.partition("/")
        return bucket, prefix

    @classmethod
    def _check_bucket(cls, bucket: str) -> None:
        if not _BUCKET.fullmatch(bucket):
            what = cls._first_field
            raise InvalidStoreError(f"{what} must be the name of a {what}, without scheme or path, not {bucket!r}")

    def _client(self, make: Callable[..., T], *arguments: Any, **settings: Any) -> Callable[[], T]:
        """A function without arguments that returns the process's client, as `make` does with these settings.

        A backend that has only this function can be pickled, and costs nothing until its first request.
        """
        return functools.partial(
            make, *arguments, endpoint_url=self.endpoint_url, allow_http=self.allow_http, **settings
        )

    def _check_endpoint(self, endpoint_url: str) -> None:
        check_endpoint(endpoint_url, allow_http=self.allow_http)
