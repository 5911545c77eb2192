"""`status`, `drain` and `run` against processes: a stand-in for a daemon, and the real one."""

import json
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, closing

import pytest

from fsm_miner.instance import Instance
from tests.support.cli_journal import command, environment, fsm_miner, without_rights

# Holds the lock, listens to the signals, serves the page in page.json; a line on standard output for all it sees.
# Told "apart", it keeps the page's address out of the lock: the page is then as good as another daemon's.
STAND_IN = """
import http.server, json, pathlib, signal, sys, threading
from fsm_miner.instance import Instance
folder = pathlib.Path(sys.argv[1])
draining = False
def drain(number, frame):
    global draining
    draining = number == signal.SIGUSR1
signal.signal(signal.SIGUSR1, drain)
signal.signal(signal.SIGUSR2, drain)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = json.loads((folder / "page.json").read_text())
        page |= {"draining": draining, "pull_held_back": "draining" if draining else None}
        body = json.dumps(page).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print("asked", draining, flush=True)
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Page)
instance = Instance(folder)
address = f"127.0.0.1:{server.server_port}"
if sys.argv[2:] != ["apart"]:
    instance.publish(f"http://{address}")
print(address, flush=True)
server.serve_forever()
"""
JOB = {"job_id": "j-1", "attempt": 1, "state": "RUNNING", "run": 1}
PAGE = {
    "status": "ok",
    "trouble": [],
    "node_id": "node-1",
    "version": "9.9",
    "uptime_s": 90.0,
    "registered": True,
    "running": 0,
    "queued": 0,
    "uploading": 0,
    "slots": {"cpu": 2, "gpu": 0},
    "isolation": ["sandbox-bubblewrap"],
    "jobs": [],
}


class Node:
    """A folder with a configuration, and what runs in it."""

    def __init__(self, folder, stack):
        self.folder = folder
        self.stack = stack
        self.config = folder / "config.yaml"
        self.write("null")

    def write(self, listen, journal="journal.db"):
        for name in ("tasks", "allow"):
            (self.folder / name).mkdir(exist_ok=True)
        # Port 9 of this machine: nobody answers, so the node is never registered.
        self.config.write_text(f"""
node_id: node-1
coordinator: {{base_url: "http://127.0.0.1:9/api", auth_token: "env:MINER_AUTH"}}
runners:
  cli: {{allowlist_files: [{self.folder}/allow]}}
  python: {{task_paths: [{self.folder}/tasks]}}
resources: {{disk_reserve_mb: 0, max_concurrent_gpu: 0}}
workspace: {{root: {self.folder}/jobs}}
journal: {{path: {self.folder}/{journal}}}
logging: {{path: "-"}}
health: {{listen: {listen}}}
sandbox: {{backend: none}}
""")

    def page(self, **more):
        temporary = self.folder / "page.json.new"
        temporary.write_text(json.dumps(PAGE | more))
        temporary.replace(self.folder / "page.json")

    def start(self, *words, **env):
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**env),
        )
        self.stack.callback(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)

    def stand_in(self, *words, **page):
        self.page(**page)
        process = self.start(sys.executable, "-P", "-c", STAND_IN, str(self.folder), *words)
        self.address = process.stdout.readline().strip()
        return process

    def cli(self, *words, code):
        done = fsm_miner(*words, "--config", self.config)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def node(tmp_path):
    with ExitStack() as stack:
        yield Node(tmp_path, stack)


def test_no_daemon_is_a_no(node):
    assert "not running" in node.cli("status", code=1).stdout
    assert json.loads(node.cli("status", "--json", code=1).stdout)["status"] == "not running"
    assert "no daemon runs" in node.cli("drain", code=1).stderr


def test_status_shows_the_page(node):
    process = node.stand_in(jobs=[JOB])
    text = node.cli("status", code=0).stdout
    assert f"ok  node-1, version 9.9, up 1m30s, process {process.pid}" in text
    assert "j-1        1  RUNNING    1" in text
    assert json.loads(node.cli("status", "--json", code=0).stdout)["jobs"] == [JOB]


def test_a_node_without_a_card_offers_none_and_an_outcome_that_waits_is_no_queued_job(node):
    slots = {"cpu": 2, "gpu": 1}
    node.stand_in(slots=slots, gpus=0, vram_free=0, outbox={"waiting": 1}, memory_free_mb=7, disk_free_mb=8)
    text = node.cli("status", code=0).stdout
    assert "2 CPU, GPU: none here" in text
    assert "7 MiB of memory, 8 MiB of disk\n" in text
    assert "0 running, 0 queued, 0 uploading; 1 outcome to deliver" in text
    node.page(slots=slots, gpus=1, vram_free=900, outbox={"waiting": 0})
    text = node.cli("status", code=0).stdout
    assert "2 CPU, 1 GPU" in text
    assert "900 MiB of video memory" in text
    assert "to deliver" not in text


def test_a_degraded_node_is_a_no_that_says_why(node):
    node.stand_in(status="degraded", trouble=["the journal can't write: disk full"])
    assert "! the journal can't write: disk full" in node.cli("status", code=1).stdout


def test_a_daemon_without_a_page_can_not_be_asked(node):
    process = node.start(
        sys.executable, "-P", "-c",
        "import pathlib, sys, time; from fsm_miner.instance import Instance; i = Instance(pathlib.Path(sys.argv[1]));"
        "print('ready', flush=True); sys.stdin.read()", str(node.folder),
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    data = json.loads(node.cli("status", "--json", code=1).stdout)
    assert (data["status"], data["pid"]) == ("unknown", process.pid)


def test_a_page_that_does_not_answer_is_a_no(node):
    with socket.socket() as closed, closing(Instance(node.folder)) as instance:
        closed.bind(("127.0.0.1", 0))
        instance.publish(f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert "no answer" in node.cli("status", code=1).stdout


def test_the_page_of_another_daemon_is_not_asked(node):
    """Two daemons with one health.listen: the second works without a page, and the first answers there."""
    process = node.stand_in("apart")
    node.write(f'"{node.address}"')
    status = json.loads(node.cli("status", "--json", code=1).stdout)
    assert (status["status"], status["pid"], "node_id" in status) == ("unknown", process.pid, False)
    assert "it has no status page" in status["trouble"][0]
    assert "told, but when it is drained can't be seen" in node.cli("drain", code=1).stderr
    assert "told, but whether it pulls again can't be seen" in node.cli("drain", "--off", code=1).stderr
    found = json.loads(node.cli("check", "--json", code=1).stdout)
    (one,) = [one for one in found if one["key"] == "health.listen"]
    assert (one["level"], one["line"] is not None) == ("problem", True)
    assert f"the daemon runs (process {process.pid}), and it has no status page" in one["message"]


def test_where_the_lock_can_not_be_looked_at_only_the_page_of_this_node_counts(node):
    (node.folder / "state").mkdir()
    node.stand_in()
    node.write(f'"{node.address}"', journal="state/journal.db")
    (node.folder / "state").chmod(0)
    done = fsm_miner("status", "--json", "--config", node.config, prefix=without_rights())
    assert (done.returncode, json.loads(done.stdout)["node_id"]) == (0, "node-1"), done
    node.page(node_id="node-2")
    done = fsm_miner("status", "--config", node.config, prefix=without_rights())
    assert done.returncode == 1
    assert "the page of another node: node-2" in done.stdout
    (node.folder / "state").chmod(0o700)


def test_drain_waits_until_the_last_job_is_over(node):
    stand_in = node.stand_in(jobs=[JOB])
    drain = node.start(*command("drain", "--config", node.config))
    while stand_in.stdout.readline() != "asked True\n":
        pass
    assert drain.poll() is None
    node.page()
    out, err = drain.communicate(timeout=30)
    assert (drain.returncode, err) == (0, "")
    assert out.startswith("drained: no job is left")


def test_drain_gives_up_in_time_and_says_what_is_left(node):
    node.stand_in(jobs=[JOB])
    assert (
        "not reached within 0.1 s: 1 unfinished: j-1 RUNNING"
        in node.cli("drain", "--timeout", "0.1", code=1).stderr
    )


def test_drain_only_tells(node):
    stand_in = node.stand_in(jobs=[JOB])
    assert "told" in node.cli("drain", "--no-wait", code=0).stdout
    while not json.loads(node.cli("status", "--json", code=0).stdout)["draining"]:
        pass
    assert "the node pulls again" in node.cli("drain", "--off", code=0).stdout
    assert not json.loads(node.cli("status", "--json", code=0).stdout)["draining"]
    assert stand_in.poll() is None


def test_a_daemon_that_ends_while_it_drains_is_noticed(node):
    stand_in = node.stand_in(jobs=[JOB])
    drain = node.start(*command("drain", "--config", node.config))
    while stand_in.stdout.readline() != "asked True\n":
        pass
    stand_in.kill()
    _, err = drain.communicate(timeout=30)
    assert drain.returncode == 1
    assert "has ended meanwhile" in err


def test_ctrl_c_is_130_and_quiet(node):
    stand_in = node.stand_in(jobs=[JOB])
    drain = node.start(*command("drain", "--config", node.config))
    assert stand_in.stdout.readline().startswith("asked")
    drain.send_signal(signal.SIGINT)
    out, err = drain.communicate(timeout=30)
    assert (drain.returncode, out, err) == (130, "", "")


def test_the_real_daemon_runs_tells_drains_and_stops(node):
    node.write('"127.0.0.1:0"')
    daemon = node.start(*command("run", "--config", node.config), MINER_AUTH="secret")
    while '"started"' not in daemon.stderr.readline():
        assert daemon.poll() is None, "it ended before it had started"
    data = {}
    while not data.get("trouble"):
        data = json.loads(node.cli("status", "--json", code=1).stdout)
    assert (data["status"], data["registered"], data["pid"]) == ("degraded", False, daemon.pid)
    assert "drained" in node.cli("drain", code=0).stdout
    assert "pulls again" in node.cli("drain", "--off", code=0).stdout
    assert "no jobs" in node.cli("jobs", code=0).stdout
    assert "0 streams, 0 records" in node.cli("verify", code=0).stdout
    second = fsm_miner("run", "--config", node.config, MINER_AUTH="secret")
    assert second.returncode == 4
    checked = fsm_miner("check", "--config", node.config, MINER_AUTH="secret")
    assert f"the daemon runs (process {daemon.pid})" in checked.stdout
    daemon.terminate()
    daemon.communicate(timeout=30)
    assert daemon.returncode == 0


def test_run_says_what_is_wrong_with_the_configuration(node):
    assert "MINER_AUTH is not set" in node.cli("run", code=2).stderr


def test_run_needs_a_folder_that_can_be_one(node):
    (node.folder / "file").write_text("")
    text = node.config.read_text().replace(f"{node.folder}/journal.db", f"{node.folder}/file/journal.db")
    node.config.write_text(text)
    done = fsm_miner("run", "--config", node.config, MINER_AUTH="secret")
    assert done.returncode == 3


def test_check_counts_its_problems(node):
    assert "environment variable MINER_AUTH is not set" in node.cli("check", code=1).stdout
    done = fsm_miner("check", "--config", node.config, "--json", MINER_AUTH="secret")
    found = json.loads(done.stdout)
    assert done.returncode == 0, found
    assert {one["level"] for one in found} == {"ok", "warning"}
    assert found[0].keys() == {"level", "file", "line", "key", "message"}
