"""What the system tests keep between runs is made anew when what it is made from has changed, and only then."""

import pytest

from tests.system import images


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Keep things below tmp_path; return how often one was made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    times = []

    def make(target):
        times.append(target.name)
        target.mkdir()
        (target / "part").touch()

    return lambda *made_from: images.kept("thing", list(made_from), make), times


def test_it_is_made_once_and_anew_when_its_inputs_change(made):
    keep, times = made
    first = keep("a", "b")
    assert (keep("a", "b"), len(times)) == (first, 1)
    second = keep("a", "c")
    assert (second != first, len(times)) == (True, 2)
    assert not first.exists()
    assert sorted(path.name for path in second.parent.iterdir()) == [second.name, "thing.lock"]
    assert keep("ab") != keep("a", "b")


def test_another_way_of_making_it_counts_as_well(made, tmp_path, monkeypatch):
    keep, times = made
    first = keep("a")
    monkeypatch.setattr(images, "__file__", str(tmp_path / "images.py"))
    (tmp_path / "images.py").write_text("another way")
    assert keep("a") != first
    assert len(times) == 2


def test_what_was_cut_short_is_made_anew(made):
    keep, times = made
    folder = keep("a").parent
    (folder / "thing.making").mkdir()
    (folder / "thing.making" / "half").touch()
    assert [path.name for path in keep("b").iterdir()] == ["part"]
    assert len(times) == 2
