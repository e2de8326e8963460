import pytest

from handoff_actors.addresses import (
    TcpAddress,
    advertised,
    bus_addresses,
    check_bind,
    check_destination,
    check_seeds,
    is_loopback,
    split_address,
    split_advertised,
)
from handoff_actors.errors import InsecureAddressError, InvalidAddressError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("tcp://10.0.0.1:7070", "10.0.0.1", 7070),
        ("tcp://n1.example.org:1", "n1.example.org", 1),
        ("tcp://n1.example.org.:65535", "n1.example.org.", 65535),
        ("tcp://my_host-2:0", "my_host-2", 0),
        ("tcp://bücher.example:7070", "bücher.example", 7070),
        ("tcp://[::1]:7070", "::1", 7070),
        ("tcp://[fe80::1%eth0]:7070", "fe80::1%eth0", 7070),
        ("tcp://[::ffff:10.0.0.1]:7070", "::ffff:10.0.0.1", 7070),
        ("tcp://*:7070", "*", 7070),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    address = split_address(text)

    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin with tcp://"),
        ("10.0.0.1:7070", "does not begin with tcp://"),
        ("http://10.0.0.1:7070", "does not begin with tcp://"),
        ("ipc:///run/handoff", "does not begin with tcp://"),
        ("tcp:/10.0.0.1:7070", "does not begin with tcp://"),
        ("TCP://10.0.0.1:7070", "does not begin with tcp://"),
        ("tcp://", "has no host"),
        ("tcp://:7070", "has no host"),
        ("tcp://10.0.0.1", "has no port"),
        ("tcp://[::1]", "has no port"),
        ("tcp://10.0.0.1:", "'' is no port"),
        ("tcp://10.0.0.1:x", "'x' is no port"),
        ("tcp://10.0.0.1:-1", "'-1' is no port"),
        ("tcp://10.0.0.1:+1", "is no port"),
        ("tcp://10.0.0.1: 7070", "is no port"),
        ("tcp://10.0.0.1:7070 ", "is no port"),
        ("tcp://10.0.0.1:7070/", "is no port"),
        ("tcp://10.0.0.1:٣", "is no port"),
        ("tcp://10.0.0.1:99999", "up to 65535"),
        ("tcp://10.0.0.1:" + "9" * 5000, "up to 65535"),
        ("tcp://10.0.0.1:65536", "up to 65535"),
        ("tcp://::1:7070", "brackets"),
        ("tcp://fd00::1", "brackets"),
        ("tcp://127.0.0.1:9999:7352", "brackets"),
        ("tcp://[::1:7070", "brackets"),
        ("tcp://[10.0.0.1]:7070", "brackets"),
        ("tcp://[node1]:7070", "brackets"),
        ("tcp://[fe80::1%a;b]:7070", "brackets"),
        ("tcp://[::1]7070", "follows its host"),
        ("tcp:// 10.0.0.1:7070", "neither a host name nor an IP address"),
        ("tcp://10.0.0.1:0;10.0.0.2:7070", "brackets"),
        ("tcp://10.0.0.1;10.0.0.2:7070", "neither a host name nor an IP address"),
        ("tcp://user@host:7070", "neither a host name nor an IP address"),
        ("tcp://a/b:7070", "neither a host name nor an IP address"),
        ("tcp://a\n:7070", "neither a host name nor an IP address"),
        ("tcp://a..b:7070", "no host name"),
        ("tcp://.:7070", "no host name"),
        ("tcp://" + "x" * 64 + ":7070", "no host name"),
        ("tcp://" + "x." * 127 + ":7070", "no host name"),
        ("tcp://10.0.0.256:7070", "no IP address"),
        ("tcp://10.0.1:7070", "no IP address"),
        ("tcp://7070:7070", "no IP address"),
    ],
)
def test_other_text_is_none_and_the_error_says_why(text: str, reason: str) -> None:
    with pytest.raises(InvalidAddressError) as raised:
        split_address(text)

    assert reason in raised.value.reason
    assert raised.value.address == text
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["tcp://0.0.0.0:7070", "tcp://[::]:7070", "tcp://[0:0::0]:7070", "tcp://*:7070", "tcp://a:0", "a"]
)
def test_nobody_can_connect_to_a_wildcard_or_port_0(text: str) -> None:
    with pytest.raises(InvalidAddressError):
        check_destination(text)
    with pytest.raises(InvalidAddressError):
        check_seeds(["tcp://10.0.0.1:7070", text])


def test_seeds_are_a_list() -> None:
    assert check_seeds(["tcp://a:1", "tcp://b:2"]) == ("tcp://a:1", "tcp://b:2")
    with pytest.raises(TypeError, match="in a list"):
        check_seeds("tcp://a:1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n1.example.org", ("n1.example.org", None)),
        ("n1.example.org:7070", ("n1.example.org", 7070)),
        ("10.0.0.1:7070", ("10.0.0.1", 7070)),
        ("::1", ("::1", None)),
        ("[::1]", ("::1", None)),
        ("[::1]:7070", ("::1", 7070)),
    ],
)
def test_a_node_is_advertised_at_a_host_and_perhaps_a_port(
    text: str, expected: tuple[str, int | None]
) -> None:
    assert split_advertised(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp://a:1",
        "a:0",
        "a:99999",
        "a:b",
        "a b",
        "*",
        "0.0.0.0",
        "::",
        "[::]:1",
        "[a]",
        "[::1",
        "::1:x",
        "a:1:2",
    ],
)
def test_other_text_to_advertise_is_an_error(text: str) -> None:
    with pytest.raises(InvalidAddressError):
        split_advertised(text)


@pytest.mark.parametrize(
    ("service", "bus", "advertise", "expected"),
    [
        ("tcp://10.0.0.1:7070", "tcp://10.0.0.1:7071", None, ("tcp://10.0.0.1:7070", "tcp://10.0.0.1:7071")),
        ("tcp://0.0.0.0:7070", "tcp://0.0.0.0:9000", "a.example", ("tcp://a.example:7070", "tcp://a.example:9000")),
        ("tcp://[::]:7070", "tcp://[::]:9000", "fd00::1", ("tcp://[fd00::1]:7070", "tcp://[fd00::1]:9000")),
        ("tcp://10.0.0.1:7070", "tcp://10.0.0.1:9000", "a:7070", ("tcp://a:7070", "tcp://a:9000")),
        ("tcp://10.0.0.1:7070", "tcp://10.0.0.1:9000", "a:80", ("tcp://a:80", "tcp://a:81")),
        ("memory://1", "memory://2", "a:80", ("memory://1", "memory://2")),
    ],
)  # fmt: skip
def test_service_and_bus_are_advertised_as_others_see_them(
    service: str, bus: str, advertise: str | None, expected: tuple[str, str]
) -> None:
    assert advertised(service, bus, advertise) == expected


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:7070", "tcp://[::]:7070", "tcp://*:7070"])
def test_all_interfaces_are_no_address_to_advertise(address: str) -> None:
    with pytest.raises(InvalidAddressError, match="which host name to advertise"):
        advertised(address, address)


@pytest.mark.parametrize(
    ("listen", "advertise", "complaint"),
    [
        ("tcp://10.0.0.1:0", "a.example:7070", "port 7070 can't be mapped to one that is not known yet"),
        ("tcp://127.0.0.1:7070", "::1", "can't be reached at an IPv6 address"),
        ("tcp://[::1]:7070", "127.0.0.1:7070", "can't be reached at an IPv4 address"),
    ],
)
def test_what_can_not_lead_to_the_service_is_no_address_to_advertise(
    listen: str, advertise: str, complaint: str
) -> None:
    with pytest.raises(InvalidAddressError, match=complaint):
        advertised(listen, listen, advertise)


def test_the_last_port_has_none_after_it_for_the_bus() -> None:
    with pytest.raises(InvalidAddressError, match="65534"):
        advertised("tcp://10.0.0.1:7070", "tcp://10.0.0.1:7071", "a:65535")


@pytest.mark.parametrize(
    ("listen", "service", "port", "expected"),
    [
        ("tcp://10.0.0.1:7070", "tcp://10.0.0.1:7070", None, ["tcp://10.0.0.1:7071", "tcp://10.0.0.1:0"]),
        ("tcp://*:7070", "tcp://0.0.0.0:7070", None, ["tcp://*:7071", "tcp://*:0"]),
        ("tcp://[fd00::1]:7070", "tcp://[fd00::1]:7070", None, ["tcp://[fd00::1]:7071", "tcp://[fd00::1]:0"]),
        ("tcp://10.0.0.1:0", "tcp://10.0.0.1:4000", None, ["tcp://10.0.0.1:0"]),
        ("tcp://10.0.0.1:65535", "tcp://10.0.0.1:65535", None, ["tcp://10.0.0.1:0"]),
        ("tcp://localhost:7070", "tcp://127.0.0.1:7070", None, ["tcp://localhost:0"]),
        ("tcp://10.0.0.1:7070", "tcp://10.0.0.1:7070", 9000, ["tcp://10.0.0.1:9000"]),
        ("tcp://127.0.0.1:7070", "tcp://127.0.0.1:7070", 9000, ["tcp://127.0.0.1:9000"]),
        ("memory://a", "memory://a", None, ["memory:0"]),
    ],
)  # fmt: skip
def test_the_bus_has_the_port_after_the_service_or_the_one_chosen(
    listen: str, service: str, port: int | None, expected: list[str]
) -> None:
    assert bus_addresses(listen, service, port) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (TcpAddress("10.0.0.1", 1), True),
        (TcpAddress("::1", 1), True),
        (TcpAddress("*", 1), True),
        (TcpAddress("localhost", 1), False),
    ],
)
def test_names_are_told_from_ip_addresses(address: TcpAddress, expected: bool) -> None:
    assert address.is_literal is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp://127.8.9.10:7070", True),
        ("tcp://[::1]:7070", True),
        ("tcp://localhost:7070", True),
        ("tcp://10.0.0.1:7070", False),
        ("tcp://n1:7070", False),
        ("nonsense", False),
    ],
)
def test_loopback_addresses_reach_this_machine_only(text: str, expected: bool) -> None:
    assert is_loopback(text) is expected


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
