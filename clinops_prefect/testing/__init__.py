"""Contract suites for stores, and an emulator of AWS Step Functions for tests and first steps.

`BackendContract` and `StoreContract` are the tests that every store must pass. docs/how-to/write-a-store.md shows how
your own store inherits them. They need pytest: `pip install 'clinops-prefect[testing]'`.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

from clinops_prefect import registry

if TYPE_CHECKING:
    from clinops_prefect.testing.contracts.access import DirectAccess as DirectAccess
    from clinops_prefect.testing.contracts.backend import BackendContract as BackendContract
    from clinops_prefect.testing.contracts.store import StoreContract as StoreContract

__all__ = ["BackendContract", "DirectAccess", "StoreContract"]

_CONTRACTS = f"{__name__}.contracts"
_MODULES = {"BackendContract": "backend", "DirectAccess": "access", "StoreContract": "store"}


def __getattr__(name: str) -> Any:
    # Imported on demand, since the emulator of Step Functions is in this package too and does not need pytest.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if importlib.util.find_spec("pytest"):
        import pytest

        # Without this, a failing law would show an AssertionError without the two values that differ.
        pytest.register_assert_rewrite(_CONTRACTS)
    return registry.load(f"{_CONTRACTS}.{_MODULES[name]}:{name}", "testing")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
