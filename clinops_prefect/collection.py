"""The entry point `prefect.collections`, which Prefect imports before it looks up a block or a serializer by name.

A class registers itself with Prefect when its module is imported, and `clinops_prefect` imports modules on first use.
"""

from contextlib import suppress

import clinops_prefect
from clinops_prefect import registry

# A missing extra is no error here. Without the suppression, Prefect would show it to every user as one.
for _name in clinops_prefect.__all__:
    with suppress(ImportError):
        getattr(clinops_prefect, _name)
for _store in registry.stores():
    with suppress(ImportError):
        _store.load()
