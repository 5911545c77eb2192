"""What systemd is told: by a real datagram to a real socket, at virtual times."""

import asyncio
import contextlib
import os
import resource
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.notify import LINE_CHARS_MAX, Notices, ServiceManager, take_service_manager
from tests.simulation.virtual_time import VirtualClock, run


@contextlib.contextmanager
def listener(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(b"\0" + address[1:].encode() if address.startswith("@") else address)
        ear.setblocking(False)
        yield ear


def heard(ear):
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            lines = ear.recv(4096).decode().splitlines()
            found.append(dict(line.split("=", 1) for line in lines))
    return found


@pytest.fixture(params=["path", "abstract"])
def address(request, tmp_path):
    return (
        str(tmp_path / "notify")
        if request.param == "path"
        else f"@fsm-miner-test-{os.getpid()}-{tmp_path.name}"
    )


def told(manager, ear, line, healthy, seconds):
    """What is heard within so many virtual seconds."""

    async def main():
        clock = VirtualClock()
        running = asyncio.create_task(Notices(manager, line, healthy, clock=clock).run())
        await clock.sleep(seconds)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(main())
    return heard(ear)


def test_ready_first_then_the_status_when_it_changes(address):
    lines = iter(["registering", "registering", "registered"])
    with listener(address) as ear:
        found = told(ServiceManager(address), ear, lambda: next(lines, "registered"), lambda: True, 10.0)
    assert found == [{"READY": "1", "STATUS": "registering"}, {"STATUS": "registered"}]


def test_keep_alives_come_four_times_within_the_watchdogs_patience(address):
    with listener(address) as ear:
        found = told(ServiceManager(address, 2.0), ear, lambda: "x", lambda: True, 2.25)
    assert found[0] == {"READY": "1", "STATUS": "x", "WATCHDOG_USEC": "2000000", "WATCHDOG": "1"}
    assert found[1:] == [{"WATCHDOG": "1"}] * 5


def test_a_daemon_that_lost_a_loop_falls_silent(address):
    asked = iter([True, True])
    with listener(address) as ear:
        found = told(ServiceManager(address, 20.0), ear, lambda: "x", lambda: next(asked, False), 60.0)
    assert found[1:] == [{"WATCHDOG": "1"}] * 2


def test_stopping_is_said(address):
    with listener(address) as ear:
        Notices(ServiceManager(address), lambda: "x", lambda: True, clock=VirtualClock()).stopping()
        assert heard(ear) == [{"STOPPING": "1", "STATUS": "stopping; jobs go on"}]


def test_beginning_anew_is_no_end_and_asks_for_patience_until_it_is_ready(address):
    with listener(address) as ear:
        Notices(ServiceManager(address, 60.0), lambda: "x", lambda: True, clock=VirtualClock()).anew()
        (said,) = heard(ear)
    assert "STOPPING" not in said
    assert (said["WATCHDOG_USEC"], said["WATCHDOG"]) == ("600000000", "1")


def test_who_listens_is_taken_out_of_the_environment():
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "PATH": "/bin"}
    manager = take_service_manager(environ, 7)
    assert (manager.listens, manager.watchdog_s) == (True, 30.0)
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("environ", "listens"),
    [
        ({}, False),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, False),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, True),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "0"}, True),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "soon"}, True),
    ],
)
def test_nothing_is_believed_that_is_not_meant_for_this_process(environ, listens):
    manager = take_service_manager(environ, 7)
    assert (manager.listens, manager.watchdog_s) == (listens, None)


def test_nobody_there_is_no_trouble(tmp_path):
    ServiceManager(str(tmp_path / "nobody")).tell({"READY": "1"})
    ServiceManager().tell({"READY": "1"})


@given(st.text())
def test_no_text_adds_a_field(text):
    name = f"@fsm-miner-test-{os.getpid()}-fields"
    with listener(name) as ear:
        ServiceManager(name).tell({"STATUS": text})
        raw = ear.recv(65536)
    assert raw.startswith(b"STATUS=")
    assert raw.count(b"\n") == 1
    assert len(raw.decode()) <= len("STATUS=\n") + LINE_CHARS_MAX


def test_without_a_descriptor_left_it_is_alive_and_says_so(address):
    """A process that has none is mended by itself; systemd must not end it meanwhile for saying nothing."""
    with listener(address) as ear:
        manager = ServiceManager(address, 60.0)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                os.open("/dev/null", os.O_RDONLY)
            manager.tell({"WATCHDOG": "1"})
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert heard(ear) == [{"WATCHDOG": "1"}]
