"""The errors of requests to a service, with the same messages for every service.

A backend maps a vendor's error to one of these. This module knows no vendor.
"""

import http.client
import ssl
from enum import Enum, auto

from clinops_prefect.errors import (
    AccessDeniedError,
    ArtifactArchivedError,
    ArtifactNotFoundError,
    ClinopsPrefectError,
    InvalidArtifactNameError,
    InvalidMetadataError,
    InvalidStoreError,
    OperationNotSupportedError,
    ServiceUnavailableError,
)

# OpenSSL's reasons that persist until somebody changes a setting. Other TLS errors mean a broken connection.
_REFUSED_HANDSHAKES = {
    "HTTP_REQUEST", "NO_PROTOCOLS_AVAILABLE", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "SSLV3_ALERT_CERTIFICATE_REVOKED", "SSLV3_ALERT_CERTIFICATE_UNKNOWN", "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_ACCESS_DENIED",
    "TLSV1_ALERT_PROTOCOL_VERSION", "TLSV1_ALERT_UNKNOWN_CA", "UNSUPPORTED_PROTOCOL", "WRONG_VERSION_NUMBER",
}  # fmt: skip


class Problem(Enum):
    """The meaning of a service's error, independent of the service's own codes."""

    ABSENT = auto()
    ARCHIVED = auto()
    BUSY = auto()
    DENIED = auto()
    FULL = auto()
    METADATA = auto()
    NAME = auto()
    REFUSED = auto()  # a repeated request would be refused too
    SETTING = auto()
    UNSUPPORTED = auto()


# The HTTP statuses with a clear meaning. Any other status from 500 on means a service that is busy or out of order.
_PROBLEMS = {
    401: Problem.DENIED, 403: Problem.DENIED, 404: Problem.ABSENT, 405: Problem.UNSUPPORTED, 408: Problem.BUSY,
    429: Problem.BUSY, 431: Problem.METADATA, 501: Problem.UNSUPPORTED, 507: Problem.FULL,
}  # fmt: skip


def problem_of(status: int) -> Problem:
    """The meaning of an HTTP status, for answers whose error code does not tell more."""
    return _PROBLEMS.get(status, Problem.BUSY if status >= 500 else Problem.REFUSED)


def answered(
    problem: Problem, uri: str, service: str, code: object, *, operation: str = "this request", hint: str = ""
) -> ClinopsPrefectError:
    """Return our error for an error that the service answered with.

    Args:
        problem: The meaning of the answer.
        uri: URI of the object of the request.
        service: Name of the service for the message.
        code: The service's error code.
        operation: Name of the request for the message.
        hint: The remedy, if it depends on the service. For `SETTING`, the fields to check.
    """
    match problem:
        case Problem.ABSENT:
            return ArtifactNotFoundError(f"there is no {uri}", uri=uri)
        case Problem.ARCHIVED:
            return archived(uri, code)
        case Problem.BUSY:
            return ServiceUnavailableError(f"{uri}: {service} answered {code} after retries; try again later", uri=uri)
        case Problem.DENIED:
            return denied(uri, code, hint or "check the credentials and what they may do")
        case Problem.FULL:
            return ServiceUnavailableError(f"{uri}: the service has no room left ({code}); free some space", uri=uri)
        case Problem.METADATA:
            return InvalidMetadataError(f"{uri}: the service takes less metadata ({code}); leave some out", uri=uri)
        case Problem.NAME:
            return InvalidArtifactNameError(f"{uri}: the service takes no object of this name ({code})", uri=uri)
        case Problem.SETTING:
            return InvalidStoreError(f"{uri}: {service} refused {operation} ({code}); check {hint}", uri=uri)
        case Problem.UNSUPPORTED:
            return not_supported(uri, service, operation, code, hint or "use a service that does")
        case Problem.REFUSED:
            return ClinopsPrefectError(f"{uri}: {service} refused {operation} ({code})", uri=uri)


def denied(uri: str, code: object, hint: str) -> AccessDeniedError:
    """The error for a request that the service does not permit."""
    return AccessDeniedError(f"{uri}: access denied ({code}); {hint}", uri=uri)


def archived(uri: str, code: object) -> ArtifactArchivedError:
    """The error for an object in an archive storage class."""
    return ArtifactArchivedError(
        f"{uri} is in an archive storage class ({code}): restore the object first, wait for that, and read again",
        uri=uri,
    )


def not_supported(uri: str, service: str, operation: str, code: object, hint: str) -> OperationNotSupportedError:
    """The error for an operation that the service does not support."""
    return OperationNotSupportedError(
        f"{uri}: this {service} service does not support {operation} ({code}); {hint}", uri=uri
    )


def unconditional(uri: str, service: str, *, in_parts: bool = False) -> OperationNotSupportedError:
    """The error for a service without conditional writes, or without those of an upload in parts."""
    what = "conditional uploads in parts" if in_parts else "conditional writes"
    return OperationNotSupportedError(
        f"{uri}: this {service} service has no {what}, which overwrite=False needs: nothing was written. "
        "Use overwrite=True, or a service that has them",
        uri=uri,
    )


def other_version(uri: str, service: str, asked: str, answered: str) -> OperationNotSupportedError:
    """The error for a service that ignores the requested version."""
    return OperationNotSupportedError(
        f"{uri}: asked for the version {asked!r}, this {service} service answered with "
        f"{f'the version {answered!r}' if answered else 'an object without a version'}: read the current one, or use a "
        "service that keeps versions",
        uri=uri,
    )


def missing(uri: str, service: str, what: str, address: str) -> OperationNotSupportedError:
    """The error for an answer that lacks a value that the store needs. `address` is as for `unreached`."""
    return OperationNotSupportedError(
        f"{uri}: the service answered without {what}, as no {service} service does: check {address}, and whether a "
        "proxy removes it",
        uri=uri,
    )


def unreached(
    uri: str,
    service: str,
    error: Exception,
    authority: str,
    address: str,
    invalid: type[ClinopsPrefectError] = InvalidStoreError,
) -> ClinopsPrefectError:
    """Return our error for a service that cannot be reached or trusted.

    Args:
        uri: URI of the object of the request.
        service: Name of the service for the message.
        error: The client's error.
        authority: How a user makes a certificate authority known to the client.
        address: The fields of the store or pipeline that say where the service is, for the message.
        invalid: The error class for a setting that cannot work.
    """
    if problem := certificate_problem(error):
        return invalid(
            f"{uri}: the certificate of the endpoint is not accepted ({problem}); renew it, or {authority}", uri=uri
        )
    if _is_without_a_file(error):
        return invalid(
            f"{uri}: the client has no file of certificates where its settings say; check the path that they name",
            uri=uri,
        )
    if reason := _handshake_refused(error):
        return invalid(
            f"{uri}: the endpoint and this client agree on no TLS connection ({reason}); check {address}, the port "
            "and whether it asks for a client certificate",
            uri=uri,
        )
    return ServiceUnavailableError(
        f"{uri}: cannot reach {service} ({type(error).__name__}); check the network and {address}", uri=uri
    )


def unexpected(uri: str, service: str, error: Exception, authority: str, address: str) -> ClinopsPrefectError | None:
    """Return our error for an unexpected error of a client: a broken connection, or an answer that it cannot read.

    None if the error says nothing about the service. The arguments are those of `unreached`.
    """
    if isinstance(error, MemoryError | AssertionError | NameError):
        return None
    if is_network(error):
        return unreached(uri, service, error, authority, address)
    if isinstance(error, OSError):
        # The file is on this machine, such as a configuration file or a certificate bundle.
        what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        return InvalidStoreError(f"{uri}: the client cannot read a file that it needs ({what})", uri=uri)
    return ServiceUnavailableError(
        f"{uri}: what answers is not {service}, or the answer was damaged on its way ({type(error).__name__}); check "
        f"{address}",
        uri=uri,
    )


def is_network(error: BaseException) -> bool:
    """Whether the error is one of the connection."""
    kinds = (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException)
    # Names are compared so that a local store does not import urllib3. `gaierror` is a failed look-up of a host name.
    return (
        isinstance(error, kinds)
        or type(error).__module__.startswith("urllib3.")
        or type(error).__name__ in ("gaierror", "herror")
    )


def certificate_problem(error: BaseException) -> str:
    """Why the endpoint's certificate is not accepted, in OpenSSL's words; empty if the certificate is not the cause."""
    for found in _within(error):
        if isinstance(found, ssl.SSLCertVerificationError):
            return found.verify_message.rstrip(".")
        if isinstance(found, ssl.CertificateError) or type(found).__name__ == "CertificateError":
            return "hostname mismatch"
    return ""


def _handshake_refused(error: BaseException) -> str:
    reasons = (getattr(found, "reason", "") for found in _within(error) if isinstance(found, ssl.SSLError))
    return next((reason for reason in reasons if reason in _REFUSED_HANDSHAKES), "")


def is_settled(error: BaseException) -> bool:
    """Whether a retry cannot help: the certificate or the handshake was refused, or a file is missing."""
    return _is_without_a_file(error) or bool(certificate_problem(error) or _handshake_refused(error))


def _is_without_a_file(error: BaseException) -> bool:
    # Our ArtifactNotFoundError is also a FileNotFoundError, and may be the context of a later request's error.
    return any(
        isinstance(found, FileNotFoundError) and not isinstance(found, ClinopsPrefectError) for found in _within(error)
    )


def _within(error: BaseException) -> list[BaseException]:
    """The error and all errors that it wraps, in any way that the clients use."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        one = todo.pop()
        if not isinstance(one, BaseException) or any(one is other for other in found):
            continue
        found.append(one)
        wrapped = getattr(one, "kwargs", None)  # botocore keeps the wrapped error here
        inner = getattr(one, "inner_exception", None)  # Azure's errors have no cause and keep the wrapped error here
        todo += [one.__cause__, one.__context__, getattr(one, "reason", None), inner, *one.args]
        todo += wrapped.values() if isinstance(wrapped, dict) else []
    return found
