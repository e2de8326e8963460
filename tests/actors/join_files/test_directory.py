"""The files of members in a shared directory, whatever is or comes into it."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from handoff_actors.actors.join_files.directory import KEY_NAME, JoinDirectory, JoinDirectoryError
from handoff_actors.core.cluster.join_files import REMOVE_S, STALE_S, JoinEntry
from handoff_actors.errors import InvalidKeyError
from handoff_actors.transport.keys import ClusterKey

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to somebody else")


def entry(number: int) -> JoinEntry:
    return JoinEntry(f"n{number}", f"tcp://10.0.0.{number}:7070", f"{number:024x}", "ours")


@pytest.fixture
def directory(tmp_path: Path) -> JoinDirectory:
    return JoinDirectory(tmp_path / "jobs" / "join")


def file_of(directory: JoinDirectory, number: int) -> Path:
    return directory.path / f"{number:024x}.node"


def age(path: Path, by_s: float) -> None:
    now = path.stat().st_mtime
    os.utime(path, (now - by_s, now - by_s))


def names(directory: JoinDirectory) -> list[str]:
    return sorted(path.name for path in directory.path.iterdir())


def test_members_find_one_another_by_their_files(directory: JoinDirectory) -> None:
    assert directory.look(entry(1), ()) == []
    assert directory.look(entry(2), ()) == [entry(1)]
    assert directory.look(entry(1), ()) == [entry(2)]


def test_directory_and_files_are_for_their_owner_alone(directory: JoinDirectory) -> None:
    directory.look(entry(1), ())

    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(file_of(directory, 1).stat().st_mode) == 0o600


def test_an_app_leaves_nothing_there(directory: JoinDirectory) -> None:
    directory.look(entry(1), ())

    assert directory.look(None, ()) == [entry(1)]
    assert names(directory) == [file_of(directory, 1).name]


def test_the_file_of_a_killed_member_is_ignored_and_removed_later(directory: JoinDirectory) -> None:
    directory.look(entry(1), ())

    age(file_of(directory, 1), STALE_S + 5)

    assert directory.look(None, ()) == []
    assert file_of(directory, 1).exists()

    age(file_of(directory, 1), REMOVE_S)

    assert directory.look(None, ()) == []
    assert names(directory) == []


def test_a_look_touches_the_own_file_and_brings_it_back(directory: JoinDirectory) -> None:
    directory.look(entry(1), ())
    age(file_of(directory, 1), STALE_S + 5)

    directory.look(entry(1), ())
    assert directory.look(None, ()) == [entry(1)]

    file_of(directory, 1).unlink()
    directory.look(entry(1), ())
    assert directory.look(None, ()) == [entry(1)]


def test_known_members_are_not_read_again(directory: JoinDirectory) -> None:
    directory.look(entry(1), ())

    assert directory.look(entry(2), [entry(1).incarnation]) == []


def test_a_removed_file_is_gone_and_may_be_removed_again(directory: JoinDirectory) -> None:
    directory.look(entry(1), ())

    directory.remove(entry(1).incarnation)
    directory.remove(entry(1).incarnation)

    assert names(directory) == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"name": 1}', b"\xff" * 9999, b'{"name":"n","address":"x"}']
)
def test_other_files_are_left_alone_whatever_they_hold(directory: JoinDirectory, content: bytes) -> None:
    directory.look(None, ())
    file_of(directory, 1).write_bytes(content)
    (directory.path / "notes.txt").write_bytes(content)
    os.mkfifo(file_of(directory, 2))
    file_of(directory, 3).mkdir()
    file_of(directory, 4).symlink_to("/dev/zero")

    assert directory.look(None, ()) == []
    assert len(names(directory)) == 5


def test_a_file_under_another_members_name_is_ignored(directory: JoinDirectory) -> None:
    directory.look(entry(1), ())
    file_of(directory, 1).rename(file_of(directory, 2))

    assert directory.look(None, ()) == []


def test_all_processes_that_start_together_get_one_key(directory: JoinDirectory) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: JoinDirectory(directory.path).key(), range(8)))

    assert keys == {ClusterKey.from_file(directory.path / KEY_NAME)}
    assert names(directory) == [KEY_NAME]
    assert stat.S_IMODE((directory.path / KEY_NAME).stat().st_mode) == 0o600


def test_a_key_that_others_may_read_is_refused(directory: JoinDirectory) -> None:
    directory.key()
    (directory.path / KEY_NAME).chmod(0o644)

    with pytest.raises(InvalidKeyError, match=KEY_NAME):
        directory.key()


def test_a_directory_that_others_may_read_does(directory: JoinDirectory) -> None:
    directory.path.mkdir(parents=True, mode=0o755)

    directory.look(entry(1), ())

    assert directory.look(None, ()) == [entry(1)]


def refusal(directory: JoinDirectory) -> str:
    with pytest.raises(JoinDirectoryError, match="--join-file") as refused:
        directory.look(entry(1), ())
    assert str(directory.path) in str(refused.value)
    return refused.value.reason


def test_a_directory_that_others_may_write_to_is_refused(directory: JoinDirectory) -> None:
    directory.path.mkdir(parents=True)
    directory.path.chmod(0o775)

    assert f"chmod 700 {directory.path}" in refusal(directory)


def test_what_is_no_directory_is_refused(directory: JoinDirectory) -> None:
    directory.path.parent.mkdir()
    directory.path.write_text("tcp://10.0.0.1:7070")

    assert "Not a directory" in refusal(directory) or "File exists" in refusal(directory)


@as_root
def test_another_users_directory_is_refused(directory: JoinDirectory) -> None:
    directory.path.mkdir(parents=True, mode=0o755)
    os.chown(directory.path, NOBODY, NOBODY)

    assert refusal(directory) == f"it belongs to user {NOBODY}"


@as_root
def test_another_users_files_are_ignored(directory: JoinDirectory) -> None:
    directory.look(entry(1), ())
    os.chown(file_of(directory, 1), NOBODY, NOBODY)

    assert directory.look(None, ()) == []


@as_root
def test_it_may_be_made_in_a_projects_directory_which_is_another_users(directory: JoinDirectory) -> None:
    directory.path.parent.mkdir()
    os.chown(directory.path.parent, NOBODY, NOBODY)

    directory.look(entry(1), ())

    assert directory.path.stat().st_uid == os.geteuid()


def test_a_link_of_ones_own_may_lead_to_it(directory: JoinDirectory, tmp_path: Path) -> None:
    directory.look(entry(1), ())
    (tmp_path / "link").symlink_to(directory.path)

    assert JoinDirectory(tmp_path / "link").look(None, ()) == [entry(1)]


@as_root
def test_a_link_of_another_users_is_refused(directory: JoinDirectory, tmp_path: Path) -> None:
    directory.look(entry(1), ())
    link = tmp_path / "link"
    link.symlink_to(directory.path)
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)

    assert "link" in refusal(JoinDirectory(link))
