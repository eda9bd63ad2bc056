"""What Prefect imports before it looks up a block or a serializer by name: the `prefect.collections` entry point.

A class registers itself with Prefect when it is made, and `clinops_prefect` makes its classes when they are asked for.
"""

from contextlib import suppress

import clinops_prefect
from clinops_prefect import registry

# An extra that is not installed is no fault here, and Prefect would print it to each of its users as one.
for _name in clinops_prefect.__all__:
    with suppress(ImportError):
        getattr(clinops_prefect, _name)
for _store in registry.stores():
    with suppress(ImportError):
        _store.load()
