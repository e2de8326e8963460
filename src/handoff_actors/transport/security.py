"""Addresses: those at which a node may listen, and those under which others find it."""

import ipaddress
from typing import Final

from handoff_actors.errors import InsecureAddressError

_TCP: Final = "tcp://"
#: Schemes that only reach processes of this machine.
_LOCAL_SCHEMES: Final = ("ipc://", "inproc://", "memory://")


def check_bind(address: str, insecure: bool, *, has_key: bool = False) -> None:
    """Check that other machines can't reach an address without a key, unless `insecure` insists on it.

    Raises InsecureAddressError.
    """
    if not (has_key or insecure or address.startswith(_LOCAL_SCHEMES) or is_loopback(address)):
        raise InsecureAddressError(address)


def advertised(address: str, host: str | None) -> str:
    """Return the address to advertise for a service bound to `address`, under the name `host` if given.

    Raises ValueError for a service bound to all interfaces if no host is given: others can't connect to 0.0.0.0.
    """
    if not address.startswith(_TCP):
        return address
    if host is None:
        if _host(address) in {"*", "0.0.0.0", "::"}:  # noqa: S104 - a comparison, not a bind
            raise ValueError(
                f"{address} is no address that others can connect to; say which host name to advertise"
            )
        return address
    port = address.rpartition(":")[2]
    return f"{_TCP}[{host}]:{port}" if ":" in host else f"{_TCP}{host}:{port}"


def is_remote(address: str) -> bool:
    """True if an address leads out of this process.

    Peers supply addresses, and the authenticator is among the sockets at inproc://.
    """
    return address.startswith((_TCP, "ipc://"))


def is_loopback(address: str) -> bool:
    """True if only processes of this machine can reach a tcp:// address."""
    if not address.startswith(_TCP):
        return False
    host = _host(address)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(address: str) -> str:
    """Return the host of a tcp:// address, an IPv6 one without its brackets."""
    return address.removeprefix(_TCP).rpartition(":")[0].removeprefix("[").removesuffix("]")
