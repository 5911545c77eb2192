"""The repository's root goes last on the path: helpers under `tests` are found, the installed wheel stays first.

What the tests start reacts to Ctrl-C, however they were started themselves.
"""

import signal
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

# Who starts the tests in the background of a script has them ignore Ctrl-C, and so would every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
