"""How this version reads the events of older ones: `{(event, version): function}`, empty as long as none has changed.

Each function turns the data of that version into the next one's. The number in `states.events.VERSIONS` is one more
than the highest here. A golden journal of every release (`tests/golden`) says whether it is true.
"""

from journal.upcast import Upcasters

__all__ = ["UPCASTERS"]

UPCASTERS = Upcasters({})
