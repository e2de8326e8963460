"""Dropping a mapped file of a large value leaves nothing behind."""

import threading
from pathlib import Path

import psutil
import pytest

from handoff_actors.store.mapped import LEAST_NBYTES, map_file


@pytest.mark.parametrize("nbytes", [1, LEAST_NBYTES])
def test_bytes_are_those_of_the_file_and_no_descriptor_is_left(tmp_path: Path, nbytes: int) -> None:
    path = tmp_path / "value"
    path.write_bytes(b"v" * nbytes)
    before, running = psutil.Process().num_fds(), set(threading.enumerate())

    view = map_file(path)
    path.unlink()
    assert bytes(view) == b"v" * nbytes
    del view
    for thread in set(threading.enumerate()) - running:
        thread.join()

    assert psutil.Process().num_fds() == before


def test_what_cannot_be_mapped_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    before = psutil.Process().num_fds()

    with pytest.raises(ValueError, match="empty"):
        map_file(tmp_path / "empty")

    assert psutil.Process().num_fds() == before
