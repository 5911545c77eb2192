"""What the tests of bad days share: asking the node, and jobs that wait for a file that the test makes."""

import shutil
from pathlib import Path

import httpx

from tests.integration.daemon.rig import until


class Page:
    """The status page over one connection that stays open: a node without descriptors answers no other."""

    def __init__(self, node) -> None:
        self._http = httpx.Client(timeout=10, trust_env=False, base_url=node.status_url())
        self.health()

    def health(self):
        return self._http.get("/healthz").json()

    def told(self, *words):
        """Wait until it tells of a trouble with all the words."""

        def found():
            return [one for one in self.health()["trouble"] if all(word in one for word in words)]

        return until(found, f"/healthz tells of {words}")[0]

    def fine(self):
        until(lambda: self.health()["status"] == "ok", "all is well again")
        assert self.health()["pull_held_back"] is None

    def close(self):
        self._http.close()


def waiting_for(file, then="echo done"):
    """Return a script that waits for a file outside of every job's folder."""
    return f"while [ ! -e {file} ]; do sleep 0.05; done; {then}"


def still_queued(rig, job_id):
    """See that the node has not taken it. A pull that was under way may have been handed it, and let go of it."""
    assert rig.coordinator.ask("GET", f"/admin/jobs/{job_id}")["state"] in {"queued", "offered"}


def done_once(rig, job_id):
    """Wait for the job's end: one good outcome."""
    view = rig.coordinator.wait(job_id)
    assert view["state"] == "done", view
    assert len(view["outcomes"]) == 1
    return view


def rm_r(folder: Path) -> None:
    """Remove a folder with all in it, as often as it takes: the daemon may be making something in it."""

    def done() -> bool:
        try:
            shutil.rmtree(folder)
        except OSError:
            return False
        return True

    until(done, f"{folder.name} is removed")
