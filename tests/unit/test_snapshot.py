import json
import time
from pathlib import Path

from fsm_miner.snapshot import write_state_json


def test_the_snapshot_is_replaced_whole(tmp_path: Path):
    problems: list[str] = []
    path = tmp_path / "state.json"
    for state in ("PREP", "RUNNING"):
        write_state_json(path, {"state": state, "note": "grüße"}, problems.append)
        assert json.loads(path.read_text()) == {"state": state, "note": "grüße"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]
    assert problems == []


def test_a_snapshot_that_cannot_be_written_is_reported_and_raises_nothing(tmp_path: Path):
    problems: list[str] = []
    path = tmp_path / "state.json"
    path.mkdir()
    write_state_json(path, {}, problems.append)
    write_state_json(tmp_path / "a", {"x": object()}, problems.append)
    write_state_json(tmp_path / "b", {"x": float("nan")}, problems.append)
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"x": deep}
    write_state_json(tmp_path / "c", deep, problems.append)
    assert len(problems) == 4
    assert all(str(tmp_path) in problem for problem in problems)


def test_a_folder_that_was_swept_is_nothing_to_report(tmp_path: Path):
    problems: list[str] = []
    write_state_json(tmp_path / "gone" / "state.json", {}, problems.append)
    assert problems == []
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_its_place_is_replaced_and_one_in_the_temporary_s_place_is_refused(tmp_path: Path):
    problems: list[str] = []
    canary = tmp_path / "canary"
    canary.write_text("alive")
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "state.json").symlink_to(canary)
    write_state_json(folder / "state.json", {}, problems.append)
    assert problems == []
    assert not (folder / "state.json").is_symlink()
    (folder / ".state.json.tmp").symlink_to(canary)
    write_state_json(folder / "state.json", {}, problems.append)
    assert len(problems) == 1
    assert canary.read_text() == "alive"


def test_it_is_cheap_enough_for_the_event_loop(tmp_path: Path):
    problems: list[str] = []
    data = {"job_id": "j", "attempt": 1, "state": "RUNNING", "history": [{"event": "Acked"}] * 10}
    best_us = float("inf")
    for _ in range(50):
        before = time.perf_counter_ns()
        write_state_json(tmp_path / "state.json", data, problems.append)
        best_us = min(best_us, (time.perf_counter_ns() - before) / 1000)
    print(f"state.json: {best_us:.0f} us")
    assert best_us < 5_000
    assert problems == []
