"""How much chance there is in a test run."""

import os

from hypothesis import HealthCheck, settings

FUZZ = os.environ.get("LABGATE_FUZZ")
"""How many examples of each property `make fuzz` tries; unset in the default run."""

# The default run tries the same few each time, and so fails only for what was changed; `make fuzz` does not.
settings.register_profile(
    "labgate",
    max_examples=int(FUZZ or 200),
    derandomize=not FUZZ,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("labgate")
