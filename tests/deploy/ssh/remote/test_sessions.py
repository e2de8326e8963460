import pytest

from handoff_actors.deploy.ssh.remote.channel import AgentRefused
from handoff_actors.deploy.ssh.remote.sessions import LoginSession, protection


def session(*, kills: bool = False, removes_memory: bool = False, lingers: bool = False) -> LoginSession:
    return LoginSession(is_managed=True, kills=kills, removes_memory=removes_memory, lingers=lingers)


def test_machine_without_a_manager_of_sessions_needs_no_protection() -> None:
    unmanaged = LoginSession(is_managed=False, kills=True, removes_memory=True, lingers=False)

    assert protection(unmanaged) == ([], "")


def test_node_of_a_user_who_lingers_leaves_a_session_that_kills() -> None:
    words, note = protection(session(kills=True, removes_memory=True, lingers=True))

    assert words[:3] == ["systemd-run", "--user", "--scope"]
    assert note == ""


def test_node_that_would_end_with_its_session_is_not_started() -> None:
    with pytest.raises(AgentRefused, match="loginctl enable-linger"):
        protection(session(kills=True))


def test_user_is_told_that_logging_out_removes_values() -> None:
    words, note = protection(session(removes_memory=True))

    assert words == []
    assert "RemoveIPC=yes" in note
    assert "loginctl enable-linger" in note
