"""A Google service account whose token server has an address of our choice."""

from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


def service_account(token_uri: str) -> dict[str, Any]:
    """The content of the service account's key file."""
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "e@p.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
    }
