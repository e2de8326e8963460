"""Values that are passed on piece by piece."""

from pathlib import Path

import pytest

from handoff_actors.store.pieces import FilePieces, MemoryPieces, PieceLanding
from tests.small_file_system import small_file_system


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.parametrize("kind", [MemoryPieces, FilePieces])
def test_pieces_can_be_read_once_they_are_written(kind: type[MemoryPieces] | type[FilePieces]) -> None:
    landing: PieceLanding = kind(10)

    landing.write(0, memoryview(b"01234"))
    early = bytes(landing.piece(1, 3))
    landing.write(5, memoryview(b"56789"))
    landing.finish()

    assert early == b"123"
    assert bytes(landing.piece(0, 10)) == b"0123456789"
    landing.abandon()


@pytest.mark.parametrize("kind", [MemoryPieces, FilePieces])
def test_empty_value_has_an_empty_piece(kind: type[MemoryPieces] | type[FilePieces]) -> None:
    landing: PieceLanding = kind(0)

    landing.write(0, memoryview(b""))

    assert bytes(landing.piece(0, 10)) == b""
    landing.abandon()


def test_file_has_no_name_that_a_killed_app_could_leave_behind(tmp_path: Path) -> None:
    landing = FilePieces(10_000)
    landing.write(0, memoryview(bytes(10_000)))

    assert list(tmp_path.iterdir()) == []
    landing.abandon()


def test_lack_of_room_on_disk_is_an_error_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small").mkdir()
    with small_file_system(tmp_path / "small", "1m"):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "small"))

        with pytest.raises(OSError, match="No space left"):
            FilePieces(10_000_000_000)
