"""The check of endpoints: clinical data and credentials must not cross a network unencrypted."""

import ipaddress
from urllib.parse import urlsplit

from clinops_prefect.errors import ClinopsPrefectError, InvalidStoreError


def check_endpoint(
    endpoint_url: str,
    *,
    allow_http: bool,
    verified: bool = True,
    invalid: type[ClinopsPrefectError] = InvalidStoreError,
) -> None:
    """Refuse an endpoint at which others on the network could read clinical data and credentials.

    Args:
        endpoint_url: The endpoint. If empty, the provider's own is used.
        allow_http: Whether the user accepts an unencrypted or unverified endpoint.
        verified: Whether the endpoint's certificate is verified.
        invalid: The error class for a setting that cannot work.

    Raises:
        InvalidStoreError: The endpoint is unencrypted or unverified, and `allow_http` is false. Or its URL has a user
            or a password in it. With `invalid`, that error.
    """
    parts = urlsplit(endpoint_url)
    if "@" in parts.netloc:
        # Endpoints are visible: in the block, on the page of a flow run, and in the record of an execution.
        raise invalid(
            f"the endpoint {parts.scheme}://{parts.netloc.rpartition('@')[2]} is given with a user or a password in "
            "its URL, which no client uses and pages would show: leave them out, and set credentials"
        )
    if allow_http or is_loopback(endpoint_url):
        return
    if parts.scheme == "http":
        raise invalid(
            f"the endpoint http://{parts.netloc} is not encrypted: use https://, or accept it with allow_http=True"
        )
    if not verified:
        raise invalid(
            "the credentials block says verify=False, so anybody on the network could take the endpoint's place: set "
            "verify_cert_path to the certificate of its authority and verify=True (without which prefect-aws does not "
            "save the path), or accept it with allow_http=True"
        )


def is_url(endpoint_url: str) -> bool:
    """Whether this is an http or https URL with a host."""
    parts = urlsplit(endpoint_url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def is_loopback(endpoint_url: str) -> bool:
    """Whether the endpoint is on this machine."""
    host = urlsplit(endpoint_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
