"""What holds for all tests: how Hypothesis draws, and that Ctrl-C can be heard."""

import os
import signal

from hypothesis import settings

# Fixed examples in CI, where a change is judged; new ones at a desk.
# A shared machine may stop for a second anywhere: no test is judged by its time.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("SLIPSTREAM_CI") else "dev")

# A shell's background job ignores it, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
