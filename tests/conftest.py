"""How Hypothesis draws: fixed examples in CI, where a change is judged; new ones at a desk."""

import os

from hypothesis import settings

# A shared machine may stop for a second anywhere: no test is judged by its time.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("SLIPSTREAM_CI") else "dev")
