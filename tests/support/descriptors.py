"""A process that can't open a file: every descriptor is taken."""

import contextlib
import os
import resource
from pathlib import Path


@contextlib.contextmanager
def no_descriptors():
    """Take every descriptor that there is."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as taken:
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                taken.enter_context(Path(os.devnull).open("rb"))
        yield
