"""Whatever a job leaves, nothing outside its folder is ever read, and every question is answered."""

import asyncio
import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_miner.artifacts import Collected, Declared, collect
from fsm_miner.tree_removal import remove_tree
from fsm_miner.upload_files import opened_for_upload
from fsm_miner.workspace import Workspace
from states.codes import ErrorCode, Failure

CANARY = b"CANARY: not yours"
NAMES = st.sampled_from(["a", "b", "c"])
PLACES = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TARGETS = st.sampled_from(
    ["OUT/canary", "OUT", "../canary", "../../canary", "../../../outside", "..", ".", "a", "b/c", "/", "/etc"]
)
THINGS = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=20)),
    st.tuples(st.just("folder"), st.none()),
    st.tuples(st.just("link"), TARGETS),
    st.tuples(st.just("fifo"), st.none()),
    st.tuples(st.just("hard"), PLACES),
)
TREES = st.lists(st.tuples(st.sampled_from(["work", "output"]), PLACES, THINGS), max_size=12)
PATHS = st.one_of(
    PLACES,
    st.lists(st.sampled_from(["a", "b", "c", "..", ".", "", "canary"]), min_size=1, max_size=5).map("/".join),
    st.text(max_size=8),
)
DECLARED = st.lists(
    st.builds(
        Declared, path=PATHS, type=st.just("x/y"), max_mb=st.sampled_from([0, 1]), optional=st.booleans()
    ),
    max_size=4,
)


def plant(space: Workspace, outside: Path, tree) -> None:
    """Make what can be made; things that are in each other's way are left out."""
    for folder, place, (kind, what) in tree:
        base = space.work if folder == "work" else space.output
        path = base / place
        if any(parent.is_symlink() for parent in path.parents):
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            match kind:
                case "file":
                    path.write_bytes(what) if not os.path.lexists(path) else None
                case "folder":
                    path.mkdir()
                case "link":
                    path.symlink_to(what.replace("OUT", str(outside)))
                case "fifo":
                    os.mkfifo(path)
                case _:
                    os.link(base / what, path, follow_symlinks=False)
        except (FileExistsError, NotADirectoryError, FileNotFoundError, PermissionError):
            continue


@settings(max_examples=300, deadline=None)
@given(tree=TREES, declared=DECLARED, stdout=st.none() | PLACES)
def test_nothing_outside_is_read_and_every_question_is_answered(tree, declared, stdout):
    with tempfile.TemporaryDirectory() as made:
        top = Path(made)
        outside = top / "outside"
        outside.mkdir()
        for place in (outside, top):
            (place / "canary").write_bytes(CANARY)
        space = Workspace(top / "jobs", "j", 1)
        asyncio.run(check(space, outside, tree, declared, stdout))
        remove_tree(space.folder)
        assert not os.path.lexists(space.folder)
        assert (outside / "canary").read_bytes() == CANARY
        assert (top / "canary").read_bytes() == CANARY


async def check(space: Workspace, outside: Path, tree, declared, stdout) -> None:
    await space.create()
    for place in (space.root, space.folder, space.input, space.control):
        (place / "canary").write_bytes(CANARY)
    space.stdout.write_bytes(b"out")
    plant(space, outside, tree)
    result = await collect(declared, space, total_bytes_max=30, stdout_artifact=stdout)
    if isinstance(result, Failure):
        assert result.code in {ErrorCode.DENY, ErrorCode.ARTIFACT, ErrorCode.OUTPUT}
        assert result.message.encode()
        return
    assert isinstance(result, Collected)
    wanted = [item.path for item in declared]
    assert [item.path for item in result.artifacts] == [
        path for path in wanted if path in {item.path for item in result.artifacts}
    ]
    assert {item.path for item in declared if not item.optional} <= {item.path for item in result.artifacts}
    async with opened_for_upload(space, result.artifacts) as uploads:
        assert not isinstance(uploads, Failure)
        for stored, file in zip(result.artifacts, uploads.artifacts, strict=True):
            assert CANARY not in os.pread(file.fd, 100, 0)
            assert os.fstat(file.fd).st_size == file.size == stored.size
