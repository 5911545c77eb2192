"""A job's secrets for real: where it finds them, and that they come out nowhere, however it prints them."""

import pytest

from tests.integration.daemon.rig import SH_RULE, sh, until

# With what has to be quoted in it, and long enough to be recognised encoded.
SECRET = "s3cr3t 'with' \"quotes\" & $more"
PRINTING = r"""
echo "$API_KEY" >&2
printf '%s' "$API_KEY" | base64 >&2
printf 'user:%s' "$API_KEY" | base64 -w0 >&2; echo >&2
printf '%s' "$API_KEY" | od -An -tx1 -v | tr -d ' \n' >&2; echo >&2
python3 -c 'import os, urllib.parse as u, json, shlex; s = os.environ["API_KEY"]
print(u.quote(s, safe=""), json.dumps(s), shlex.quote(s), repr(s))' >&2
printf '%.10s' "$API_KEY" >&2; printf '%s\n' "${API_KEY#??????????}" >&2
set -x; : "$API_KEY"; set +x
"""


@pytest.fixture(scope="module")
def rig(shared_rigs):
    made = shared_rigs(start=False)
    made.node.allow("sh", {**SH_RULE, "env": ["API_KEY", "API_KEY_FILE", "EMPTY"]})
    made.node.secrets.add(SECRET)
    made.node.start()
    return made


def looks_clean(text):
    assert "s3cr3t" not in text, text
    assert "quotes" not in text, text
    assert "czNjcjN0" not in text, text  # base64
    assert "733363723374" not in text, text  # hex


def test_whatever_the_log_shows_is_redacted(rig):
    (job_id,) = rig.coordinator.submit(
        sh(PRINTING + "touch shown; while ! test -e go; do sleep 0.02; done", secrets={"API_KEY": SECRET})
    )
    work = rig.node.jobs / job_id / "work"
    rig.node.await_made(job_id, "shown")
    assert rig.node.leaks() == []  # while it runs, its log is in memory
    assert not rig.node.exec_log(job_id).exists()

    def progress():
        notes = rig.coordinator.ask("GET", f"/admin/jobs/{job_id}")["progress"]
        return [one["log_tail"] for one in notes if "[redacted]" in (one["log_tail"] or "")]

    for tail in until(progress, "the log's tail is reported"):
        looks_clean(tail)
    (work / "go").touch()
    view = rig.coordinator.wait(job_id)
    assert view["state"] == "done", view["outcomes"]
    delivered = rig.coordinator.log_of(job_id)
    assert delivered.count("[redacted]") >= 9, delivered
    looks_clean(delivered)
    looks_clean(rig.node.exec_log(job_id).read_text())
    assert rig.node.leaks() == []


def test_of_a_long_secret_nothing_is_left_where_the_tail_begins(rig):
    """Printed more often than the tail is long: it begins in the middle of one."""
    key = "".join(f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(1, 89))
    printing = 'for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do printf %s "$API_KEY" >&2; done; exit 3'
    view = rig.coordinator.run(sh(printing, secrets={"API_KEY": key}))
    (outcome,) = view["outcomes"]
    shown = [outcome["body"]["error_msg"], *(one["log_tail"] or "" for one in view["progress"])]
    assert "[redacted]" in shown[0]
    for text in shown:
        assert not any(key[at : at + 8] in text for at in range(len(key) - 7)), text


def test_an_error_message_is_redacted(rig):
    view = rig.coordinator.run(sh('echo "failed with $API_KEY" >&2; exit 3', secrets={"API_KEY": SECRET}))
    (outcome,) = view["outcomes"]
    assert "failed with [redacted]" in outcome["body"]["error_msg"]
    looks_clean(outcome["body"]["error_msg"])


def test_as_a_file_it_is_the_jobs_alone_and_in_memory(rig):
    script = (
        'test "$API_KEY_FILE" = /run/secrets/API_KEY && stat -c "%a %U %s" $API_KEY_FILE && stat -f -c %T /run/secrets'
        ' && test -z "$API_KEY" && test "$(cat $API_KEY_FILE)" = "$(printf %s "$EXPECTED")" && echo same'
        " ; ls /run/secrets; ( echo x > /run/secrets/new ) 2>/dev/null || echo closed"
        "; ( echo x > $API_KEY_FILE ) 2>/dev/null || echo closed; env | grep -c s3cr3t"
    ).replace('"$EXPECTED"', '"s3cr3t \'with\' \\"quotes\\" & \\$more"')
    view = rig.coordinator.run(
        sh(
            script + " || true",
            secrets={"API_KEY": {"value": SECRET, "file": True}, "EMPTY": {"value": "", "file": True}},
        )
    )
    assert view["state"] == "done", view["outcomes"]
    log = rig.node.exec_log(view["job_id"]).read_text().splitlines()
    assert log == [f"400 UNKNOWN {len(SECRET)}", "tmpfs", "same", "API_KEY", "EMPTY", "closed", "closed", "0"]
    assert rig.node.leaks() == []


def test_what_a_new_daemon_can_not_redact_it_withholds(rig):
    (job_id,) = rig.coordinator.submit(
        sh(
            'echo "$API_KEY" >&2; touch shown; while ! test -e go; do sleep 0.02; done; exit 3',
            secrets={"API_KEY": SECRET},
        )
    )
    work = rig.node.jobs / job_id / "work"
    rig.node.await_made(job_id, "shown")
    rig.node.restart()
    rig.node.await_event(job_id, "Reattached")
    assert rig.node.leaks() == []
    (work / "go").touch()
    view = rig.coordinator.wait(job_id)
    assert view["outcomes"][0]["body"]["error_code"] == "E_EXIT"
    looks_clean(view["outcomes"][0]["body"]["error_msg"])
    assert all("s3cr3t" not in (one["log_tail"] or "") for one in view["progress"])
    assert "withheld" in rig.node.exec_log(job_id).read_text()
    assert rig.node.leaks() == []


@pytest.mark.parametrize(
    "secrets",
    [
        {"A": {"file": True}},
        {"A": {"value": 1}},
        {"A": {"value": "x", "file": "yes"}},
        {f"A{n}": {"value": "x", "file": True} for n in range(33)},
    ],
    ids=["no value", "no text", "no boolean", "too many"],
)
def test_what_is_no_secret_is_refused(rig, secrets):
    job_id = f"j-bad-{len(str(secrets))}"
    rig.coordinator.offer({**sh("true", secrets=secrets), "job_id": job_id, "attempt": 1})
    outcome = rig.coordinator.outcome_of_offer(job_id)
    assert outcome["body"]["error_code"] == "E_INVALID"
