"""boto3 clients for the S3 store and the Step Functions pipeline, made from the same settings."""

import copy
import functools
import io
import os
from collections.abc import Hashable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, overload

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ConnectionClosedError
from botocore.utils import parse_timestamp
from prefect_aws import AwsCredentials, MinIOCredentials

from clinops_prefect.aws.errors import setup_failure
from clinops_prefect.errors import ClinopsPrefectError, InvalidPipelineError, InvalidStoreError
from clinops_prefect.network.clients import cached_client, fingerprint, forget_client
from clinops_prefect.network.endpoints import check_endpoint
from clinops_prefect.network.failures import is_settled

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_stepfunctions import SFNClient

# The order matters: a saved block does not say which type it is. AwsCredentials, whose fields are all optional, would
# accept a MinIO block and drop its password.
AwsLogin = MinIOCredentials | AwsCredentials

# Service -> its name in messages, and the error class for a setting that cannot work.
_ABOUT: dict[str, tuple[str, type[ClinopsPrefectError]]] = {
    "s3": ("S3", InvalidStoreError),
    "stepfunctions": ("Step Functions", InvalidPipelineError),
}

_TRIES_OF_CUT_ANSWERS = 5
# If the service refuses a larger body, most of it would be sent in vain.
_SENT_AT_ONCE_BYTES = 256 << 10
# The codes with which S3 and Step Functions say that a key is expired, deleted or replaced.
_REFUSED_CREDENTIALS = {
    *("ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId"),
    *("InvalidSignatureException", "InvalidToken", "SignatureDoesNotMatch", "UnrecognizedClientException"),
}
_READ_FROM_ENVIRONMENT = (
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SFN",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "AWS_SDK_UA_APP_ID",
)


@overload
def aws_client(
    service: Literal["s3"],
    *,
    region: str,
    profile: str,
    credentials: AwsLogin | None,
    endpoint_url: str,
    allow_http: bool,
    config: dict[str, Any] | None = None,
) -> "S3Client": ...
@overload
def aws_client(
    service: Literal["stepfunctions"],
    *,
    region: str,
    profile: str,
    credentials: AwsLogin | None,
    endpoint_url: str,
    allow_http: bool,
    config: dict[str, Any] | None = None,
) -> "SFNClient": ...
def aws_client(
    service: Literal["s3", "stepfunctions"],
    *,
    region: str,
    profile: str,
    credentials: AwsLogin | None,
    endpoint_url: str,
    allow_http: bool,
    config: dict[str, Any] | None = None,
) -> Any:
    """The process's client for `service`, made on first use.

    Args:
        service: The service's name in boto3.
        region: A region. If empty, it is taken from the credentials block, the profile or the environment.
        profile: A named profile of the AWS configuration files. If empty, the default credential chain is used.
        credentials: A Prefect credentials block, used instead of `profile`.
        endpoint_url: An endpoint other than AWS's own. If empty, it is taken from the environment.
        allow_http: Whether an unencrypted or unverified endpoint on a network is accepted.
        config: Settings of `botocore.config.Config`.

    Raises:
        AccessDeniedError: The profile does not exist, or there are no usable credentials.
        InvalidStoreError: A setting cannot work, or the endpoint, wherever it is set, is plain http on a network or is
            not verified. For Step Functions, InvalidPipelineError is raised instead.
        ServiceUnavailableError: AWS cannot be reached to make the credentials.
    """
    # boto3 reads the environment only when a client is made, so a changed environment needs another client.
    environment = tuple(os.environ.get(name) for name in _READ_FROM_ENVIRONMENT)
    settings = tuple(sorted((name, repr(value)) for name, value in (config or {}).items()))
    key = ("aws", service, region, profile, fingerprint(credentials), endpoint_url, settings, environment)

    def make() -> Any:
        session = boto3.Session(profile_name=profile or None) if credentials is None else _session(credentials)
        # boto3 has no public access to the session's components. The AWS CLI sets the timestamp parser in this way.
        factory = session._session.get_component("response_parser_factory")
        factory.set_parser_defaults(timestamp_parser=_timestamp)
        parameters = {} if credentials is None else credentials.aws_client_parameters.get_params_override()
        # Copy the settings, because botocore changes them, and the cache's key is made from them.
        ours, theirs = Config(**copy.deepcopy(config or {})), parameters.get("config", Config())
        if not (theirs.user_agent_appid or session._session.get_config_variable("user_agent_appid")):
            # botocore would compose its longer User-Agent, which may have an application id, twice for each request:
            # a tenth of the request's CPU time.
            ours = ours.merge(Config(user_agent=session._session.user_agent()))
        parameters["config"] = ours.merge(theirs)
        if endpoint_url:
            parameters["endpoint_url"] = endpoint_url
        if region:
            parameters["region_name"] = region
        client = session.client(service, **parameters)
        # Registered before botocore's own handler, which would retry a refused certificate four times, in vain.
        name = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register_first(f"needs-retry.{name}", _give_up)
        client.meta.events.register(f"after-call.{name}", functools.partial(_forget_when_refused, key))
        # Last, because botocore's own handler asks for the answer.
        client.meta.events.register_last(f"before-call.{name}", _send_small_at_once)
        client.meta.events.register(f"needs-retry.{name}", _ask_again)  # type: ignore[arg-type]  # it may answer
        return client

    about, invalid = _ABOUT[service]
    try:
        client = cached_client(key, make)
    except ClinopsPrefectError:
        raise
    except Exception as error:
        ours = setup_failure(error, about, invalid)
        if ours is None:
            raise
        # `from None`, because tracebacks are logged, and the output of a credential process may contain a key.
        raise ours from None
    # Check the client's endpoint, because the environment, a profile or the block may also set one.
    unverified = (
        credentials is not None and credentials.aws_client_parameters.get_params_override().get("verify") is False
    )
    check_endpoint(client.meta.endpoint_url, allow_http=allow_http, verified=not unverified, invalid=invalid)
    return client


def _ask_again(response: Any, operation: Any, attempts: int, **_: Any) -> float | None:
    """Seconds to wait before a request with a truncated answer is retried; None if the answer is complete.

    botocore does not compare the length of an answer with its Content-Length. It reads truncated JSON as an answer
    without fields, so a truncated list of executions would look empty.

    Raises:
        ConnectionClosedError: The answers of all tries were truncated.
    """
    if response is None or operation.has_streaming_output or operation.http["method"] == "HEAD":
        return None
    answer, _parsed = response
    said = answer.headers.get("Content-Length", "")
    if not said.isdigit() or int(said) <= len(answer.content):
        return None
    if attempts >= _TRIES_OF_CUT_ANSWERS:
        raise ConnectionClosedError(endpoint_url=answer.url)
    seconds: float = 0.1 * 2**attempts
    return seconds


def _forget_when_refused(key: Hashable, parsed: Any, **_: Any) -> None:
    """Forget a client whose credentials AWS refuses, so that the next client reads files and environment again.

    A client keeps the keys of a profile for ever. Without this, a process would need a restart after a key rotation.
    """
    if isinstance(parsed, dict) and parsed.get("Error", {}).get("Code") in _REFUSED_CREDENTIALS:
        forget_client(key)


def _send_small_at_once(params: dict[str, Any], **_: Any) -> None:
    """Send a small body with its headers, as AWS's SDKs for Java and Go do.

    botocore would first wait for the answer `100 Continue`, which takes another round trip, and read it byte by byte.
    """
    body = params.get("body")
    if isinstance(body, io.BytesIO) and body.getbuffer().nbytes <= _SENT_AT_ONCE_BYTES:
        params["headers"].pop("Expect", None)


def _give_up(caught_exception: Exception | None = None, **_: Any) -> None:
    if caught_exception is not None and is_settled(caught_exception):
        raise caught_exception


def _timestamp(value: Any) -> datetime:
    """Parse a time in an answer. botocore's parser guesses the format, which takes most of a long listing's time."""
    if isinstance(value, str):
        with suppress(ValueError):
            if value[10:11] == "T":
                return datetime.fromisoformat(value)
            if value.endswith(" GMT"):
                return parsedate_to_datetime(value)
    parsed: datetime = parse_timestamp(value)
    return parsed


def _session(credentials: AwsLogin) -> boto3.Session:
    """The block's session. If the block assumes a role, the session assumes it again before the token expires.

    The block's own session keeps its first token for ever, so a pipeline of more than an hour would fail.
    """
    if not isinstance(credentials, AwsCredentials) or not credentials.assume_role_arn:
        return credentials.get_boto3_session()
    seconds = credentials.assume_role_kwargs.get_params_override().get("DurationSeconds", 3600)

    def assume() -> dict[str, str | None]:
        assumed = credentials.get_boto3_session().get_credentials()
        assert assumed is not None  # the session of an assumed role always has credentials
        token = assumed.get_frozen_credentials()
        expiry = datetime.now(UTC) + timedelta(seconds=seconds)
        return {
            "access_key": token.access_key,
            "secret_key": token.secret_key,
            "token": token.token,
            "expiry_time": expiry.isoformat(),
        }

    session = botocore.session.get_session()
    # botocore has no public way to give a session credentials that refresh themselves.
    session._credentials = RefreshableCredentials.create_from_metadata(assume(), assume, "assume-role")  # type: ignore[attr-defined]
    return boto3.Session(botocore_session=session, region_name=credentials.region_name)
