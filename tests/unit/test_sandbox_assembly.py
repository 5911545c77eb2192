import dataclasses
from pathlib import Path

import pytest

from fsm_miner.site.cgroups import isolation
from runners.host import HostTools
from runners.own_copies import ORIGINALS
from runners.run import Bind, Limits, RunPaths, RunSpec
from runners.sandbox import OPTIONS_FD, assemble

HOST = HostTools(
    sh="/bin/sh",
    choom="/bin/choom",
    nice="/bin/nice",
    ionice="/bin/ionice",
    prlimit="/bin/prlimit",
    timeout="/bin/timeout",
    env="/bin/env",
    setpriv="/bin/setpriv",
    bwrap="/bin/bwrap",
    bwrap_version=(0, 8, 0),
    binds=(Bind(Path("/usr"), "/usr"),),
    links=(("usr/bin", "/bin"),),
)
J = Path("/j")
SPEC = RunSpec(
    name="j-1-1",
    run=1,
    argv=("/usr/bin/ffmpeg", "-y"),
    env={"A": "1"},
    paths=RunPaths(J / "work", J / "input", J / "output", J / "logs/exec.log", J / "control"),
    limits=Limits(time_s=10, grace_s=3, memory_mb=100, output_mb=7, log_mb=1, processes=10),
    secret_env={"TOKEN": "hush"},
)


def options_of(spec=SPEC, host=HOST):
    return assemble(spec, host, cgroup=None).options.decode().split("\0")[:-1]


def has(options, *wanted):
    """Whether `wanted` stand next to each other."""
    return any(tuple(options[i : i + len(wanted)]) == wanted for i in range(len(options)))


def test_the_chain_without_a_cgroup():
    assert assemble(SPEC, HOST, cgroup=None).argv == (
        *("/bin/choom", "-n", "500", "--", "/bin/nice", "-n", "10", "/bin/ionice", "-c", "2", "-n", "6"),
        *(
            "/bin/prlimit",
            "--core=1",
            "--nofile=4096",
            f"--fsize={23 << 20}",
            "--nproc=4136",
            f"--as={4496 << 20}",
            "--",
        ),
        *("/bin/timeout", "--signal=KILL", "15.000s"),
        *("/bin/bwrap", "--args", str(OPTIONS_FD), "--", "/usr/bin/ffmpeg", "-y"),
    )


def test_no_more_processes_are_asked_for_than_a_small_machine_can_grant():
    small = dataclasses.replace(HOST, processes_max=3000)
    assert "--nproc=3000" in assemble(SPEC, small, cgroup=None).argv


def test_where_the_limit_on_cores_can_not_be_raised_jobs_still_start_and_it_is_said():
    none = dataclasses.replace(HOST, cores_max=0, seccomp=b"filter")
    assert "--core=0" in assemble(SPEC, none, cgroup=None).argv
    (lack,) = none.lacks
    assert (lack.tag, "LimitCORE=1" in lack.meaning) == ("no-core-limit", True)
    assert isolation(none, None) == ("sandbox-bubblewrap", "seccomp", "no-core-limit", "memory-watchdog")
    assert dataclasses.replace(none, cores_max=None).lacks == ()


def test_where_a_daemon_of_root_has_no_copies_it_is_said():
    copies = dataclasses.replace(ORIGINALS, lack="no room")
    host = dataclasses.replace(HOST, cores_max=None, seccomp=b"filter", copies=copies)
    assert isolation(host, None) == ("sandbox-bubblewrap", "seccomp", "no-own-copies", "memory-watchdog")


def test_where_nobody_looks_into_what_jobs_hide_it_is_said():
    (lack,) = dataclasses.replace(HOST, cores_max=None, seccomp=b"filter", sees_hidden=False).lacks
    assert (lack.tag, "kernel.yama.ptrace_scope" in lack.meaning) == ("no-hidden-files", True)


def test_the_chain_enters_a_cgroup_first_and_leaves_counting_to_it():
    argv = assemble(SPEC, HOST, cgroup=Path("/cg/j-1-1")).argv
    assert argv[:2] == ("/bin/sh", "-c")
    assert argv[3:6] == ("sh", "/cg/j-1-1", "/bin/choom")
    assert not [word for word in argv if word.startswith(("--as", "--nproc"))]


def test_a_gpu_run_has_no_address_space_limit():
    argv = assemble(dataclasses.replace(SPEC, gpu=True), HOST, cgroup=None).argv
    assert not [word for word in argv if word.startswith("--as")]


@pytest.mark.parametrize(("own", "words"), [(0, ("-n", "10")), (4, ("-n", "6"))])
def test_niceness_is_reached_from_the_daemons_own(own, words):
    assert has(
        assemble(SPEC, dataclasses.replace(HOST, base_nice=own), cgroup=None).argv, "/bin/nice", *words
    )


def test_a_daemon_that_is_nice_enough_adds_nothing():
    assert "/bin/nice" not in assemble(SPEC, dataclasses.replace(HOST, base_nice=10), cgroup=None).argv


@pytest.mark.parametrize(("own", "asked"), [(-500, True), (499, True), (500, False), (1000, False)])
def test_who_is_chosen_before_its_jobs_asks_for_no_less(own, asked):
    argv = assemble(SPEC, dataclasses.replace(HOST, base_oom=own), cgroup=None).argv
    assert has(argv, "/bin/choom", "-n", "500") is asked
    assert ("/bin/choom" in argv) is asked


def test_idle_has_no_level():
    limits = dataclasses.replace(SPEC.limits, io_class="idle")
    assert has(
        assemble(dataclasses.replace(SPEC, limits=limits), HOST, cgroup=None).argv, "-c", "3", "/bin/prlimit"
    )


def test_the_options_close_everything_and_open_what_is_named():
    options = options_of()
    for word in (
        "--unshare-all",
        "--unshare-user",
        "--unshare-cgroup",
        "--disable-userns",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ):
        assert word in options
    assert has(options, "--cap-drop", "ALL")
    assert has(options, "--ro-bind", "/usr", "/usr")
    assert has(options, "--symlink", "usr/bin", "/bin")
    assert has(options, "--bind", "/j/work", "/job/work")
    assert has(options, "--bind", "/j/output", "/job/output")
    assert has(options, "--ro-bind", "/j/input", "/job/input")
    assert has(options, "--setenv", "A", "1")
    assert has(options, "--setenv", "TOKEN", "hush")
    assert "--share-net" not in options
    # Nothing can be mounted after the root is read-only.
    assert options[-8:] == [
        "--remount-ro",
        "/proc",
        "--remount-ro",
        "/dev",
        "--remount-ro",
        "/",
        "--chdir",
        "/job/work",
    ]


def test_devices_and_binds():
    spec = dataclasses.replace(
        SPEC,
        devices=("/dev/nvidia0",),
        binds=(Bind(Path("/cache/x"), "/job/assets/x"), Bind(Path("/scratch"), "/scratch", writable=True)),
    )
    options = options_of(spec)
    assert has(options, "--dev-bind", "/dev/nvidia0", "/dev/nvidia0")
    assert has(options, "--ro-bind", "/cache/x", "/job/assets/x")
    assert has(options, "--bind", "/scratch", "/scratch")


def test_secrets_are_in_no_argument_environment_or_repr():
    made = assemble(SPEC, HOST, cgroup=None)
    assert made.env == {}
    assert "hush" not in " ".join(made.argv)
    assert "hush" not in repr(made) + repr(SPEC)


def test_without_a_sandbox_the_environment_is_the_commands():
    made = assemble(SPEC, dataclasses.replace(HOST, bwrap=None), cgroup=None)
    assert made.options == b""
    assert made.env == {"A": "1", "TOKEN": "hush"}
    assert made.argv[-3:] == ("sh", "/usr/bin/ffmpeg", "-y")
    assert has(made.argv, "/bin/setpriv", "--no-new-privs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"argv": ()}, "argv"),
        ({"argv": ("ffmpeg",)}, "not an absolute path"),
        ({"argv": ("/bin/x", "a\0b")}, "NUL"),
        ({"env": {"A": "a\0b"}}, "NUL"),
        ({"secret_env": {"B": "a\0--share-net"}}, "NUL"),
        ({"env": {"A=B": "1"}}, "variable's name"),
        ({"env": {"": "1"}}, "variable's name"),
        ({"secret_env": {"1A": "1"}}, "variable's name"),
        ({"env": {"TOKEN": "1"}}, "both"),
        ({"env": {f"V{i}": "" for i in range(3000)}}, "sandbox options"),
        ({"env": {"A": "x" * 600_000}}, "bytes of sandbox options"),
        ({"binds": (Bind(Path("/x"), "/job/../etc"),)}, "bind target"),
        ({"binds": (Bind(Path("/x"), "relative"),)}, "bind target"),
        ({"binds": (Bind(Path("/x"), "/"),)}, "bind target"),
        ({"devices": ("/etc/shadow",)}, "device"),
        ({"devices": ("/dev/../etc/shadow",)}, "device"),
        ({"limits": dataclasses.replace(SPEC.limits, time_s=float("inf"))}, "time_s"),
        ({"limits": dataclasses.replace(SPEC.limits, time_s=0)}, "time_s"),
        ({"limits": dataclasses.replace(SPEC.limits, memory_mb=0)}, "memory_mb"),
        ({"limits": dataclasses.replace(SPEC.limits, io_class="realtime")}, "io_class"),
    ],
)
def test_what_must_not_be_started_is_refused(change, message):
    with pytest.raises(ValueError, match=message) as refused:
        assemble(dataclasses.replace(SPEC, **change), HOST, cgroup=None)
    assert str(refused.value).startswith("j-1-1: ")
    assert "hush" not in str(refused.value)
