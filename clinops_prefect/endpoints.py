"""Which endpoints a client may speak to: clinical data and credentials do not cross a network in clear text."""

import ipaddress
from urllib.parse import urlsplit

from clinops_prefect.errors import ClinopsPrefectError


class InsecureEndpointError(ClinopsPrefectError, ValueError):
    """The endpoint is plain http on a network, or nobody verifies its certificate, and `allow_http` is not set."""


def check_endpoint(endpoint_url: str, *, allow_http: bool, verified: bool = True) -> None:
    """Refuse an endpoint that would send clinical data, and credentials, to whoever listens on the network.

    Args:
        endpoint_url: The endpoint; empty, the provider's own.
        allow_http: Whether the user accepts that.
        verified: Whether the endpoint's certificate is verified.

    Raises:
        InsecureEndpointError: It would, and the user does not.
    """
    parts = urlsplit(endpoint_url)
    if allow_http or is_loopback(endpoint_url):
        return
    if parts.scheme == "http":
        # Not the whole netloc, which may have a password.
        raise InsecureEndpointError(
            f"the endpoint http://{_host(endpoint_url)} is not encrypted: use https://, or accept it with "
            "allow_http=True"
        )
    if not verified:
        raise InsecureEndpointError(
            "the credentials block says verify=False, so anybody on the network could take the endpoint's place: set "
            "verify_cert_path to the certificate of its authority, or accept it with allow_http=True"
        )


def is_loopback(endpoint_url: str) -> bool:
    """Whether the endpoint is on this machine."""
    host = urlsplit(endpoint_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _host(endpoint_url: str) -> str:
    return urlsplit(endpoint_url).netloc.rpartition("@")[2]
