"""The directories that a starting node removes, and above all those that it does not."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from handoff_actors.store import directories

DEAD = "handoff-" + "0123456789abcdef" + "01234567"
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give things to another user")


def left_by_a_dead_node(path: Path) -> Path:
    os.close(directories.make(path))
    (path / "value").write_bytes(b"of nobody")
    return path


@pytest.mark.parametrize("name", [DEAD, f"{DEAD}-spilled"])
def test_what_a_dead_node_has_left_is_removed(tmp_path: Path, name: str) -> None:
    orphan = left_by_a_dead_node(tmp_path / name)

    assert list(directories.remove_orphans(tmp_path)) == [orphan]
    assert not orphan.exists()


def test_what_a_living_node_has_stays(tmp_path: Path) -> None:
    descriptor = directories.make(tmp_path / DEAD)

    assert list(directories.remove_orphans(tmp_path)) == []
    assert (tmp_path / DEAD).is_dir()

    os.close(descriptor)


def a_clone(place: Path) -> Path:
    clone = place / "handoff-actors"
    (clone / "src").mkdir(parents=True)
    return clone


def without_a_marker(place: Path) -> Path:
    orphan = place / DEAD
    orphan.mkdir()
    (orphan / "thesis.csv").write_text("a year of work")
    return orphan


def with_a_longer_name(place: Path) -> Path:
    return left_by_a_dead_node(place / f"{DEAD}-copy")


def with_another_name(place: Path) -> Path:
    return left_by_a_dead_node(place / "handoff-results-2026")


def with_a_link_for_a_marker(place: Path) -> Path:
    orphan = without_a_marker(place)
    (orphan / directories.MARKER).symlink_to(orphan / "thesis.csv")
    return orphan


def a_link(place: Path) -> Path:
    target = left_by_a_dead_node(place / "elsewhere")
    (place / DEAD).symlink_to(target)
    return target


def a_file(place: Path) -> Path:
    (place / DEAD).write_text("")
    return place / DEAD


def a_fifo(place: Path) -> Path:
    os.mkfifo(place / DEAD)
    return place / DEAD


def of_another_user(place: Path) -> Path:
    orphan = left_by_a_dead_node(place / DEAD)
    os.chown(orphan, NOBODY, NOBODY)
    return orphan


def with_a_marker_of_another_user(place: Path) -> Path:
    orphan = left_by_a_dead_node(place / DEAD)
    os.chown(orphan / directories.MARKER, NOBODY, NOBODY)
    return orphan


@pytest.mark.parametrize(
    "make",
    [
        a_clone,
        without_a_marker,
        with_a_longer_name,
        with_another_name,
        with_a_link_for_a_marker,
        a_link,
        a_file,
        a_fifo,
        pytest.param(of_another_user, marks=as_root),
        pytest.param(with_a_marker_of_another_user, marks=as_root),
    ],
)
@pytest.mark.timeout(10)
def test_what_is_not_certainly_a_dead_nodes_stays(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    thing = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))

    assert list(directories.remove_orphans(tmp_path)) == []

    assert thing.exists()
    assert sorted(tmp_path.rglob("*")) == before


def test_removal_that_is_cut_short_goes_on_at_the_next_start(tmp_path: Path) -> None:
    orphan = left_by_a_dead_node(tmp_path / DEAD)
    (orphan / "1.unpacked").mkdir()
    for number in range(20):
        (orphan / "1.unpacked" / str(number)).touch()
        (orphan / str(number)).touch()
    removals = directories.remove_orphans(tmp_path)
    # Told of before anything is gone.
    assert next(removals) == orphan
    assert len(list(orphan.iterdir())) == 23
    removals.close()

    assert list(directories.remove_orphans(tmp_path)) == [orphan]
    assert not orphan.exists()


def test_marker_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orphan = left_by_a_dead_node(tmp_path / DEAD)
    (orphan / "1.unpacked").mkdir()
    seen: list[bool] = []

    def interrupted(*_: object, **__: object) -> None:
        seen.append((orphan / directories.MARKER).exists())
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(directories.remove_orphans(tmp_path))

    assert seen == [True]


def test_directory_that_can_not_be_emptied_keeps_its_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = left_by_a_dead_node(tmp_path / DEAD)
    (orphan / "1.unpacked").mkdir()
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)

    assert list(directories.remove_orphans(tmp_path)) == [orphan]

    assert sorted(path.name for path in orphan.iterdir()) == [directories.MARKER, "1.unpacked"]


def test_entry_that_vanishes_meanwhile_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node that ends removes its own."""
    orphans = {left_by_a_dead_node(tmp_path / f"{DEAD[:-1]}{number}") for number in range(3)}
    vanishing = tmp_path / f"{DEAD[:-1]}9"
    vanishing.mkdir()
    scandir = os.scandir

    @contextmanager
    def listed_before_it_vanishes(place: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scandir(place) as entries:
            found = sorted(entries, key=lambda entry: entry.name, reverse=True)
        vanishing.rmdir()
        yield iter(found)

    monkeypatch.setattr(os, "scandir", listed_before_it_vanishes)
    removed = directories.remove_orphans(tmp_path)
    first = next(removed)
    monkeypatch.undo()

    assert {first, *removed} == orphans


def test_no_more_than_so_many_entries_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "MOST_ENTRIES", 10)
    for number in range(20):
        left_by_a_dead_node(tmp_path / f"{DEAD[:-2]}{number:02}")

    assert len(list(directories.remove_orphans(tmp_path))) == 10
    assert len(list(directories.remove_orphans(tmp_path))) == 10


def test_place_that_can_not_be_listed_is_no_matter(tmp_path: Path) -> None:
    assert list(directories.remove_orphans(tmp_path / "missing")) == []


# --- A node's own -----------------------------------------------------------------------------------------------


def test_own_directory_is_private_and_locked(tmp_path: Path) -> None:
    descriptor = directories.make(tmp_path / "own")

    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700
    another = os.open(tmp_path / "own", os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)

    os.close(another)
    os.close(descriptor)


def test_directory_that_is_there_already_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        directories.make(tmp_path)
    (tmp_path / "theirs").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        directories.adopt(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_own_directory_is_removed_unless_another_thing_has_its_place(tmp_path: Path) -> None:
    own = tmp_path / "own"
    directories.adopt(own)
    directories.remove(own)
    assert not own.exists()

    (tmp_path / "theirs").mkdir()
    own.symlink_to(tmp_path / "theirs")
    directories.remove(own)
    assert own.is_symlink()
    own.unlink()

    (tmp_path / "theirs").rename(own)
    directories.remove(own)
    assert own.is_dir()

    own.rmdir()
    directories.remove(own)
