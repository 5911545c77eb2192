"""Secrets: where they come from, and that they do not get out."""

import copy
import pickle

import pytest

from fsm_miner.config import ConfigError, Secret, SecretRef, resolve_secret
from fsm_miner.config.secret import parse_secret_ref

VALUE = "hunter2-hunter2"


def refusal(ref, environ=None):
    with pytest.raises(ConfigError) as caught:
        resolve_secret(ref, environ or {})
    assert VALUE not in str(caught.value)
    assert str(caught.value).startswith("coordinator.auth_token: ")
    return str(caught.value)


def test_an_environment_variable():
    assert resolve_secret(SecretRef("env", "MINER_AUTH"), {"MINER_AUTH": VALUE}).reveal() == VALUE


def test_a_missing_variable_says_how_to_set_it():
    said = refusal(SecretRef("env", "MINER_AUTH"))
    assert "MINER_AUTH is not set" in said
    assert "EnvironmentFile=" in said


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_file_loses_one_newline(tmp_path, ending):
    path = tmp_path / "token"
    path.write_bytes((VALUE + ending).encode())
    path.chmod(0o640)
    assert resolve_secret(SecretRef("file", str(path)), {}).reveal() == VALUE


@pytest.mark.parametrize("mode", [0o644, 0o602, 0o601])
def test_a_file_that_is_open_to_everybody_is_refused(tmp_path, mode):
    path = tmp_path / "token"
    path.write_text(VALUE)
    path.chmod(mode)
    assert f"chmod o= {path}" in refusal(SecretRef("file", str(path)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (VALUE.encode() + b"\n\n", "one line"),
        (VALUE.encode() + b" x", "without spaces"),
        (b"\xff\xfe", "not text"),
        ("\u00e9".encode(), "ASCII"),
        (b"x" * 20000, "larger than"),
    ],
)
def test_what_cannot_be_a_token_is_refused(tmp_path, content, said):
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    assert said in refusal(SecretRef("file", str(path)))


def test_a_variable_is_checked_like_a_file():
    assert "one line" in refusal(SecretRef("env", "X"), {"X": f"{VALUE}\r\nX-Admin: 1"})
    assert "longer than" in refusal(SecretRef("env", "X"), {"X": "x" * 20000})


def test_a_missing_file_is_named(tmp_path):
    assert f"cannot read {tmp_path / 'absent'}" in refusal(SecretRef("file", str(tmp_path / "absent")))


def test_a_credential_of_systemd(tmp_path):
    path = tmp_path / "miner-auth"
    path.write_text(VALUE + "\n")
    path.chmod(0o400)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert resolve_secret(SecretRef("credential", "miner-auth"), environ).reveal() == VALUE
    assert "LoadCredential=miner-auth:" in refusal(SecretRef("credential", "miner-auth"))


@pytest.mark.parametrize(
    "text",
    [
        VALUE,
        "",
        "env:",
        "env:1X",
        "env:A B",
        "file:relative",
        "file:/a\nb",
        "credential:../x",
        "credential:",
        "ENV:X",
    ],
)
def test_what_is_no_reference_is_refused_without_repeating_it(text):
    with pytest.raises(ValueError, match="must") as caught:
        parse_secret_ref(text)
    assert not text or text not in str(caught.value) or text in ("env:", "credential:")


@pytest.mark.parametrize("text", ["env:MINER_AUTH", "file:/etc/aitbc/miner/token", "credential:miner-auth"])
def test_a_reference_reads_and_writes_the_same(text):
    assert str(parse_secret_ref(text)) == text


def test_a_secret_shows_only_when_asked():
    secret = Secret(VALUE)
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{[secret]}", f"{secret:}"):
        assert VALUE not in text
    assert secret.reveal() == VALUE
    assert secret == Secret(VALUE)
    assert secret != Secret("other")
    assert secret != VALUE
    assert len({secret, Secret(VALUE)}) == 1


def test_a_secret_can_be_neither_pickled_nor_copied():
    for spread in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="stays in the memory"):
            spread(Secret(VALUE))
