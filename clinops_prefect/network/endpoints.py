"""Which endpoints a client may speak to: clinical data and credentials do not cross a network in clear text."""

import ipaddress
from urllib.parse import urlsplit

from clinops_prefect.errors import ClinopsPrefectError


class InsecureEndpointError(ClinopsPrefectError, ValueError):
    """The endpoint is plain http on a network, nobody verifies its certificate, or a password is part of its URL."""


def check_endpoint(endpoint_url: str, *, allow_http: bool, verified: bool = True) -> None:
    """Refuse an endpoint that would send clinical data, and credentials, to whoever listens on the network.

    Args:
        endpoint_url: The endpoint; empty, the provider's own.
        allow_http: Whether the user accepts that.
        verified: Whether the endpoint's certificate is verified.

    Raises:
        InsecureEndpointError: It would, and the user does not; or its URL has a user or a password in it.
    """
    parts = urlsplit(endpoint_url)
    if "@" in parts.netloc:
        # An endpoint is shown: in the block, on the page of a flow run, in what finds an execution again.
        raise InsecureEndpointError(
            f"the endpoint {parts.scheme}://{parts.netloc.rpartition('@')[2]} is given with a user or a password in "
            "its URL, which no client uses and pages would show: leave them out, and set credentials"
        )
    if allow_http or is_loopback(endpoint_url):
        return
    if parts.scheme == "http":
        raise InsecureEndpointError(
            f"the endpoint http://{parts.netloc} is not encrypted: use https://, or accept it with allow_http=True"
        )
    if not verified:
        raise InsecureEndpointError(
            "the credentials block says verify=False, so anybody on the network could take the endpoint's place: set "
            "verify_cert_path to the certificate of its authority and verify=True (without which prefect-aws does not "
            "save the path), or accept it with allow_http=True"
        )


def is_url(endpoint_url: str) -> bool:
    """Whether a client can speak to it: a host, and how."""
    parts = urlsplit(endpoint_url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def is_loopback(endpoint_url: str) -> bool:
    """Whether the endpoint is on this machine."""
    host = urlsplit(endpoint_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
