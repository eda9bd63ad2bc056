"""What goes wrong between a backend and its service, in words that are the same for every service.

A backend decides which of these a vendor's error is; this module knows no vendor.
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

# OpenSSL's names for what stays so until somebody changes a setting. Other TLS errors are a connection that broke.
_REFUSED_HANDSHAKES = {
    "HTTP_REQUEST", "NO_PROTOCOLS_AVAILABLE", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "SSLV3_ALERT_CERTIFICATE_REVOKED", "SSLV3_ALERT_CERTIFICATE_UNKNOWN", "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_ACCESS_DENIED",
    "TLSV1_ALERT_PROTOCOL_VERSION", "TLSV1_ALERT_UNKNOWN_CA", "UNSUPPORTED_PROTOCOL", "WRONG_VERSION_NUMBER",
}  # fmt: skip


class Problem(Enum):
    """What the answer of a service means, however the service calls it."""

    ABSENT = auto()
    ARCHIVED = auto()
    BUSY = auto()
    DENIED = auto()
    FULL = auto()
    METADATA = auto()
    NAME = auto()
    REFUSED = auto()  # and no other request like it would be taken
    SETTING = auto()
    UNSUPPORTED = auto()


# The statuses of HTTP that say it by themselves; others from 500 on are a service that is busy or out of order.
_PROBLEMS = {
    401: Problem.DENIED, 403: Problem.DENIED, 404: Problem.ABSENT, 405: Problem.UNSUPPORTED, 408: Problem.BUSY,
    429: Problem.BUSY, 431: Problem.METADATA, 501: Problem.UNSUPPORTED, 507: Problem.FULL,
}  # fmt: skip


def problem_of(status: int) -> Problem:
    """What a status means where the service's own code does not say it."""
    return _PROBLEMS.get(status, Problem.BUSY if status >= 500 else Problem.REFUSED)


def answered(
    problem: Problem, uri: str, service: str, code: object, *, operation: str = "this request", hint: str = ""
) -> ClinopsPrefectError:
    """Our error for an answer of the service.

    Args:
        problem: What the answer means.
        uri: What was asked for.
        service: What the service is called.
        code: What the service calls the problem.
        operation: What the request was.
        hint: What to do where that depends on the service: of `SETTING`, the fields to check.
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
    """The service does not permit it."""
    return AccessDeniedError(f"{uri}: access denied ({code}); {hint}", uri=uri)


def archived(uri: str, code: object) -> ArtifactArchivedError:
    """The object's bytes are in an archive."""
    return ArtifactArchivedError(
        f"{uri} is in an archive storage class ({code}): restore the object first, wait for that, and read again",
        uri=uri,
    )


def not_supported(uri: str, service: str, operation: str, code: object, hint: str) -> OperationNotSupportedError:
    """The service cannot do it, today or tomorrow."""
    return OperationNotSupportedError(
        f"{uri}: this {service} service does not support {operation} ({code}); {hint}", uri=uri
    )


def unconditional(uri: str, service: str) -> OperationNotSupportedError:
    """The service has no conditional writes."""
    return OperationNotSupportedError(
        f"{uri}: this {service} service has no conditional writes, which overwrite=False needs: nothing was written. "
        "Use overwrite=True, or a service that has them",
        uri=uri,
    )


def other_version(uri: str, service: str, asked: str, answered: str) -> OperationNotSupportedError:
    """The service ignores which version is asked for."""
    return OperationNotSupportedError(
        f"{uri}: asked for the version {asked!r}, this {service} service answered with "
        f"{f'the version {answered!r}' if answered else 'an object without a version'}: read the current one, or use a "
        "service that keeps versions",
        uri=uri,
    )


def missing(uri: str, service: str, what: str) -> OperationNotSupportedError:
    """The service answers without something that the store cannot do without."""
    return OperationNotSupportedError(
        f"{uri}: the service answered without {what}, as no {service} service does: check endpoint_url, and whether a "
        "proxy removes it",
        uri=uri,
    )


def unreached(
    uri: str,
    service: str,
    error: Exception,
    authority: str,
    invalid: type[ClinopsPrefectError] = InvalidStoreError,
) -> ClinopsPrefectError:
    """Nothing answered, or what answered could not be trusted.

    Args:
        uri: What was asked for.
        service: What the service is called.
        error: The client's error.
        authority: How to make a certificate authority known to the client.
        invalid: The error of a setting that cannot work.
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
            f"{uri}: the endpoint and this client agree on no TLS connection ({reason}); check endpoint_url, its port "
            "and whether it asks for a client certificate",
            uri=uri,
        )
    return ServiceUnavailableError(
        f"{uri}: cannot reach {service} ({type(error).__name__}); check the network and endpoint_url", uri=uri
    )


def unexpected(uri: str, service: str, error: Exception, authority: str) -> ClinopsPrefectError | None:
    """Our error for one that no vendor means to raise: a broken connection, or an answer that its client cannot read.

    None for what says nothing about the service.
    """
    if isinstance(error, MemoryError | AssertionError):
        return None
    if is_network(error):
        return unreached(uri, service, error, authority)
    if isinstance(error, OSError):
        # Of this machine: a configuration file, a certificate bundle.
        what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        return InvalidStoreError(f"{uri}: the client cannot read a file that it needs ({what})", uri=uri)
    return ServiceUnavailableError(
        f"{uri}: what answers is not {service}, or the answer was damaged on its way ({type(error).__name__}); check "
        "endpoint_url",
        uri=uri,
    )


def is_network(error: BaseException) -> bool:
    """Whether the connection is at fault."""
    kinds = (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException)
    # By name, so that a store that needs no network does not import urllib3. `gaierror` is the look-up of a name.
    return (
        isinstance(error, kinds)
        or type(error).__module__.startswith("urllib3.")
        or type(error).__name__ in ("gaierror", "herror")
    )


def certificate_problem(error: BaseException) -> str:
    """Why the endpoint's certificate is not accepted, in OpenSSL's words; empty when that is not what is wrong."""
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
    """Whether asking again is in vain: the certificate or the handshake was refused, or a file is missing."""
    return _is_without_a_file(error) or bool(certificate_problem(error) or _handshake_refused(error))


def _is_without_a_file(error: BaseException) -> bool:
    # Ours too is a FileNotFoundError, and around a request that was made because an object was not found.
    return any(
        isinstance(found, FileNotFoundError) and not isinstance(found, ClinopsPrefectError) for found in _within(error)
    )


def _within(error: BaseException) -> list[BaseException]:
    """The error and those that it wraps, however its client does that."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        one = todo.pop()
        if not isinstance(one, BaseException) or any(one is other for other in found):
            continue
        found.append(one)
        wrapped = getattr(one, "kwargs", None)  # botocore's
        inner = getattr(one, "inner_exception", None)  # Azure's, which are raised without a cause
        todo += [one.__cause__, one.__context__, getattr(one, "reason", None), inner, *one.args]
        todo += wrapped.values() if isinstance(wrapped, dict) else []
    return found
