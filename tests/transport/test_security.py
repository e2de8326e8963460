import pytest

from handoff_actors.errors import InsecureAddressError
from handoff_actors.transport.security import check_bind


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:0",
        "tcp://127.8.9.10:7070",
        "tcp://localhost:7070",
        "tcp://[::1]:7070",
        "ipc:///run/handoff",
        "inproc://a",
        "memory://a",
    ],
)
def test_what_only_this_machine_reaches_is_no_risk(address: str) -> None:
    check_bind(address, insecure=False)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://*:7070",
        "tcp://0.0.0.0:7070",
        "tcp://[::]:7070",
        "tcp://10.0.0.1:7070",
        "tcp://example.org:7070",
        "tcp://localhost.example.org:7070",
        "tcp://eth0:7070",
        "tcp://[::ffff:10.0.0.1]:7070",
        "pgm://127.0.0.1:7070",
        "nonsense",
        "",
    ],
)
def test_what_others_might_reach_is_refused_unless_insisted_on(address: str) -> None:
    with pytest.raises(InsecureAddressError, match=r"handoff keygen.*--insecure") as refusal:
        check_bind(address, insecure=False)
    check_bind(address, insecure=True)
    check_bind(address, insecure=False, has_key=True)

    assert refusal.value.address == address
