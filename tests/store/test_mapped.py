"""Dropping a mapped file of a large value leaves nothing behind."""

import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from handoff_actors.store.mapped import LEAST_NBYTES, map_file


@pytest.mark.parametrize("nbytes", [1, LEAST_NBYTES])
def test_bytes_are_those_of_the_file_and_no_descriptor_is_taken(tmp_path: Path, nbytes: int) -> None:
    path = tmp_path / "value"
    path.write_bytes(b"v" * nbytes)
    before, running = psutil.Process().num_fds(), set(threading.enumerate())

    view = map_file(path)
    assert psutil.Process().num_fds() == before
    path.unlink()
    assert view.readonly
    assert bytes(view) == b"v" * nbytes
    part = memoryview(view)[nbytes // 2 :]
    del view
    assert bytes(part) == b"v" * len(part)
    assert _is_mapped(path)
    del part
    for thread in set(threading.enumerate()) - running:
        thread.join()

    assert psutil.Process().num_fds() == before
    assert not _is_mapped(path)


def _is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_what_cannot_be_mapped_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    before = psutil.Process().num_fds()

    with pytest.raises(OSError, match="Invalid argument"):
        map_file(tmp_path / "empty")

    assert psutil.Process().num_fds() == before


def test_interpreter_ends_in_silence_with_values_mapped(tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"v" * LEAST_NBYTES)
    script = """
import sys
from pathlib import Path
from handoff_actors.store.mapped import map_file
class Cycle: pass
cycle = Cycle(); cycle.itself = cycle; cycle.view = map_file(Path(sys.argv[1]))
view = sys.view = map_file(Path(sys.argv[1]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "value")], capture_output=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, b"")
