from typing import Any

import pytest

import handoff_actors as handoff


def test_seeds_that_can_not_be_right_are_errors_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(handoff.InvalidAddressError, match="ports go up to 65535"):
        handoff.Session(["tcp://10.0.0.1:99999"])
    with pytest.raises(TypeError, match="in a list"):
        handoff.Session("tcp://10.0.0.1:7070")
    with pytest.raises(handoff.InvalidAddressError, match="no port"):
        handoff.Session(listen="tcp://10.0.0.1")

    monkeypatch.setenv("HANDOFF_SEEDS", "tcp://10.0.0.1:7070, 10.0.0.2:7070")
    with pytest.raises(handoff.InvalidAddressError, match="HANDOFF_SEEDS"):
        handoff.Session()


async def test_a_node_of_an_app_is_not_started_with_such_addresses() -> None:
    async with handoff.Session(()) as session:
        with pytest.raises(handoff.InvalidAddressError):
            await session.register_local_node({"cpu": 1}, seeds=["tcp://0.0.0.0:7070"])
        with pytest.raises(handoff.InvalidAddressError):
            await session.register_local_node({"cpu": 1}, listen="127.0.0.1:7070")
        with pytest.raises(handoff.InvalidAddressError):
            await session.connect(["tcp://10.0.0.1:0"])


async def test_a_session_does_not_connect_to_nothing() -> None:
    async with handoff.Session(()) as session:
        with pytest.raises(ValueError, match="name an address of a member, or a join_file"):
            await session.connect()
        with pytest.raises(ValueError, match="name an address of a member, or a join_file"):
            await session.connect([])


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", True])
async def test_time_to_wait_for_seeds_that_is_none_is_an_error(seconds: Any) -> None:
    with pytest.raises(ValueError, match="join_wait="):
        handoff.Session((), join_wait=seconds)
    async with handoff.Session(()) as session:
        with pytest.raises(ValueError, match="join_wait="):
            await session.connect(["tcp://127.0.0.1:7070"], join_wait=seconds)
        with pytest.raises(ValueError, match="join_wait="):
            await session.register_local_node({"cpu": 1}, join_wait=seconds)


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon"])
def test_time_to_wait_for_seeds_in_the_environment_is_checked(
    seconds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOFF_JOIN_WAIT", seconds)

    with pytest.raises(
        ValueError, match=f"HANDOFF_JOIN_WAIT='{seconds}': it must be a number of seconds, 0 or more"
    ):
        handoff.Session()
