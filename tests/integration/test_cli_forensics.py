"""`why`, `export`, `replay --bundle`, `--html` and `--follow` as processes of their own, on real journals."""

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import stat
import struct
import subprocess
import termios

import pytest

from journal import SqliteJournal, StreamKey
from tests.support.cli_journal import (
    alive,
    command,
    denied,
    entries,
    environment,
    fsm_miner,
    offered,
    rot,
    seal,
    succeeded,
    ticking,
    without_rights,
    write_journal,
)


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    life = succeeded()
    life[0] = offered(env={"GREETING": "hello"}, args=["https://me:pw@host/x?sig=Zz9"])
    folder = tmp_path_factory.mktemp("journal")
    return write_journal(folder / "journal.db", life, denied(), alive())


def ran(done, code=0):
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_why_tells_and_gives_its_records(journal):
    text = ran(fsm_miner("why", "j-2", "--journal", journal)).stdout
    assert text.startswith("j-2/1 failed, since the rules of this node don't allow it (E_DENY) [4], and the")
    data = json.loads(ran(fsm_miner("why", "j-3/1", "--json", "--journal", journal)).stdout)
    assert (data["job_id"], data["attempt"], data["state"]) == ("j-3", 1, "RUNNING")
    assert {seq for one in data["sentences"] for seq in one["records"]} == {1, 2, 3, 4, 5}
    assert data["sentences"][-1]["topic"] == "now"


def test_a_case_goes_to_another_machine_and_is_told_there(journal, tmp_path):
    where = fsm_miner("export", "j-1", "--journal", journal, "-o", tmp_path / "j.json")
    assert f"{tmp_path / 'j.json'}: " in ran(where).stdout
    assert "redacted: record 1\n" in where.stdout
    file = tmp_path / "j.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for secret in (b"hello", b"pw@", b"Zz9"):
        assert secret not in file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["j.json"]

    refused = fsm_miner("export", "j-1", "--journal", journal, "-o", file)
    assert "is there already; --force replaces it" in ran(refused, 1).stderr
    ran(fsm_miner("export", "j-1", "--journal", journal, "-o", file, "--force", "--no-redact"))
    assert b"Zz9" in file.read_bytes()

    piped = ran(fsm_miner("export", "j-1/1", "--journal", journal, "-o", "-")).stdout
    done = subprocess.run(
        command("replay", "--bundle", "-"), input=piped, capture_output=True, text=True, check=False,
        env=environment(), timeout=60,
    )  # fmt: skip
    text = ran(done).stdout
    assert text.startswith("j-1/1  from standard input, exported at ")
    assert "chain     holds: 8 records, head " in text
    assert "; record 1 was redacted: its hash is taken on trust, all others were computed" in text
    data = json.loads(ran(fsm_miner("replay", "--bundle", file, "--json")).stdout)
    assert data["redacted"] == []
    assert "j-1/1 succeeded [7]" in ran(fsm_miner("why", "--bundle", file)).stdout


def test_a_page_of_a_bundle(journal, tmp_path):
    ran(fsm_miner("export", "j-2", "--journal", journal, "-o", tmp_path / "j.json"))
    done = ran(fsm_miner("replay", "--bundle", tmp_path / "j.json", "--html", tmp_path / "j.html"))
    assert re.fullmatch(rf"{tmp_path}/j.html: [0-9.]+ KiB, 5 records\n", done.stdout)
    assert (tmp_path / "j.html").read_text().startswith("<!doctype html>")
    again = fsm_miner("replay", "j-2", "--journal", journal, "--html", tmp_path / "j.html")
    assert "is there already" in ran(again, 1).stderr


@pytest.mark.parametrize("words", [("export", "j-2", "-o"), ("replay", "j-2", "--html"), ("backup",)])
def test_no_command_replaces_what_is_no_plain_file(journal, tmp_path, words):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refused = ran(fsm_miner(*words, pipe, "--force", "--journal", journal), 3)
    assert "a pipe is there, and only a plain file with one name is ever replaced" in refused.stderr
    assert [path.is_fifo() for path in tmp_path.iterdir()] == [True]


def test_damage_is_told_and_goes_along(tmp_path):
    path = write_journal(tmp_path / "journal.db", succeeded())
    rot(path, "UPDATE records SET data_json = '{' WHERE job_id = 'j-1' AND seq = 4")
    assert ran(fsm_miner("why", "j-1", "--journal", path), 1).stdout.startswith(
        "Record 4 is not what was written"
    )
    ran(fsm_miner("export", "j-1", "--journal", path, "-o", tmp_path / "j.json"))
    text = ran(fsm_miner("replay", "--bundle", tmp_path / "j.json"), 1).stdout
    assert "does NOT hold: j-1/1: record 4: " in text


def test_a_job_of_the_archive_can_be_exported(tmp_path):
    path = write_journal(tmp_path / "journal.db", succeeded())
    seal(path, ("j-1", 1))
    ran(fsm_miner("export", "j-1", "--journal", path, "-o", tmp_path / "j.json"))
    assert "journal-archive" in json.loads((tmp_path / "j.json").read_bytes())["source"]


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("why",), 2, "name a JOB"),
        (("why", "j-1", "--bundle", "x"), 2, "--bundle holds one attempt"),
        (("replay", "--bundle", "x", "--follow"), 2, "--follow watches a JOB"),
        (("replay", "j-1", "--follow", "--at", "3"), 2, "--at and --follow are different ways"),
        (("replay", "j-1", "--force"), 2, "--force is about"),
        (("replay", "j-1", "--html", "x", "--json"), 2, "a page is no JSON"),
        (("why", "--bundle", "there/is/none"), 1, "there/is/none: No such file"),
        (("why", "--bundle", "/"), 1, "/: Is a directory"),
        (("why", "--bundle", "/dev/zero"), 1, "/dev/zero: is larger than a bundle may be"),
    ],
)
def test_wrong_usage_is_a_sentence(words, code, problem):
    assert problem in ran(fsm_miner(*words), code).stderr


def test_a_folder_that_may_not_be_written_is_a_sentence(journal, tmp_path):
    tmp_path.chmod(0o500)
    done = fsm_miner(
        "export", "j-2", "--journal", journal, "-o", tmp_path / "j.json", prefix=without_rights()
    )
    assert "Permission denied" in ran(done, 3).stderr
    tmp_path.chmod(0o700)


def follower(path, *words):
    return subprocess.Popen(
        command("replay", "j-1", "--follow", "--journal", path, *words),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True,
    )  # fmt: skip


@pytest.mark.parametrize(("life", "code"), [(succeeded(), 0), (denied("j-1"), 1)])
def test_a_live_job_is_followed_to_its_end_through_restarts_of_the_daemon(tmp_path, life, code):
    path = tmp_path / "journal.db"
    made = entries(life)

    async def write(entries_, first):
        journal = SqliteJournal(path, boot_id="boot-1", now_ns=ticking())
        try:
            for seq, entry in enumerate(entries_, start=first):
                await journal.append(StreamKey("j-1", 1), seq, [entry])
                yield seq
        finally:
            await journal.close()

    async def main():
        seen = []
        async for _ in write(made[:2], 0):
            pass
        with follower(path, "--json") as process:
            seen += [json.loads(await asyncio.to_thread(process.stdout.readline)) for _ in range(2)]
            for part, first in ((made[2:4], 2), (made[4:], 4)):  # two daemons, one after the other
                async for _ in write(part, first):
                    seen.append(json.loads(await asyncio.to_thread(process.stdout.readline)))
            rest, errors = await asyncio.to_thread(process.communicate, timeout=30)
        assert (rest, errors, process.returncode) == ("", "", code)
        assert [record["event"] for record in seen] == [entry.event for entry in made]
        assert all(record["holds"] for record in seen)

    asyncio.run(main())


def test_following_ends_with_ctrl_c_and_says_who_is_missing(tmp_path):
    path = write_journal(tmp_path / "journal.db", alive("j-1"))
    with follower(path) as process:
        lines = [process.stdout.readline() for _ in range(8)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert (rest, errors, process.returncode) == ("", "", 130)
    assert lines[0].endswith(" (no daemon runs in this folder now)\n")
    assert [line.split()[0] for line in lines[3:]] == list("12345")


def on_terminal(columns, *words):
    """Run the command line on a terminal of this width; return its lines."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        env = environment(TERM="xterm")
        with subprocess.Popen(
            command(*words), stdin=theirs, stdout=theirs, stderr=theirs, env=env
        ) as process:
            os.close(theirs)
            theirs = -1
            text = b""
            while piece := _read(ours):
                text += piece
        assert process.returncode == 0, text
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)
    return re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).replace("\r\n", "\n").splitlines()


def _read(fd):
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: nobody writes to it any more
        return b""


def test_a_life_is_readable_at_80_columns_and_at_200(journal):
    narrow = on_terminal(80, "replay", "j-3", "--journal", journal)
    assert "4  00:00:17.000     +1.000s  LaunchIntended    PREP" in narrow
    assert "   run 1: /usr/bin/echo, at most 1m00s, 256 MiB of memory, 10 MiB of output" in narrow
    assert max(map(len, narrow[:-3])) <= 80
    wide = on_terminal(200, "replay", "j-3", "--journal", journal)
    (line,) = [line for line in wide if line.startswith("4 ")]
    assert (
        line.split("  ")[-1].strip()
        == "run 1: /usr/bin/echo, at most 1m00s, 256 MiB of memory, 10 MiB of output"
    )
    assert max(map(len, on_terminal(80, "why", "j-3", "--journal", journal))) <= 80
