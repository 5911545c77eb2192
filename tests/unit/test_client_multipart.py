"""The form of a result."""

import asyncio
import os

import pytest

from fsm_miner.coordinator.multipart import CHUNK_BYTES, SMALL_BYTES, FileChanged, multipart
from fsm_miner.coordinator.port import UploadFile


async def _sent(form):
    return [chunk async for chunk in form.stream()]


def _body(form):
    return b"".join(asyncio.run(_sent(form)))


@pytest.fixture
def file_of(tmp_path):
    fds = []

    def make(data, filename="artifacts/a.txt", content_type="text/plain", size=None):
        path = tmp_path / f"file-{len(fds)}"
        path.write_bytes(data)
        fds.append(os.open(path, os.O_RDONLY))
        return UploadFile(fds[-1], len(data) if size is None else size, filename, content_type)

    yield make
    for fd in fds:
        os.close(fd)


def test_the_bytes_on_the_wire(file_of):
    form = multipart(
        "B", (("job_id", "j-1"),), (("artifact", file_of(b"hello")), ("log", file_of(b"", "logs/exec.log")))
    )

    assert form.content_type == "multipart/form-data; boundary=B"
    assert _body(form) == (
        b'--B\r\nContent-Disposition: form-data; name="job_id"\r\n\r\nj-1\r\n'
        b'--B\r\nContent-Disposition: form-data; name="artifact"; filename="artifacts/a.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nhello\r\n"
        b'--B\r\nContent-Disposition: form-data; name="log"; filename="logs/exec.log"\r\n'
        b"Content-Type: text/plain\r\n\r\n\r\n"
        b"--B--\r\n"
    )


@pytest.mark.parametrize(
    "size", [0, 1, SMALL_BYTES - 300, SMALL_BYTES, SMALL_BYTES + 1, 3 * CHUNK_BYTES + 17]
)
def test_the_length_is_known_and_the_same_bytes_come_again(file_of, size):
    data = os.urandom(size)
    form = multipart("B", (), (("artifact", file_of(data)),))

    first, second = _body(form), _body(form)

    assert len(first) == form.length
    assert data in first
    assert first == second


def test_a_large_file_is_never_in_memory_as_a_whole(file_of):
    form = multipart("B", (), (("artifact", file_of(b"x" * (4 * CHUNK_BYTES))),))

    assert max(len(chunk) for chunk in asyncio.run(_sent(form))) <= CHUNK_BYTES


@pytest.mark.parametrize("size", [100, 4 * CHUNK_BYTES])
def test_a_file_that_shrank_is_noticed(file_of, size):
    form = multipart("B", (), (("artifact", file_of(b"x" * (size - 1), size=size)),))

    with pytest.raises(FileChanged, match=f"ended at byte {size - 1} of {size}"):
        _body(form)


def test_a_file_that_grew_is_cut_at_its_measured_size(file_of):
    form = multipart("B", (), (("artifact", file_of(b"hello world", size=5)),))

    assert b"\r\n\r\nhello\r\n--B--" in _body(form)


@pytest.mark.parametrize(
    ("filename", "on_the_wire"),
    [
        ('artifacts/a"b', b'filename="artifacts/a%22b"'),
        ("artifacts/a\r\nX: y", b'filename="artifacts/a%0D%0AX: y"'),
        ("artifacts/a\\", b'filename="artifacts/a%5C"'),
        ("artifacts/größe", 'filename="artifacts/größe"'.encode()),
        ("artifacts/\ud800", b'filename="artifacts/?"'),
    ],
)
def test_a_file_name_cannot_leave_its_quotes(file_of, filename, on_the_wire):
    assert on_the_wire in _body(multipart("B", (), (("artifact", file_of(b"", filename)),)))


def test_a_content_type_cannot_add_a_header(file_of):
    form = multipart("B", (), (("artifact", file_of(b"", content_type="text/plain\r\nX: y")),))

    assert b"Content-Type: application/octet-stream\r\n\r\n" in _body(form)
