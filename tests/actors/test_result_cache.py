"""The directory of cached results."""

import os
import time
from pathlib import Path

import pytest

from handoff_actors.actors.app.result_cache import ResultCache, cache_directory
from handoff_actors.errors import HandoffError

PRINT = b"\x01\x02"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANDOFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_value_is_found_until_it_is_too_old_for_who_asks(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ResultCache()
    cache.store(PRINT, 60, b"value")
    assert cache.find(PRINT, 60) == b"value"
    assert cache.find(b"other", 60) is None
    later = time.time() + 30

    monkeypatch.setattr("time.time", lambda: later)

    assert cache.find(PRINT, 60) == b"value"
    assert cache.find(PRINT, 20) is None
    monkeypatch.setattr("time.time", lambda: later - 60)
    assert cache.find(PRINT, 60) is None
    assert directory.is_dir()


def test_a_link_is_not_followed(directory: Path) -> None:
    cache = ResultCache()
    cache.store(b"other", 60, b"value")
    (directory / PRINT.hex()).symlink_to(directory / b"other".hex())

    assert cache.find(PRINT, 60) is None


@pytest.mark.parametrize("content", [b"", b"HOC0" + bytes(16), b"x" * 100])
def test_other_files_are_not_values(directory: Path, content: bytes) -> None:
    cache = ResultCache()
    (directory / PRINT.hex()).write_bytes(content)

    assert cache.find(PRINT, 60) is None


def test_expired_values_are_removed_now_and_then(directory: Path) -> None:
    cache = ResultCache()
    cache.store(PRINT, 60, b"value")
    cache.store(b"expired", 60, b"value")
    os.utime(directory / b"expired".hex(), (0, 0))
    abandoned = directory / ".new-abandoned"
    abandoned.touch()
    os.utime(abandoned, (0, 0))

    cache.prune()

    assert [path.name for path in directory.iterdir() if not path.name.startswith(".pruned")] == [PRINT.hex()]
    os.utime(directory / PRINT.hex(), (0, 0))
    cache.prune()
    # Not again so soon.
    assert cache.find(PRINT, 60) == b"value"


def test_the_directory_is_the_users_own_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HANDOFF_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "handoff" / "results"

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    assert cache_directory() == tmp_path / "home" / ".cache" / "handoff" / "results"


def test_a_file_in_its_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HANDOFF_CACHE", str(tmp_path / "file"))

    with pytest.raises(HandoffError, match=r"the cache of results in .*/file: .*set HANDOFF_CACHE"):
        ResultCache()
