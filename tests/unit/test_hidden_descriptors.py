"""Looking into a process that hides: what is the process's doing, and what the daemon's own lack."""

import errno
import os

import pytest

from runners.descriptors import Hidden, hidden_descriptors
from runners.measure import measure_written


def refusing(number):
    def pidfd_open(_pid, _flags=0):
        raise OSError(number, os.strerror(number))

    return pidfd_open


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EPERM])
def test_what_the_daemon_lacks_is_nothing_that_the_process_hides(monkeypatch, number):
    monkeypatch.setattr(os, "pidfd_open", refusing(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        list(hidden_descriptors(7, 8))


def test_a_thread_that_this_kernel_takes_no_copies_from_hides(monkeypatch):
    monkeypatch.setattr(os, "pidfd_open", refusing(errno.EINVAL))
    with pytest.raises(Hidden):
        list(hidden_descriptors(7, 8))
    assert list(hidden_descriptors(7, 7)) == []  # it has ended


@pytest.mark.parametrize(("number", "excess"), [(errno.EMFILE, False), (errno.EINVAL, True)])
def test_only_what_hides_is_too_much(monkeypatch, tmp_path, number, excess):
    monkeypatch.setattr(os, "pidfd_open", refusing(number))
    monkeypatch.setattr("runners.measure.member_of", lambda pid: pid + 1)
    real = os.scandir

    def closed(path):
        if str(path).startswith("/proc/"):
            raise PermissionError(errno.EACCES, "closed")
        return real(path)

    monkeypatch.setattr(os, "scandir", closed)
    found = measure_written((tmp_path,), [os.getpid()])
    assert (found.excess is not None) is excess
