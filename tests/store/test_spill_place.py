"""The choice of a directory for spilled values: on a disk wherever there is one."""

import tempfile
from pathlib import Path

import pytest

from handoff_actors.store import spill_place as rooms
from handoff_actors.store.files import SHARED
from handoff_actors.store.spill_place import is_in_memory, spill_place
from tests.small_file_system import small_file_system


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for /var/tmp; nothing is chosen by the environment."""
    for variable in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(variable, raising=False)
    disk = tmp_path / "disk"
    disk.mkdir()
    if is_in_memory(disk):
        pytest.skip("temporary files are in memory here")
    monkeypatch.setattr(rooms, "_LARGE", disk)
    return disk


@pytest.fixture
def in_memory(tmp_path: Path) -> Path:
    directory = tmp_path / "memory"
    directory.mkdir()
    return directory


def test_temporary_directory_in_memory_is_passed_over(
    disk: Path, in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(in_memory))

    assert spill_place(None) == in_memory
    with small_file_system(in_memory, "1m"):
        assert is_in_memory(in_memory)
        assert spill_place(None) == disk
        assert spill_place(in_memory) == in_memory
        monkeypatch.setenv("TMPDIR", str(in_memory))
        assert spill_place(None) == in_memory


def test_without_a_disk_there_is_a_warning_with_the_remedy(
    disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)

    assert spill_place(None) == disk
    monkeypatch.setattr(rooms, "_LARGE", disk / "missing")
    assert spill_place(None) is None
    assert "--spill-dir" in caplog.text


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared memory")
def test_shared_memory_is_memory_and_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    assert is_in_memory(SHARED)
    with pytest.raises(FileNotFoundError):
        is_in_memory(tmp_path / "missing")
