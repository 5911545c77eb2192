"""Names are looked up by the system's resolver, which nobody has to wait for."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsm_miner.addresses import resolve
from tests.support.needs import lacking

SILENT = """
import asyncio, fcntl, socket, struct
from fsm_miner.addresses import resolve
from fsm_miner.egress.gateway import Names

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(server, 0x8914, struct.pack("16sH22x", b"lo", 0x41))
server.bind(("127.0.0.1", 53))

async def story():
    names = Names(resolve)
    waiting = asyncio.ensure_future(names("slow.example", 443))
    await asyncio.to_thread(server.recv, 512)
    try:
        async with asyncio.timeout(0.01):
            await asyncio.shield(waiting)
    except TimeoutError:
        print("given up")
    await names.close()

asyncio.run(story())
"""


def test_names_and_addresses():
    assert set(asyncio.run(resolve("localhost", 80))) <= {"127.0.0.1", "::1"}
    assert asyncio.run(resolve("127.0.0.1", 80)) == ["127.0.0.1"]


@pytest.mark.parametrize("name", ["\0", "a" * 300])
def test_what_is_no_name(name):
    with pytest.raises((OSError, ValueError)):
        asyncio.run(resolve(name, 80))


def test_the_end_waits_for_no_name_whose_servers_are_silent(tmp_path):
    """In a network of the test's own, whose only name server takes every question and answers none."""
    if not Path("/etc/resolv.conf").exists():
        lacking("/etc/resolv.conf is not there: nothing to put another in the place of")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
    script = f'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec "$0" -P -c "$1"'
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "sh",
        "-c",
        script,
        sys.executable,
        SILENT,
    ]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (0, "given up\n"), done.stderr
