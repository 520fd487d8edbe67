"""What holds for all tests: how Hypothesis draws, that Ctrl-C can be heard, and that no proxy is used."""

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

# A proxy of the machine is none of ours, and would be asked for 127.0.0.1 as well.
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]
