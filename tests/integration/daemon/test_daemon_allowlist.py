"""Rules that change under a running daemon: the next job is judged by the new ones."""

import shutil

import pytest
import yaml

from tests.integration.daemon.rig import until

RULE = {"command": {"path": "/usr/bin/echo"}, "args": [["one"]], "max_output_mb": 1}


@pytest.fixture(scope="module")
def rig(shared_rigs):
    return shared_rigs()


def text(word):
    return yaml.safe_dump({**RULE, "args": [[word]]})


def judged(rig, word):
    view = rig.coordinator.run({"runner": "cli", "command": "echo", "args": [word], "timeout_s": 5})
    if view["state"] == "done":
        return "done"
    return view["outcomes"][0]["body"]["error_code"]


def test_replaced_edited_broken_removed_restored(rig):
    file = rig.node.allowlist / "echo.yaml"
    assert judged(rig, "two") == "done"  # the rig's own rule takes any words

    rig.node.allow("echo", RULE)
    assert (judged(rig, "one"), judged(rig, "two")) == ("done", "E_DENY")

    file.write_text(text("two"))  # in place
    assert (judged(rig, "one"), judged(rig, "two")) == ("E_DENY", "done")

    file.write_text("command: {path: /usr/bin/echo}\nargs: [['[']]\n")
    assert (judged(rig, "one"), judged(rig, "two")) == ("E_DENY", "done")  # the last good rules
    said = until(
        lambda: [r for r in rig.node.log() if "echo.yaml:2" in str(r["attrs"])], "the log says what is wrong"
    )
    assert "not a regular expression" in str(said[0]["attrs"])
    assert any("echo.yaml:2" in trouble for trouble in rig.node.health()["trouble"])

    file.unlink()
    assert judged(rig, "two") == "E_DENY"

    rig.node.allow("echo", RULE)
    assert judged(rig, "one") == "done"
    assert rig.node.health()["trouble"] == []


def test_the_folder_is_replaced_as_a_whole(rig):
    rig.node.allow("echo", RULE)
    assert judged(rig, "one") == "done"
    fresh = rig.node.folder / "fresh.d"
    fresh.mkdir()
    (fresh / "echo.yaml").write_text(text("three"))
    rig.node.allowlist.rename(rig.node.folder / "old.d")
    fresh.rename(rig.node.allowlist)
    assert (judged(rig, "one"), judged(rig, "three")) == ("E_DENY", "done")
    (rig.node.allowlist / "echo.yaml").write_text(text("four"))
    assert judged(rig, "four") == "done"


def test_the_folder_goes_and_comes_back(rig):
    rig.node.allow("echo", RULE)
    assert judged(rig, "one") == "done"
    shutil.rmtree(rig.node.allowlist)
    until(lambda: judged(rig, "one") == "E_DENY" or rig.node.health()["trouble"], "it is noticed")
    rig.node.allowlist.mkdir()
    rig.node.allow("echo", {**RULE, "args": [["five"]]})
    assert (judged(rig, "five"), judged(rig, "one")) == ("done", "E_DENY")


def test_a_program_that_no_job_sees_is_not_launched_and_another_node_may_run_it(rig):
    program = shutil.copy("/usr/bin/echo", rig.node.folder / "elsewhere")
    rig.node.allow("elsewhere", {**RULE, "command": {"path": str(program)}})
    view = rig.coordinator.run({"runner": "cli", "command": "elsewhere", "args": ["one"], "timeout_s": 5})
    said = view["outcomes"][0]["body"]
    assert (said["error_code"], said["retryable"]) == ("E_NORESOURCE", True)
    assert said["error_msg"].startswith(f"{program} is not in the sandbox: ")
    (rig.node.allowlist / "elsewhere.yaml").unlink()


def test_a_rule_that_changes_during_a_run_does_not_touch_it(rig):
    rule = {"command": {"path": "/bin/sh"}, "args": [["-c", "(?s).*"]], "max_runtime_s": 30}
    rig.node.allow("sh", rule)
    script = "echo up; while ! test -e go; do sleep 0.02; done"
    (job_id,) = rig.coordinator.submit(
        {"runner": "cli", "command": "sh", "args": ["-c", script], "timeout_s": 20}
    )
    rig.node.await_printed(job_id, "up")
    (rig.node.allowlist / "sh.yaml").unlink()
    rig.node.restart()
    rig.node.await_event(job_id, "Reattached")
    (rig.node.jobs / job_id / "work" / "go").touch()
    assert rig.coordinator.wait(job_id)["state"] == "done"
