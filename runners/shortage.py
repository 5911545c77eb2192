"""What this process or its machine lacks for a moment: descriptors, memory, processes.

Such a failure says nothing about the job, the file or the disk that was being looked at: wait, and do it again.
"""

import errno

__all__ = ["DISK_REFUSES", "SHORTAGES", "is_shortage", "refused_by_disk", "shortage_behind"]

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS})
DISK_REFUSES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


def is_shortage(error: BaseException) -> bool:
    """Tell whether a shortage of the process or the machine (errno(3)) is behind the error."""
    return shortage_behind(error) is not None


def shortage_behind(error: BaseException) -> OSError | None:
    """Return the shortage that is the error, or that it was raised from; None if there is none."""
    return _behind(error, SHORTAGES)


def refused_by_disk(error: BaseException) -> bool:
    """Tell whether a disk that is full, read-only or broken is behind the error."""
    return _behind(error, DISK_REFUSES) is not None


def _behind(error: BaseException, numbers: frozenset[int]) -> OSError | None:
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in numbers:
            return found
        found = found.__cause__
    return None
