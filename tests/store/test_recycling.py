"""The file of a dropped value becomes the next one's, unless a process still has it mapped."""

import math
import mmap
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from handoff_actors.store.allocation import allocate, make_room
from handoff_actors.store.recycling import LEAST_NBYTES, MOST_NBYTES, remove_spares, set_aside, take
from tests.small_file_system import small_file_system

NBYTES = 2 * LEAST_NBYTES


def dropped(directory: Path, name: str = "value", nbytes: int = NBYTES) -> Path:
    path = directory / name
    path.write_bytes(b"1" * nbytes)
    return path


def inode_of(descriptor: int) -> int:
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("nbytes", [NBYTES, NBYTES - 1, NBYTES + 1, LEAST_NBYTES, 5 * NBYTES])
def test_next_value_gets_the_file_at_its_own_size(tmp_path: Path, nbytes: int) -> None:
    path = dropped(tmp_path)
    inode = path.stat().st_ino
    assert set_aside(path)

    descriptor = make_room(tmp_path, None, "next", nbytes)

    assert inode_of(descriptor) == inode
    assert [(entry.name, entry.stat().st_size) for entry in tmp_path.iterdir()] == [("next", nbytes)]


def test_file_that_is_mapped_is_left_to_whoever_maps_it(tmp_path: Path) -> None:
    path = dropped(tmp_path)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    assert set_aside(path)

    descriptor = make_room(tmp_path, None, "next", NBYTES)
    os.write(descriptor, b"2" * NBYTES)
    os.close(descriptor)

    assert mapped[:] == b"1" * NBYTES
    assert [entry.name for entry in tmp_path.iterdir()] == ["next"]


def test_file_that_is_mapped_in_another_process_is_not_taken(tmp_path: Path) -> None:
    path = dropped(tmp_path)
    ours, theirs = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        os.write(ours[1], b"!")
        os.read(theirs[0], 1)
        os._exit(mapped[0] != ord("1"))
    os.read(ours[0], 1)
    assert set_aside(path)

    assert take(tmp_path / "next", NBYTES) is None

    os.write(theirs[1], b"!")
    assert os.waitpid(child, 0)[1] == 0
    for end in (*ours, *theirs):
        os.close(end)


def test_whoever_opens_it_at_the_wrong_moment_ends_nobody(tmp_path: Path) -> None:
    signals: list[int] = []
    before = signal.signal(signal.SIGIO, lambda number, _: signals.append(number))
    nosy = os.fork()
    while nosy == 0:
        for path in tmp_path.iterdir():
            with suppress(OSError):
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))

    for number in range(300):
        assert set_aside(dropped(tmp_path, f"value {number}", LEAST_NBYTES))
        descriptor = take(tmp_path / "next", LEAST_NBYTES)
        if descriptor is not None:
            os.close(descriptor)
    os.kill(nosy, signal.SIGKILL)
    os.waitpid(nosy, 0)
    signal.signal(signal.SIGIO, before)

    assert signals == []


def test_the_smallest_that_is_large_enough_is_taken(tmp_path: Path) -> None:
    inodes = {}
    for size in (4, 2, 3):
        path = dropped(tmp_path, str(size), size * LEAST_NBYTES)
        inodes[path.stat().st_ino] = size
        assert set_aside(path)

    descriptor = take(tmp_path / "next", 3 * LEAST_NBYTES - 1)

    assert descriptor is not None
    assert inodes[inode_of(descriptor)] == 3


def test_each_file_is_taken_once(tmp_path: Path) -> None:
    assert set_aside(dropped(tmp_path))
    first = take(tmp_path / "first", NBYTES)
    assert first is not None
    os.close(first)

    assert take(tmp_path / "second", NBYTES) is None


@pytest.mark.parametrize("nbytes", [1, LEAST_NBYTES - 1])
def test_small_values_neither_leave_nor_take_a_file(tmp_path: Path, nbytes: int) -> None:
    assert not set_aside(dropped(tmp_path, nbytes=nbytes))
    assert set_aside(dropped(tmp_path, "large"))

    assert take(tmp_path / "next", nbytes) is None


def test_what_is_on_disk_is_not_kept(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(dropped(tmp_path))

    assert not set_aside(link)


def test_no_more_is_kept_than_may_be(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, MOST_NBYTES // 2 + 1)

    assert set_aside(tmp_path / "one")
    assert not set_aside(tmp_path / "other")


def test_what_nobody_takes_is_removed(tmp_path: Path) -> None:
    assert set_aside(dropped(tmp_path))
    hour_ago = time.time() - 3600

    assert remove_spares(tmp_path, kept_since=hour_ago)
    assert not remove_spares(tmp_path, kept_since=math.inf)
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_makes_way_where_there_is_no_room(tmp_path: Path) -> None:
    with small_file_system(tmp_path, "8m"):
        for name, nbytes in (("one", 5 * LEAST_NBYTES), ("other", LEAST_NBYTES)):
            assert set_aside(dropped(tmp_path, name, nbytes))

        os.close(make_room(tmp_path, None, "next", 15 * LEAST_NBYTES // 2, allocate))

        assert [entry.name for entry in tmp_path.iterdir()] == ["next"]
