"""Loading: what is accepted, what is refused, and how that is said."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from fsm_miner.config import (
    Config,
    ConfigError,
    Listen,
    SecretRef,
    derive_node_id,
    load_config,
    parse_config,
    warnings_of,
)
from fsm_miner.config.load import CONFIG_BYTES_MAX

MACHINE = "0123456789abcdef0123456789abcdef\n"
MINIMAL = """
coordinator:
  base_url: "https://coordinator.example/api/v1"
  auth_token: "env:MINER_AUTH"
"""

# Section 4 of the specification, as it stands there.
SECTION_4 = """
node_id: "node-<shortid>"
coordinator:
  base_url: "https://coordinator.local/api/v1"
  auth_token: "env:MINER_AUTH"        # read from env at runtime
  tls_verify: true
  timeout_s: 20

heartbeat:
  interval_s: 15
  jitter_pct: 10
  backoff:
    min_s: 5
    max_s: 120

runners:
  cli:
    enable: true
    allowlist_files:
      - "/etc/aitbc/miner/allowlist.d/ffmpeg.yaml"
      - "/etc/aitbc/miner/allowlist.d/whisper.yaml"
  python:
    enable: true
    task_paths:
      - "/usr/local/lib/aitbc/miner/tasks"
    venv: "/usr/local/lib/aitbc/miner/.venv"

resources:
  max_concurrent_cpu: 2
  max_concurrent_gpu: 1
  cpu_nice: 10
  io_class: "best-effort"
  io_level: 6
  mem_soft_mb: 16384

workspace:
  root: "/var/lib/aitbc/miner/jobs"
  keep_success: 24h
  keep_failed: 7d

logging:
  level: "info"
  json: true
  path: "/var/log/aitbc/miner/miner.jsonl"
"""


@pytest.fixture
def machine_id(tmp_path):
    path = tmp_path / "machine-id"
    path.write_text(MACHINE)
    return path


@pytest.fixture
def parse(machine_id):
    def run(text: str) -> Config:
        return parse_config(text, "config.yaml", Path("/etc/aitbc/miner"), machine_id)

    return run


@pytest.fixture
def complaints(parse):
    def run(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            parse(text)
        return [str(problem) for problem in caught.value.problems]

    return run


def test_section_4_of_the_specification_loads_as_it_stands(parse, machine_id):
    config = parse(SECTION_4)
    assert config.node_id == derive_node_id(machine_id)
    assert config.coordinator.auth_token == SecretRef("env", "MINER_AUTH")
    assert config.heartbeat.backoff.max_s == 120
    assert config.runners.cli.allowlist_files[1] == Path("/etc/aitbc/miner/allowlist.d/whisper.yaml")
    assert config.workspace.keep_failed == timedelta(days=7)
    assert config.logging.as_json is True
    assert warnings_of(config) == ()


def test_the_smallest_configuration_has_defaults(parse):
    config = parse(MINIMAL)
    assert config.retries.max_attempts == 3
    assert config.health.listen == Listen("127.0.0.1", 9470)
    assert config.state_dir == Path("/var/lib/aitbc/miner")
    assert config.journal.retention == timedelta(days=90)


def test_everything_that_is_wrong_is_said_at_once_with_its_line(complaints):
    text = """node_id: "a b"
heartbeats: {}
coordinator:
  base_url: https://c.example
  auth_token: env:X
  timeout_s: soon
  timeout: 3
resources:
  cpu_nice: 20
"""
    assert complaints(text) == [
        'config.yaml:1: node_id: must be 1 to 64 of A-Z a-z 0-9 . _ - with a letter or digit first, not "a b"',
        'config.yaml:2: unknown key "heartbeats"; did you mean "heartbeat"?',
        'config.yaml:6: coordinator.timeout_s: must be a number greater than 0 and at most 86400, not "soon"',
        'config.yaml:7: coordinator: unknown key "timeout"; did you mean "timeout_s"?',
        "config.yaml:9: resources.cpu_nice: must be a whole number of at least 0 and at most 19, not 20",
    ]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (
            "logging: {level: loud}",
            'logging.level: must be one of "debug", "info", "warning", "error", not "loud"',
        ),
        ("logging: {json: yes}", 'logging.json: must be true or false, not "yes"'),
        ("logging: {level: info, zzz: 1}", 'logging: unknown key "zzz"; known here: json, level, path'),
        (
            "heartbeat: {backoff: {min_s: 9, max_s: 3}}",
            "heartbeat.backoff: min_s must not be greater than max_s",
        ),
        ("heartbeat: 3", "heartbeat: must be a section of key: value lines, not 3"),
        ("retries: {base_s: 61}", "retries: base_s must not be greater than max_s"),
        ("resources: {max_concurrent_cpu: 1.5}", "resources.max_concurrent_cpu: must be a whole number"),
        ("resources: {max_concurrent_cpu: true}", "resources.max_concurrent_cpu: must be a whole number"),
        ("resources: {max_concurrent_cpu: 0, max_concurrent_gpu: 0}", "both 0, so no job could ever run"),
        ("workspace: {keep_failed: 3w}", "workspace.keep_failed: must be a duration such as 7d, 24h, 90m"),
        ("workspace: {keep_failed: 5}", "workspace.keep_failed: must be a duration"),
        ("workspace: {max_mb: -1}", "workspace.max_mb: must be a whole number from 0"),
        ("workspace: {root: ''}", "workspace.root: must be a path"),
        ("workspace: {root: ~/jobs}", "workspace.root: must be written out, ~ is not expanded"),
        ("health: {listen: 'localhost:80'}", "health.listen: must start with an IP address"),
        ("health: {listen: '127.0.0.1:70000'}", "health.listen: must have a port from 0 to 65535"),
        ("health: {listen: '::1:80'}", "health.listen: must have brackets around an IPv6 address"),
        ("sandbox: {extra_ro_binds: [data]}", "sandbox.extra_ro_binds[0]: must be an absolute path"),
        ("tags: [a, a]", "tags: must not name the same entry twice"),
        ("tags: a", 'tags: must be a list, not "a"'),
        ("tags: [12]", "tags[0]: must be text, not 12; quote it"),
        (f"tags: {[f't{n}' for n in range(257)]}", "tags: must have at most 256 entries"),
        ("network: {allow: ['models.example']}", "network.allow[0]: must be an address and a port"),
        ("network: {allow: ['models.example:0']}", "network.allow[0]: must have a port from 1 to 65535"),
        ("network: {allow: ['models.example:99999']}", "network.allow[0]: must have a port from 1 to 65535"),
        (
            "network: {allow: ['169.254.169.254:80']}",
            "169.254.169.254 is link-local, and reached by nobody: remove",
        ),
        (
            "network: {allow_private: ['[fd00:ec2::254]:80']}",
            "allow_private[0]: fd00:ec2::254 is a cloud's metadata",
        ),
        (
            "network: {allow_private: ['0.0.0.0:80']}",
            "network.allow_private[0]: 0.0.0.0 is no address of a host",
        ),
        (
            "network: {allow: ['A.example:80', '[::1]:1'], allow_private: ['[0::1]:1', 'b:1']}",
            "network: allow and allow_private both name [::1]:1; leave it in one of them",
        ),
        (
            "sandbox: {extra_ro_binds: [/]}",
            "extra_ro_binds[0]: / can't be shown to jobs: it holds everything",
        ),
        (
            "sandbox: {extra_ro_binds: [//]}",
            "extra_ro_binds[0]: / can't be shown to jobs: it holds everything",
        ),
        (
            "sandbox: {extra_ro_binds: [/opt, /run/]}",
            "extra_ro_binds[1]: /run can't be shown to jobs: services listen",
        ),
        (
            "sandbox: {extra_ro_binds: [/usr/../proc]}",
            "extra_ro_binds[0]: /proc can't be shown to jobs: the sandbox",
        ),
        ("tags: [a]\ntags: [b]", 'duplicate key "tags"'),
        ("tags: &x [a]", "anchors and aliases"),
        ("tags: !!python/name:os.system a", "tags (!) are not supported"),
    ],
)
def test_a_wrong_value_is_refused_in_plain_words(complaints, extra, said):
    (complaint,) = complaints(MINIMAL + extra)
    assert complaint.startswith("config.yaml:")
    assert said in complaint


@pytest.mark.parametrize("text", ["", "# nothing\n", "coordinator:\n", "[]", "just text"])
def test_a_file_without_a_coordinator_is_refused(complaints, text):
    assert all(
        "is missing" in complaint or "must be a section" in complaint for complaint in complaints(text)
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://c.example/api/v1/",
        "https://10.0.0.1:8443",
        "http://localhost:8000/api",
        "http://127.9.0.1",
        "http://[::1]:80/x",
    ],
)
def test_an_address_that_is_encrypted_or_local_is_accepted(parse, url):
    assert parse(
        MINIMAL.replace("https://coordinator.example/api/v1", url)
    ).coordinator.base_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://coordinator.example/api", "must start with https://"),
        ("http://localhost.example", "must start with https://"),
        ("http://10.0.0.1", "must start with https://"),
        ("ftp://coordinator.example", "must be an address such as"),
        ("coordinator.example", "must be an address such as"),
        ("https://", "must be an address such as"),
        ("https://c.example:99999", "must be an address such as"),
        ("https://[::1", "must be an address such as"),
        ("https://c.example/a b", "must be an address such as"),
        ("https://c.example/?key=1", "without user, password, query or fragment"),
    ],
)
def test_an_address_that_is_neither_is_refused(complaints, url, said):
    (complaint,) = complaints(MINIMAL.replace("https://coordinator.example/api/v1", url))
    assert said in complaint
    assert complaint.startswith("config.yaml:3: coordinator.base_url: ")


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL.replace("env:MINER_AUTH", "hunter2-hunter2"),
        MINIMAL.replace("env:MINER_AUTH", "env:hunter2-hunter2"),
        MINIMAL.replace("https://", "https://me:hunter2-hunter2@"),
        MINIMAL.replace("auth_token", "authtoken").replace("env:MINER_AUTH", "hunter2-hunter2"),
        MINIMAL.replace('"env:MINER_AUTH"', "[hunter2-hunter2]"),
        MINIMAL.replace('"env:MINER_AUTH"', "{hunter2-hunter2: hunter2-hunter2}"),
    ],
)
def test_no_message_repeats_what_may_be_a_secret(complaints, text):
    assert "hunter2" not in "\n".join(complaints(text))


def test_a_ca_file_does_not_go_with_trusting_everybody(complaints):
    (complaint,) = complaints(MINIMAL + "  tls_verify: false\n  ca_file: ca.pem\n")
    assert "remove one of them" in complaint


def test_what_is_dangerous_is_warned_of(parse):
    config = parse(MINIMAL + "  tls_verify: false\nsandbox: {backend: none}\nhealth: {listen: '0.0.0.0:1'}\n")
    assert [warning.split(":")[0] for warning in warnings_of(config)] == [
        "coordinator.tls_verify",
        "sandbox.backend",
        "health.listen",
    ]


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path, machine_id):
    path = tmp_path / "config.yaml"
    path.write_text(MINIMAL + "  ca_file: tls/../ca.pem\njournal: {path: state/journal.db}\n")
    config = load_config(path, machine_id)
    assert config.coordinator.ca_file == tmp_path / "ca.pem"
    assert config.state_dir == tmp_path / "state"


@pytest.mark.parametrize("text", ["logging: {path: '-'}", "logging: {path: null}"])
def test_no_log_file_is_a_choice(parse, text):
    assert parse(MINIMAL + text).logging.path is None


def test_zero_stands_for_no_limit_and_for_no_time(parse):
    workspace = parse(MINIMAL + "workspace: {max_mb: 0, keep_success: 0}").workspace
    assert workspace.max_mb is None
    assert workspace.keep_success == timedelta(0)


def test_health_can_be_turned_off(parse):
    assert parse(MINIMAL + "health: {listen: null}").health.listen is None


def test_the_node_id_is_this_machines_own_without_showing_its_id(tmp_path, machine_id):
    other = tmp_path / "other"
    other.write_text("f" * 32)
    assert derive_node_id(machine_id) == derive_node_id(machine_id)
    assert derive_node_id(machine_id) != derive_node_id(other)
    assert derive_node_id(machine_id).removeprefix("node-") not in MACHINE


def test_a_machine_without_an_id_needs_a_node_id(tmp_path):
    with pytest.raises(ConfigError, match="write an id of your own"):
        parse_config(MINIMAL, "config.yaml", tmp_path, tmp_path / "absent")
    assert parse_config(MINIMAL + "node_id: n1", "c", tmp_path, tmp_path / "absent").node_id == "n1"


def test_a_file_that_cannot_be_read_is_named(tmp_path, machine_id):
    fifo, large = tmp_path / "fifo", tmp_path / "large"
    os.mkfifo(fifo)
    large.write_bytes(b"#" * (CONFIG_BYTES_MAX + 1))
    for path, said in [
        (tmp_path / "absent", "No such file"),
        (tmp_path, "not a regular file"),
        (fifo, "not a regular file"),
        (large, "larger than"),
    ]:
        with pytest.raises(ConfigError, match=said) as caught:
            load_config(path, machine_id)
        assert str(caught.value).count(str(path)) == 1
        assert ("--config or $FSM_MINER_CONFIG names another" in str(caught.value)) is (
            said == "No such file"
        )


def test_a_configuration_never_changes(parse):
    with pytest.raises(ValueError, match="frozen"):
        parse(MINIMAL).node_id = "other"
