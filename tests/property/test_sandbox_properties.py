import dataclasses
import json
import string
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from runners.host import HostTools
from runners.run import Limits, RunPaths, RunSpec
from runners.sandbox import assemble
from runners.status import LaunchFacts, launch_line, parse_status
from runners.verdict import Exited, Lost, OutOfMemory, SandboxFailed, Signalled, TimedOut, verdict

HOST = HostTools("/s", "/c", "/n", "/i", "/p", "/t", "/e", "/v", "/b", (0, 8), (), ())
W = Path("/w")
SPEC = RunSpec("n", 1, ("/x",), {}, RunPaths(W, W, W, W, W), Limits(1, 1, 1, 1, 1))
NAMES = st.text(string.ascii_letters + "_", min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
# What would be an option, if it were ever read as one.
HOSTILE = st.sampled_from(["--share-net", "--", "--bind", "/", "--setenv"]) | TEXTS


def parse_setenv(options):
    """Read the options as bwrap does: each takes a fixed number of words."""
    words = {"--setenv": 2, "--bind": 2, "--ro-bind": 2, "--dev-bind": 2, "--symlink": 2}
    words |= dict.fromkeys(
        ("--uid", "--gid", "--hostname", "--cap-drop", "--sync-fd", "--json-status-fd", "--block-fd"), 1
    )
    words |= dict.fromkeys(("--proc", "--dev", "--size", "--perms", "--tmpfs", "--remount-ro", "--chdir"), 1)
    words |= dict.fromkeys(("--unshare-all", "--unshare-user", "--unshare-cgroup", "--die-with-parent"), 0)
    words |= dict.fromkeys(("--new-session", "--clearenv", "--disable-userns"), 0)
    found = {}
    while options:
        option, *options = options
        taken, options = options[: words[option]], options[words[option] :]
        if option == "--setenv":
            found[taken[0]] = taken[1]
    return found


@given(env=st.dictionaries(NAMES, HOSTILE, max_size=5), args=st.lists(HOSTILE, max_size=5))
def test_no_value_ever_becomes_an_option(env, args):
    spec = dataclasses.replace(SPEC, secret_env=env, argv=("/x", *args))
    made = assemble(spec, HOST, cgroup=None)
    assert parse_setenv(made.options.decode().split("\0")[:-1]) == env
    before = assemble(SPEC, HOST, cgroup=None).argv
    assert made.argv == (*before[:-1], "/x", *args)


@given(
    st.binary(max_size=500)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
        lambda v: json.dumps(v).encode() + b"\n"
    )
)
def test_no_status_breaks_the_reader(text):
    found = parse_status(text)
    assert found.exit_code is None or 0 <= found.exit_code <= 255
    assert found.child_pid is None or found.child_pid > 1


@given(
    st.builds(
        LaunchFacts,
        at_ns=st.integers(0, 1 << 62),
        boottime_ns=st.integers(0, 1 << 62),
        boot_id=st.text(max_size=64),
        log_offset=st.integers(0, 1 << 62),
    ),
    st.integers(0, 255),
    st.data(),
)
def test_a_status_cut_anywhere_never_tells_something_else(facts, code, data):
    text = launch_line(facts) + b'{ "child-pid": 77, "pid-namespace": 5 }\n' + b'{ "exit-code": %d }\n' % code
    whole = parse_status(text)
    assert (whole.launched, whole.child_pid, whole.exit_code) == (facts, 77, code)
    part = parse_status(text[: data.draw(st.integers(0, len(text)))])
    assert part.launched in (None, facts)
    assert part.child_pid in (None, 77)
    assert part.exit_code in (None, code)


@given(
    exit_code=st.none() | st.integers(0, 255),
    oom_killed=st.booleans(),
    same_boot=st.booleans(),
    elapsed_s=st.floats(0, 1e6),
    failure=st.none() | st.just("bwrap: no"),
)
def test_a_run_is_lost_only_if_nothing_else_is_known(exit_code, oom_killed, same_boot, elapsed_s, failure):
    found = verdict(
        exit_code,
        oom_killed=oom_killed,
        same_boot=same_boot,
        elapsed_s=elapsed_s,
        time_limit_s=100.0,
        failure=failure,
    )
    known = exit_code is not None or oom_killed or failure is not None or (same_boot and elapsed_s >= 100)
    assert isinstance(found, Lost) != known
    assert isinstance(found, OutOfMemory) == oom_killed
    match found:
        case Exited(code):
            assert code == exit_code
        case Signalled(number):
            assert number + 128 == exit_code
        case TimedOut() | SandboxFailed():
            assert exit_code is None
        case Lost() | OutOfMemory():
            pass
