"""Errors of the providers' clients, as these clients make them."""

import inspect
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType

import azure.core.exceptions
import botocore.exceptions
import google.api_core.exceptions
import google.cloud.storage.exceptions
import requests


def errors_of(module: ModuleType) -> list[type[Exception]]:
    """The errors that a module defines; no warnings."""
    kinds = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
    return [kind for kind in kinds if issubclass(kind, Exception) and not issubclass(kind, Warning)]


def of_botocore(kind: type[Exception], operation: str) -> Exception:
    """An instance of any of botocore's classes, whatever its format wants."""
    if issubclass(kind, botocore.exceptions.ClientError):
        return kind({"Error": {"Code": "Whatever"}}, operation)
    words = re.findall(r"{(\w+)", getattr(kind, "fmt", ""))
    for arguments in (dict.fromkeys(words, "x"), {"name": "x", "reason": "y", "last_response": {}}):
        with suppress(TypeError):
            return kind(**arguments)
    return kind("x")


def of_google(kind: type[Exception]) -> Exception:
    """An instance of any class of Google's clients."""
    for arguments in (("x",), ("x", ValueError("y")), (requests.Response(), "x"), ("x", "y", 0)):
        with suppress(TypeError, AttributeError):
            return kind(*arguments)
    raise AssertionError(f"cannot make a {kind}")


def of_azure(kind: type[Exception]) -> Exception:
    """An instance of any class of Azure's clients."""
    with suppress(AttributeError, TypeError):
        return kind("x")
    response = requests.Response()
    response.request = requests.Request("GET", "https://a").prepare()
    return kind(response)


def answer_of_aws(code: str, status: int, operation: str) -> botocore.exceptions.ClientError:
    """What boto3 raises for an answer with this code."""
    answer = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(answer, operation)  # type: ignore[arg-type]


def answers_of_google(status: int, reason: object) -> Iterator[Exception]:
    """What Google's client raises for an answer with this reason: two classes, as its own layers do."""
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps({"error": {"message": "m", "errors": [{"reason": reason}]}}).encode()
    response.request = requests.Request("GET", "https://storage").prepare()
    yield google.api_core.exceptions.from_http_response(response)  # type: ignore[no-untyped-call]
    yield google.cloud.storage.exceptions.InvalidResponse(response, "m")


def answer_of_azure(code: object, status: int) -> azure.core.exceptions.HttpResponseError:
    """What Azure's client raises for an answer with this code."""
    response = requests.Response()
    response.status_code = status
    error = azure.core.exceptions.HttpResponseError("m", response=response)  # type: ignore[arg-type]
    error.error_code = code  # type: ignore[attr-defined]
    error.response, error.status_code = response, status  # type: ignore[assignment]
    return error


def refused_certificate() -> ssl.SSLCertVerificationError:
    """What Python raises for a certificate of a private authority."""
    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    refused.verify_message = "self-signed certificate"  # as OpenSSL says it of a real one
    return refused
