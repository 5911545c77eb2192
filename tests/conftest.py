"""The repository's root goes last on the path: helpers under `tests` are found, the installed wheel stays first."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
