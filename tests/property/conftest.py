"""How much of chance the properties get."""

import os

from hypothesis import HealthCheck, settings

# A store's fixture is shared by the examples of a property: each example uploads anew under the same name.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=100, derandomize=bool(os.environ.get("CI")), **_COMMON)
settings.register_profile("long", max_examples=5_000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
