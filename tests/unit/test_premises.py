"""What the node stands on: said once, said with what to do, and unsaid when it is over."""

import asyncio

from fsm_miner.config.load import parse_config
from fsm_miner.premises import Premises, full, made, unwritable

CONFIG = (
    "coordinator: {base_url: 'http://127.0.0.1:1/api/v1', auth_token: 'env:MINER_AUTH'}\n"
    "workspace: {root: jobs}\njournal: {path: state/journal.db}\nresources: {disk_reserve_mb: 1}\n"
)


class Log:
    def __init__(self):
        self.lines = []

    def __getattr__(self, level):
        return lambda event, **attrs: self.lines.append((level, event, attrs.get("problem")))


class LogState:
    trouble = None
    resumed = 0

    def resume(self):
        self.resumed += 1


def premises(tmp_path, *own_files, log_state=None):
    log = Log()
    config = parse_config(CONFIG, "config.yaml", tmp_path)
    return Premises(config, log_state or LogState(), own_files, clock=None, log=log), log


def test_all_is_well_and_missing_folders_are_made(tmp_path):
    node, log = premises(tmp_path)
    asyncio.run(node.look())
    assert node.found.all == ()
    assert node.why_not_pull() is None
    assert log.lines == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs", "state"]
    assert list((tmp_path / "jobs").iterdir()) == []


def test_each_trouble_is_logged_once_and_its_end_too(tmp_path):
    node, log = premises(tmp_path)
    changes = []
    node.on_change = lambda: changes.append(node.why_not_pull())
    (tmp_path / "state").write_text("in the way")
    asyncio.run(node.look())
    asyncio.run(node.look())
    (trouble,) = node.found.hold
    assert trouble == f"{tmp_path}/state: File exists: make it again, for the daemon's user to write to"
    (tmp_path / "state").unlink()
    asyncio.run(node.look())
    assert log.lines == [("error", "premises_trouble", trouble), ("info", "premises_recovered", trouble)]
    assert changes == [trouble, None]


def test_what_the_own_files_say_holds_and_a_lossy_log_does_not(tmp_path):
    async def journal():
        return "journal: it was deleted"

    state = LogState()
    state.trouble = "miner.jsonl: lines are lost"
    node, _ = premises(tmp_path, journal, log_state=state)
    asyncio.run(node.look())
    assert node.found.hold == ("journal: it was deleted",)
    assert node.found.trouble == ("miner.jsonl: lines are lost",)
    assert node.why_not_pull() == "journal: it was deleted"
    assert state.resumed == 1


def test_too_little_space_says_how_much_is_kept_and_by_what(tmp_path):
    sentence = full(tmp_path, 2**40)
    assert "MiB free; resources.disk_reserve_mb keeps 1099511627776: make space" in sentence
    assert full(tmp_path, 0) is None
    assert "No such file" in full(tmp_path / "nowhere", 0)


def test_who_makes_room_is_called_at_each_look_that_finds_too_little_space(tmp_path):
    node, _ = premises(tmp_path)
    calls = []
    node.on_short = lambda: calls.append(node.short())
    asyncio.run(node.look())
    assert (calls, node.short()) == ([], None)
    log = Log()
    config = parse_config(CONFIG.replace("mb: 1}", f"mb: {2**40}}}"), "config.yaml", tmp_path)
    node = Premises(config, LogState(), (), clock=None, log=log)
    node.on_short = lambda: calls.append(node.short())
    asyncio.run(node.look())
    asyncio.run(node.look())
    assert len(calls) == 2
    assert "resources.disk_reserve_mb keeps" in calls[0]


def test_a_folder_that_takes_nothing(tmp_path):
    assert unwritable(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert "No such file" in unwritable(tmp_path / "nowhere")
    assert made(tmp_path) is None
