"""The repository's root goes last on the path: helpers under `tests` are found, the installed wheel stays first.

What the tests start reacts to Ctrl-C, however they were started themselves. No drawn example has a time limit: these
machines are shared.
"""

import signal
import sys
from pathlib import Path

from hypothesis import settings

sys.path.append(str(Path(__file__).resolve().parent.parent))

# Who starts the tests in the background of a script has them ignore Ctrl-C, and so would every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("no deadline", settings(), deadline=None)
settings.load_profile("no deadline")
