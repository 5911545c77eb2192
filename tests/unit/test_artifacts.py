import asyncio
import errno
import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from fsm_miner.artifacts import Collected, Declared, StoredArtifact, collect
from fsm_miner.upload_files import Uploads, opened_for_upload
from fsm_miner.workspace import Workspace
from states.codes import ErrorCode, Failure

MIB = 1 << 20


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    space = Workspace(tmp_path / "jobs", "j", 1)
    asyncio.run(space.create())
    return space


def run(space: Workspace, *declared: Declared, total: int = 1 << 40, stdout: str | None = None):
    return asyncio.run(collect(declared, space, total_bytes_max=total, stdout_artifact=stdout))


def text(path: str, max_mb: int = 1, *, optional: bool = False) -> Declared:
    return Declared(path, "text/plain", max_mb, optional)


def failed(result: Collected | Failure, code: ErrorCode, *words: str) -> None:
    assert isinstance(result, Failure), result
    assert result.code is code
    for word in words:
        assert word in result.message


def found(result: Collected | Failure) -> list[tuple[str, str, int]]:
    assert isinstance(result, Collected), result
    return [(item.path, item.where, item.size) for item in result.artifacts]


def test_output_comes_before_work_and_the_order_is_the_manifest_s(space: Workspace):
    (space.output / "both").write_bytes(b"output")
    (space.work / "both").write_bytes(b"work's")
    (space.work / "sub").mkdir()
    (space.work / "sub" / "only").write_bytes(b"x")
    result = run(space, text("sub/only"), text("both"))
    assert found(result) == [("sub/only", "work", 1), ("both", "output", 6)]
    assert isinstance(result, Collected)
    assert result.artifacts[1].sha256 == hashlib.sha256(b"output").hexdigest()


def test_many_artifacts_all_arrive(space: Workspace):
    names = [f"a{n}" for n in range(50)]
    for name in names:
        (space.output / name).write_bytes(name.encode() * 100)
    result = run(space, *(text(name) for name in names))
    assert isinstance(result, Collected)
    assert [item.sha256 for item in result.artifacts] == [
        hashlib.sha256(name.encode() * 100).hexdigest() for name in names
    ]


def test_a_missing_artifact_names_what_is_there(space: Workspace):
    (space.output / "outptu.mp4").write_text("x")
    (space.work / "folder").mkdir()
    failed(run(space, text("output.mp4")), ErrorCode.ARTIFACT, "'outptu.mp4'", "'folder'/", "neither")


def test_what_is_there_is_named_boundedly_and_printably(space: Workspace):
    for n in range(500):
        os.close(os.open(os.fsencode(space.work) + b"/\xff\x1b[31m" + b"x" * 200 + b"%d" % n, os.O_CREAT))
    result = run(space, text("gone"))
    failed(result, ErrorCode.ARTIFACT, "and more")
    assert isinstance(result, Failure)
    assert len(result.message) < 4000
    assert "\x1b" not in result.message
    assert result.message.encode()


def test_an_optional_one_may_be_missing(space: Workspace):
    (space.output / "there").write_text("x")
    assert found(run(space, text("gone", optional=True), text("there", optional=True))) == [
        ("there", "output", 1)
    ]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc",
        "..",
        "../x",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        "a\0",
        "a\nb",
        "\ud800",
        "x" * 256,
        "a/" * 40 + "a",
    ],
)
def test_a_path_that_is_none_is_denied(space: Workspace, path: str):
    failed(run(space, text(path, optional=True)), ErrorCode.DENY)


def test_a_path_is_declared_once(space: Workspace):
    failed(run(space, text("a"), text("a")), ErrorCode.DENY, "twice")


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("folder", ["output", "work"])
@pytest.mark.parametrize(
    "kind", ["link", "dangling", "folder", "fifo", "socket", "parent link", "parent file", "root"]
)
def test_what_is_no_regular_file_inside_is_refused(space: Workspace, folder: str, kind: str, optional: bool):
    secret = space.root / "secret"
    secret.mkdir()
    (secret / "a").write_text("CANARY")
    base = space.output if folder == "output" else space.work
    target = base / "sub" / "a"
    if kind in {"link", "dangling", "folder", "fifo", "socket"}:
        (base / "sub").mkdir()
    match kind:
        case "link":
            target.symlink_to(secret / "a")
        case "dangling":
            target.symlink_to("/nowhere")
        case "folder":
            target.mkdir()
        case "fifo":
            os.mkfifo(target)
        case "socket":
            folder_fd = os.open(base / "sub", os.O_PATH)  # the path itself may be too long for an address
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(f"/proc/self/fd/{folder_fd}/a")
            os.close(folder_fd)
        case "parent link":
            (base / "sub").symlink_to(secret)
        case "parent file":
            (base / "sub").write_text("x")
        case _:
            base.rmdir()
            base.symlink_to(space.root)
            (space.root / "sub").mkdir()
            (space.root / "sub" / "a").write_text("CANARY")
    failed(run(space, text("sub/a", optional=optional)), ErrorCode.ARTIFACT, "sub/a")


def test_a_device_is_not_even_opened(space: Workspace):
    if os.geteuid() != 0:
        pytest.skip("needs root to make a device node")
    try:
        os.mknod(space.output / "a", 0o020666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no device nodes may be made here")
    failed(run(space, text("a")), ErrorCode.ARTIFACT, "a character device")


def test_a_hard_link_inside_is_an_ordinary_file(space: Workspace):
    (space.work / "a").write_text("x")
    (space.output / "b").hardlink_to(space.work / "a")
    assert found(run(space, text("b"))) == [("b", "output", 1)]


def test_sizes_are_checked_one_by_one_and_together(space: Workspace):
    for name, size in (("a", MIB), ("b", MIB + 1)):
        with (space.output / name).open("wb") as file:
            file.truncate(size)
    assert found(run(space, text("a"))) == [("a", "output", MIB)]
    failed(run(space, text("b")), ErrorCode.OUTPUT, "'b'", "1.0 MiB")
    both = (text("a"), text("b", 2))
    assert len(found(run(space, *both, total=2 * MIB + 1))) == 2
    failed(run(space, *both, total=2 * MIB), ErrorCode.OUTPUT, "together")


def test_a_huge_sparse_file_is_refused_before_it_is_hashed(space: Workspace):
    with (space.output / "a").open("wb") as file:
        file.truncate(1 << 42)
    failed(run(space, text("a")), ErrorCode.OUTPUT)


def test_standard_output_stands_in_only_where_the_command_wrote_no_such_file(space: Workspace):
    space.stdout.write_text("hello world\n")
    result = run(space, text("output.txt"), stdout="output.txt")
    assert found(result) == [("output.txt", "stdout", 12)]
    failed(run(space, text("other.txt"), stdout="output.txt"), ErrorCode.ARTIFACT)
    (space.work / "output.txt").write_text("own")
    assert found(run(space, text("output.txt"), stdout="output.txt")) == [("output.txt", "work", 3)]


def test_standard_output_does_not_hide_a_link(space: Workspace):
    space.stdout.write_text("hello")
    (space.work / "output.txt").symlink_to("/etc/passwd")
    failed(run(space, text("output.txt"), stdout="output.txt"), ErrorCode.ARTIFACT, "symbolic link")


def test_a_stored_artifact_survives_the_journal(space: Workspace):
    (space.output / "a").write_text("x")
    result = run(space, text("a"))
    assert isinstance(result, Collected)
    (item,) = result.artifacts
    data = json.loads(json.dumps(item.to_json()))
    assert StoredArtifact.from_json({**data, "newer": 1}) == item
    with pytest.raises(AssertionError):
        StoredArtifact.from_json({**data, "path": "../x"})


def opened(
    space: Workspace, *artifacts: StoredArtifact, pread: Callable[[int, int, int], bytes] = os.pread
) -> list[bytes] | Failure:
    async def go() -> list[bytes] | Failure:
        async with opened_for_upload(space, artifacts, pread=pread) as uploads:
            if isinstance(uploads, Failure):
                return uploads
            assert isinstance(uploads, Uploads)
            files = [*uploads.artifacts, *([uploads.log] if uploads.log else [])]
            content = [f"{file.filename}:".encode() + os.pread(file.fd, file.size, 0) for file in files]
            fds = [file.fd for file in files]
        for fd in fds:
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(fd)
        return content

    return asyncio.run(go())


def test_uploads_are_what_was_collected_and_the_log(space: Workspace):
    (space.output / "a").write_text("aa")
    space.stdout.write_text("out")
    space.exec_log.write_text("log")
    result = run(space, text("a"), text("o"), stdout="o")
    assert isinstance(result, Collected)
    assert opened(space, *result.artifacts) == [b"artifacts/a:aa", b"artifacts/o:out", b"logs/exec.log:log"]


def test_a_result_goes_without_a_log_if_there_is_none_to_be_had(space: Workspace):
    assert opened(space) == []
    space.exec_log.symlink_to("/etc/passwd")
    assert opened(space) == []


def test_a_file_that_changed_is_not_uploaded_and_one_that_was_only_copied_is(space: Workspace):
    path = space.output / "a"
    path.write_text("one")
    result = run(space, text("a"))
    assert isinstance(result, Collected)
    path.unlink()
    failed(opened(space, *result.artifacts), ErrorCode.ARTIFACT, "no longer")
    path.write_text("two")
    os.utime(path, ns=(0, 0))
    failed(opened(space, *result.artifacts), ErrorCode.ARTIFACT, "changed")
    path.write_text("one, and more")  # its beginning is what was collected
    failed(opened(space, *result.artifacts), ErrorCode.ARTIFACT, "changed")
    path.write_text("one")  # restored, with another time
    os.utime(path, ns=(0, 0))
    assert opened(space, *result.artifacts) == [b"artifacts/a:one"]
    path.unlink()
    path.symlink_to(space.work / "elsewhere")
    failed(opened(space, *result.artifacts), ErrorCode.ARTIFACT, "symbolic link")


def test_a_log_that_the_disk_does_not_give_is_left_out(space: Workspace):
    space.exec_log.write_bytes(b"x" * (2 * MIB + 1))
    (space.output / "a").write_bytes(b"a")
    collected = run(space, text("a"))
    assert isinstance(collected, Collected)

    def broken(code: int) -> Callable[[int, int, int], bytes]:
        def pread(fd: int, size: int, offset: int) -> bytes:
            if offset == 2 * MIB:
                raise OSError(code, os.strerror(code))
            return os.pread(fd, size, offset)

        return pread

    assert opened(space, *collected.artifacts, pread=broken(errno.EIO)) == [b"artifacts/a:a"]
    whole = opened(space, *collected.artifacts)
    assert isinstance(whole, list)
    assert len(whole) == 2
    # What passes is worth another try.
    with pytest.raises(OSError, match="Cannot allocate memory"):
        opened(space, *collected.artifacts, pread=broken(errno.ENOMEM))
