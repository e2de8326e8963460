"""The text form of addresses, tcp://HOST:PORT: its parts, and the rules for those that members listen at and connect to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handoff_actors.errors import InsecureAddressError, InvalidAddressError

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

TCP: Final = "tcp://"
#: Schemes that only reach processes of this machine.
LOCAL_SCHEMES: Final = ("ipc://", "inproc://", "memory://")
MAX_PORT: Final = 65535

_EXAMPLE: Final = "one looks like tcp://10.0.0.1:7070"
#: Of a host name, see RFC 1035.
_MAX_HOST: Final = 253
_MAX_LABEL: Final = 63
_WILDCARDS: Final = frozenset({"*", "0.0.0.0", "::"})  # noqa: S104 - for comparisons, not for a bind


class TcpAddress(Struct, frozen=True):
    """A host and a port."""

    #: A name, or the text of an IP address without brackets, or * for all interfaces.
    host: str
    port: int

    def __str__(self) -> str:
        return f"{TCP}[{self.host}]:{self.port}" if ":" in self.host else f"{TCP}{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """True if this is every address of a machine, where one can listen and none can connect to."""
        if self.host in _WILDCARDS:
            return True
        ip = ip_of(self.host)
        return ip is not None and ip.is_unspecified

    @property
    def is_literal(self) -> bool:
        """True if the host is an IP address or a wildcard, and no name to be resolved."""
        return self.host == "*" or ip_of(self.host) is not None


def ip_of(host: str) -> "IPv4Address | IPv6Address | None":
    """The IP address that is written as this host; None if the host is a name."""
    # Most processes that only read adverts of others know them by now.
    from ipaddress import ip_address  # noqa: PLC0415 - it costs 1 ms

    try:
        return ip_address(host)
    except ValueError:
        return None


def split_address(text: str) -> TcpAddress:
    """Return the parts of an address. Raises InvalidAddressError, which says what is wrong with it."""
    if not text.startswith(TCP):
        raise InvalidAddressError(text, f"it does not begin with tcp://; {_EXAMPLE}")
    host, port = _split(text, text.removeprefix(TCP))
    if port is None:
        raise InvalidAddressError(text, f"it has no port; {_EXAMPLE}")
    return TcpAddress(host, port)


def check_destination(text: str) -> TcpAddress:
    """Return the parts of an address for others to connect to. Raises InvalidAddressError."""
    address = split_address(text)
    if address.port == 0:
        raise InvalidAddressError(
            text, "nothing can be reached at port 0; name the port that the node listens at"
        )
    if address.is_wildcard:
        raise InvalidAddressError(
            text, f"{address.host} stands for all addresses of a machine; name one of them, or a host name"
        )
    return address


def check_seeds(seeds: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses of members to join. Raises InvalidAddressError, and TypeError for one that is not in a list."""
    if isinstance(seeds, str):
        raise TypeError(f"seeds={seeds!r}: addresses are given in a list, as in [{seeds!r}]")
    for seed in seeds:
        check_destination(seed)
    return tuple(seeds)


def split_advertised(text: str) -> tuple[str, int | None]:
    """Return host and port of HOST or HOST:PORT under which others reach a node. Raises InvalidAddressError."""
    if text.startswith(TCP):
        raise InvalidAddressError(
            text, "leave tcp:// away; one looks like node1.example.org or 10.0.0.1:7070"
        )
    host, port = (text, None) if _is_ipv6(text) else _split(text, text)
    check_destination(str(TcpAddress(host, 1 if port is None else port)))
    return host, port


def advertised(service: str, bus: str, advertise: str | None = None) -> tuple[str, str]:
    """Return the addresses to advertise for a service and a bus that listen at these, under HOST[:PORT] if given.

    A PORT other than the service's is one that is mapped to it, and the port after it is mapped to the bus.
    Raises InvalidAddressError for HOST[:PORT], if it can't lead to the service, and for a service at all interfaces if no
    host is given.
    """
    if not service.startswith(TCP):
        return service, bus
    own, own_bus = split_address(service), split_address(bus)
    if advertise is None:
        if own.is_wildcard:
            raise InvalidAddressError(
                service,
                "others can't connect to it; listen at one of this machine's addresses, or say which host name to "
                "advertise",
            )
        return service, bus
    host, port = split_advertised(advertise)
    _check_mapping(own, host, port, advertise)
    if port in (None, own.port):
        return str(TcpAddress(host, own.port)), str(TcpAddress(host, own_bus.port))
    assert port is not None
    if port == MAX_PORT:
        raise InvalidAddressError(advertise, "the port after it is the bus's, so it can be 65534 at most")
    return str(TcpAddress(host, port)), str(TcpAddress(host, port + 1))


def _check_mapping(own: TcpAddress, host: str, port: int | None, advertise: str) -> None:
    if port is not None and own.port == 0:
        raise InvalidAddressError(
            advertise,
            f"port {port} can't be mapped to one that is not known yet; name the port to listen at, too",
        )
    listening, shown = ip_of(own.host), ip_of(host)
    if listening is None or shown is None or not listening.is_loopback:
        return
    if shown.version != listening.version:
        raise InvalidAddressError(
            advertise,
            f"a node that listens at {own} can't be reached at an IPv{shown.version} address; advertise one of version {listening.version}",
        )


def bus_addresses(listen: str, service: str, bus_port: int | None = None) -> list[str]:
    """Return the addresses at which the bus may listen, best first, of a service that was to listen at `listen`.

    `service` is its actual address. By default the bus has the port after the service's, so that firewalls can let both
    through. Port 0 asks for any free port, and so do loopback addresses: many nodes of one machine have ports in a row.
    """
    if not listen.startswith(TCP):
        return [f"{listen.rpartition(':')[0]}:0"]
    wanted, actual = split_address(listen), split_address(service)
    any_free = str(TcpAddress(wanted.host, 0))
    if bus_port is not None:
        return [str(TcpAddress(wanted.host, bus_port))]
    if wanted.port == 0 or is_loopback(service) or actual.port == MAX_PORT:
        return [any_free]
    return [str(TcpAddress(wanted.host, actual.port + 1)), any_free]


def is_loopback(text: str) -> bool:
    """True if only processes of this machine can reach a tcp:// address."""
    try:
        host = split_address(text).host
    except InvalidAddressError:
        return False
    ip = ip_of(host)
    return host == "localhost" if ip is None else ip.is_loopback


def check_bind(address: str, insecure: bool, *, has_key: bool = False) -> None:
    """Check that other machines can't reach an address without a key, unless `insecure` insists on it.

    Raises InsecureAddressError.
    """
    if not (has_key or insecure or address.startswith(LOCAL_SCHEMES) or is_loopback(address)):
        raise InsecureAddressError(address)


def _split(text: str, rest: str) -> tuple[str, int | None]:
    """Return host and port of HOST, HOST:PORT or [HOST]:PORT."""
    if rest.startswith("["):
        host, bracket, end = rest[1:].partition("]")
        if not bracket or not _is_ipv6(host):
            raise InvalidAddressError(text, "brackets are for IPv6 addresses, as in [fd00::1]:7070")
        if end and not end.startswith(":"):
            raise InvalidAddressError(text, f"{end!r} follows its host, where only a port can")
    elif rest.count(":") > 1:
        raise InvalidAddressError(
            text, f"an IPv6 address in front of a port is put into brackets, as in [fd00::1]:7070; {_EXAMPLE}"
        )
    else:
        host, colon, digits = rest.partition(":")
        _check_host(text, host)
        end = colon + digits
    return host, _port_of(text, end[1:]) if end else None


def _port_of(text: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidAddressError(text, f"{digits!r} is no port")
    if len(digits) > len(str(MAX_PORT)) or int(digits) > MAX_PORT:
        raise InvalidAddressError(text, f"ports go up to {MAX_PORT}")
    return int(digits)


def _check_host(text: str, host: str) -> None:
    if host == "*":
        return
    if not host:
        raise InvalidAddressError(text, f"it has no host; {_EXAMPLE}")
    if not all(character.isalnum() or character in "-._" for character in host):
        raise InvalidAddressError(text, f"{host!r} is neither a host name nor an IP address; {_EXAMPLE}")
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdigit() and ip_of(host) is None:
        # The C library reads 10.1 as 10.0.0.1.
        raise InvalidAddressError(text, f"{host!r} is no IP address, which has four numbers up to 255")
    if len(host) > _MAX_HOST or not all(0 < len(label) <= _MAX_LABEL for label in labels):
        raise InvalidAddressError(
            text, f"{host[:_MAX_LABEL]!r} is no host name: its parts have 1 to {_MAX_LABEL} characters"
        )


def _is_ipv6(host: str) -> bool:
    # The name of an interface may follow a %, and can have any characters.
    return ":" in host and all(one.isalnum() or one in ":.%-_" for one in host) and ip_of(host) is not None
