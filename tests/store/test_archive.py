"""The files of a directory that are sent to nodes, and those that are left out."""

import os
import stat
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest

from handoff_actors.store.archive import Withheld, pack, unpack

LIMIT = 1_000_000


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """With secrets and links beside what a function needs."""
    directory, outside = tmp_path / "project", tmp_path / "outside"
    (directory / "pages").mkdir(parents=True)
    outside.mkdir()
    for path in (".env", ".env.local", "pages/.env", ".environment", "model.py", "pages/first.txt"):
        (directory / path).write_text(path)
    (outside / "id_ed25519").write_text("secret")
    (directory / "latest.txt").symlink_to("pages/first.txt")
    (directory / "key").symlink_to(outside / "id_ed25519")
    (directory / "above").symlink_to("../outside/id_ed25519")
    (directory / "elsewhere").symlink_to(outside)
    (directory / "settings").symlink_to(".env")
    os.mkfifo(directory / "fifo")
    return directory


def unpacked(archive: bytes, place: Path) -> dict[str, str]:
    """The files of an archive and their contents."""
    (place / "archive").write_bytes(archive)
    unpack(place / "archive", place / "there")
    files = (path for path in (place / "there").rglob("*") if path.is_file())
    return {path.relative_to(place / "there").as_posix(): path.read_text() for path in files}


@pytest.mark.timeout(10)
def test_secrets_and_links_that_lead_elsewhere_stay_at_home(project: Path, tmp_path: Path) -> None:
    packed = pack(project, LIMIT)

    assert unpacked(packed.archive, tmp_path) == {
        ".environment": ".environment",
        "latest.txt": "pages/first.txt",
        "model.py": "model.py",
        "pages/first.txt": "pages/first.txt",
    }
    secret, elsewhere = Withheld.PRIVATE, Withheld.ELSEWHERE
    assert {path.relative_to(project).as_posix(): why for path, why in packed.withheld.items()} == {
        ".env": secret,
        ".env.local": secret,
        "pages/.env": secret,
        "settings": secret,
        "key": elsewhere,
        "above": elsewhere,
    }


def test_secrets_that_are_asked_for_go_along(project: Path, tmp_path: Path) -> None:
    packed = pack(project, LIMIT, [".env"])

    there = unpacked(packed.archive, tmp_path)
    assert there.keys() >= {".env", "pages/.env"}
    assert there.keys().isdisjoint({".env.local", "key", "above"})


def test_directory_that_is_reached_through_a_link_is_packed(project: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(project)

    assert "model.py" in unpacked(pack(tmp_path / "current", LIMIT).archive, tmp_path)


def test_no_file_lends_its_users_rights(tmp_path: Path) -> None:
    entry = ZipInfo("program")
    entry.external_attr = 0o107755 << 16
    with ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr(entry, "#!/bin/sh")

    unpack(tmp_path / "archive", tmp_path / "there")

    assert stat.S_IMODE((tmp_path / "there" / "program").stat().st_mode) == 0o755


def test_archive_that_climbs_stays_below(tmp_path: Path) -> None:
    place = tmp_path / "one" / "two"
    place.mkdir(parents=True)
    with ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("../../climbed", "up")
        archive.writestr("/absolute", "up")

    unpack(tmp_path / "archive", place / "there")

    assert {path.name for path in (place / "there").rglob("*")} == {"climbed", "absolute"}
    assert [path.name for path in place.iterdir()] == ["there"]
    assert not (tmp_path / "climbed").exists()
