import logging
import socket
from collections.abc import AsyncIterator

import pytest

from handoff_actors.actors.member import Member
from handoff_actors.actors.own_addresses import address_to_bind, check_advertised
from handoff_actors.errors import HandoffError, InvalidAddressError
from handoff_actors.transport.names.resolver import Resolver
from handoff_actors.transport.zeromq import ZmqNetwork

HOSTS = {
    "own": ["192.0.2.77", "127.0.0.3"],
    "six": ["::1"],
    "far": ["192.0.2.77"],
}


def ask(host: str) -> list[str]:
    if host == "mute":
        raise socket.gaierror(socket.EAI_AGAIN, "temporary failure")
    if host not in HOSTS:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")
    return HOSTS[host]


@pytest.fixture
async def member() -> AsyncIterator[Member]:
    member = Member("n1", open_network=lambda _: ZmqNetwork(resolver=Resolver(ask)))
    yield member
    await member.close()


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("tcp://own:7070", "tcp://127.0.0.3:7070"),
        ("tcp://six:0", "tcp://[::1]:0"),
        ("tcp://*:7070", "tcp://*:7070"),
        ("tcp://lo:7070", "tcp://lo:7070"),
        ("tcp://localhost:7070", "tcp://localhost:7070"),
        ("tcp://192.0.2.77:7070", "tcp://192.0.2.77:7070"),
    ],
)
async def test_a_name_to_listen_at_becomes_an_address_of_this_machine(
    member: Member, listen: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert await address_to_bind(member, listen) == expected

    assert ("loopback" in caplog.text) is (listen in {"tcp://own:7070", "tcp://six:0"})


@pytest.mark.parametrize(
    ("listen", "error", "reason"),
    [
        ("tcp://far:7070", InvalidAddressError, r"far is 192\.0\.2\.77, which is not this machine"),
        ("tcp://none:7070", InvalidAddressError, "none is not known"),
        (
            "tcp://mute:7070",
            HandoffError,
            "can't listen at tcp://mute:7070: the name mute could not be resolved now",
        ),
        ("tcp://own:70700", InvalidAddressError, "up to 65535"),
    ],
)
async def test_other_names_to_listen_at_are_errors(
    member: Member, listen: str, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        await address_to_bind(member, listen)


async def test_a_name_to_advertise_must_be_known_unless_that_is_uncertain(
    member: Member, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for known in ("far", "far:7070", "192.0.2.1", "[::1]:7070", "::1", "localhost"):
            await check_advertised(member, known)
        assert caplog.messages == []

        await check_advertised(member, "mute:7070")
    with pytest.raises(InvalidAddressError, match="others could not connect"):
        await check_advertised(member, "none")

    assert caplog.messages == ["the name to advertise could not be checked; others need to resolve it"]
