"""A file system of a node's own: as large as it was asked for, gone with the last who uses it."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path

import pytest

from handoff_actors.ids import RunId
from handoff_actors.store import huge_pages
from handoff_actors.store.files import SHARED, ValueStore
from handoff_actors.wire.payload import Payload
from handoff_actors.workers.child.store import WorkerStore, value_name

NBYTES = 16 << 20
RUN = RunId(7)


@pytest.fixture
def root() -> Iterator[Path]:
    descriptor = huge_pages.mount(NBYTES)
    if descriptor is None:
        pytest.skip("this process may not mount, or the kernel has no huge pages")
    yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    os.close(descriptor)


def test_it_has_the_room_that_was_asked_for(root: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)), (root / "a").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, NBYTES + 1)

    (root / "b").write_bytes(bytes(NBYTES // 2))

    assert (root / "b").stat().st_size == NBYTES // 2


def test_other_processes_of_this_user_reach_it_by_its_path(root: Path) -> None:
    program = f"import pathlib; pathlib.Path({str(root / 'made')!r}).write_text('there')"

    subprocess.run([sys.executable, "-c", program], check=True)

    assert (root / "made").read_text() == "there"


def test_nobody_sees_it_among_what_is_mounted(root: Path) -> None:
    before = Path("/proc/self/mounts").read_text()

    another = huge_pages.mount(NBYTES)

    assert another is not None
    os.close(another)
    assert Path("/proc/self/mounts").read_text() == before


@pytest.mark.parametrize("nbytes", [1_000_000, 6_000_000])
def test_a_value_written_by_a_worker_is_read_as_it_was(root: Path, nbytes: int) -> None:
    store = WorkerStore(root, None)
    pieces = [bytes([number]) * (nbytes // 3 + number) for number in range(1, 4)]
    payload = Payload([pieces[0], memoryview(bytearray(pieces[1])), pieces[2]])

    store.write(7, 1, 1, payload)

    assert (root / f"{value_name(7, 1)}.1").read_bytes() == b"".join(pieces)
    assert (root / f"{value_name(7, 1)}.1").stat().st_blksize >= 2 << 20, "these are huge pages"


def test_what_is_mapped_outlives_it() -> None:
    descriptor = huge_pages.mount(NBYTES)
    if descriptor is None:
        pytest.skip("this process may not mount, or the kernel has no huge pages")
    path = Path(f"/proc/{os.getpid()}/fd/{descriptor}") / "value"
    path.write_bytes(b"kept")
    with path.open("rb") as file:
        mapped = mmap(file.fileno(), 0, access=1)

    os.close(descriptor)

    assert not path.exists()
    assert mapped[:] == b"kept"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_root_without_the_right_to_mount_has_values_in_shared_memory() -> None:
    """Most containers are like this."""
    program = (
        "from handoff_actors.store.files import ValueStore; store = ValueStore('i-unprivileged'); print(store.directory);"
        " store.close()"
    )

    done = subprocess.run(
        ["setpriv", "--bounding-set", "-sys_admin", sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
    )

    assert Path(done.stdout.strip()) == SHARED / "handoff-i-unprivileged"


def test_store_is_where_it_is_told_to_be(tmp_path: Path) -> None:
    store = ValueStore("i", spill_dir=tmp_path, store_dir=tmp_path)

    assert store.path(RUN, 1).parent == tmp_path / "handoff-i"

    store.close()


def test_store_that_can_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(FileNotFoundError):
        ValueStore("i-without-disk", spill_dir=tmp_path / "missing", store_dir=tmp_path)
    with pytest.raises(FileNotFoundError):
        ValueStore("i-without-disk", spill_dir=tmp_path / "missing")

    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert list(tmp_path.iterdir()) == []
