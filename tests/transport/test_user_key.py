import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from handoff_actors.errors import InvalidKeyError
from handoff_actors.transport.credentials import Credentials
from handoff_actors.transport.keys import ClusterKey
from handoff_actors.transport.user_key import user_key

NOBODY = 65534
ASK = "from handoff_actors.transport.user_key import user_key; input(); print(user_key().text())"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_key_is_made_once_and_only_its_owner_may_read_it(state: Path) -> None:
    first, second = user_key(), user_key()

    [file] = (state / "handoff").iterdir()
    assert first == second == ClusterKey.from_file(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert str(file) in first.origin


def test_it_is_in_the_home_directory_where_no_place_for_state_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative/paths/do/not/count")

    assert str(tmp_path / ".local" / "state" / "handoff" / "user.key") in user_key().origin


def test_processes_that_start_together_get_the_same_key(state: Path) -> None:
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    # All have imported what they need, and begin together.
    for start in starts:
        assert start.stdin is not None
        start.stdin.write("\n")
        start.stdin.flush()
    keys = {start.communicate()[0] for start in starts}

    assert keys == {f"{user_key().text()}\n"}
    assert [file.name for file in (state / "handoff").iterdir()] == ["user.key"]


def refusal() -> str:
    with pytest.raises(InvalidKeyError, match="HANDOFF_KEY") as refused:
        user_key()
    return str(refused.value)


def test_where_there_is_no_home_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))

    assert "there is no home directory" in refusal()
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_directory_is_refused(state: Path) -> None:
    state.write_text("")

    assert str(state) in refusal()


def test_directory_that_others_may_write_to_is_refused(state: Path) -> None:
    user_key()
    (state / "handoff").chmod(0o777)

    assert f"chmod 700 {state / 'handoff'}" in refusal()


def test_link_and_fifo_are_refused_and_hang_nobody(state: Path, tmp_path: Path) -> None:
    (state / "handoff").mkdir(parents=True, mode=0o700)
    os.mkfifo(state / "handoff" / "user.key", 0o600)
    with pytest.raises(InvalidKeyError, match="not a cluster key"):
        user_key()

    (state / "handoff" / "user.key").unlink()
    (state / "handoff" / "user.key").symlink_to(tmp_path / "elsewhere")
    refusal()
    assert not (tmp_path / "elsewhere").exists()

    (state / "handoff" / "user.key").unlink()
    (state / "handoff").rmdir()
    (tmp_path / "other").mkdir()
    (state / "handoff").symlink_to(tmp_path / "other")
    refusal()


@as_root
def test_place_of_another_user_is_left_alone(state: Path) -> None:
    """Root with the HOME of the user who called sudo would use that user's place."""
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)

    assert f"belongs to user {NOBODY}" in refusal()
    assert list(state.iterdir()) == []


@as_root
def test_key_of_another_user_is_refused(state: Path) -> None:
    user_key()
    os.chown(state / "handoff" / "user.key", NOBODY, NOBODY)

    with pytest.raises(InvalidKeyError, match=f"belongs to user {NOBODY}"):
        user_key()


# --- Which key counts -------------------------------------------------------------------------------------------

KEY = ClusterKey.generate()
IN_VARIABLE = {"HANDOFF_KEY": ClusterKey.generate().text()}
INSECURE = {"HANDOFF_INSECURE": "1"}


def test_key_of_the_program_counts_before_that_of_the_environment(state: Path) -> None:
    assert Credentials.chosen(KEY, environment=IN_VARIABLE).key() == KEY
    assert Credentials.chosen(environment=IN_VARIABLE).key() == ClusterKey.from_environment(IN_VARIABLE)
    assert Credentials.chosen(KEY, environment=INSECURE).key() == KEY
    assert not state.exists()


def test_without_any_it_is_the_users_own(state: Path) -> None:
    credentials = Credentials.chosen(environment={})

    # Not before there is a socket: who never has one needs none.
    assert not state.exists()
    assert credentials.key() == user_key()
    assert credentials.cluster_key is None


@pytest.mark.parametrize("insecure", [True, False], ids=["option", "variable"])
def test_insecure_means_no_key(state: Path, insecure: bool) -> None:
    credentials = Credentials.chosen(insecure=insecure, environment={} if insecure else INSECURE)

    assert credentials.key() is None
    assert not state.exists()


@pytest.mark.parametrize(
    ("key", "insecure", "environment"),
    [(KEY, True, {}), (None, True, IN_VARIABLE), (None, False, IN_VARIABLE | INSECURE)],
    ids=["both options", "option and variable", "both variables"],
)
def test_a_key_and_none_at_once_is_an_error(
    key: ClusterKey | None,
    insecure: bool,
    environment: dict[str, str],
) -> None:
    with pytest.raises(InvalidKeyError, match="insecure means without a key"):
        Credentials.chosen(key, insecure=insecure, environment=environment)


def test_other_words_for_insecure_are_refused() -> None:
    with pytest.raises(InvalidKeyError, match="HANDOFF_INSECURE='yes'"):
        Credentials.chosen(environment={"HANDOFF_INSECURE": "yes"})
