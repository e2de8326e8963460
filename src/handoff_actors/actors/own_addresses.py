"""Names among the addresses of a node: the one that it listens at, and the one under which others reach it."""

import asyncio
import logging
import socket
from typing import Final

from handoff_actors.actors.interfaces import first_address, is_of_this_machine
from handoff_actors.actors.join_files.threads import in_own_thread
from handoff_actors.actors.member import Member
from handoff_actors.addresses import TcpAddress, ip_of, is_loopback, split_address, split_advertised
from handoff_actors.errors import ConnectionFailed, HandoffError, InvalidAddressError
from handoff_actors.transport.endpoint import UnknownHostError

log = logging.getLogger(__name__)

#: Any port: resolving needs one.
_SOME_PORT: Final = 1
_LOOPBACK: Final = "127.0.0.1"
#: An address of another network, for documentation (RFC 5737), which nobody has.
_SOMEWHERE: Final = "198.51.100.1"


async def address_to_bind(member: Member, listen: str) -> str:
    """Return the address to listen at with the host's IP address in place of its name. ZeroMQ binds no names.

    Raises InvalidAddressError for a name that is unknown, or another machine's; HandoffError if its name server does
    not answer.
    """
    address = split_address(listen)
    if address.is_literal or address.host == "localhost" or _is_interface(address.host):
        return listen
    try:
        found = await member.network().resolve(str(TcpAddress(address.host, _SOME_PORT)))
    except UnknownHostError as error:
        raise InvalidAddressError(listen, error.reason) from error
    except ConnectionFailed as error:
        raise HandoffError(f"a node can't listen at {listen}: {error.reason}") from error
    hosts = [split_address(text).host for text in found]
    own = await asyncio.to_thread(_first_own, hosts)
    if own is None:
        raise InvalidAddressError(listen, f"{address.host} is {', '.join(hosts)}, which is not this machine")
    found_at = str(TcpAddress(own, address.port))
    if is_loopback(found_at):
        # Debian's /etc/hosts has the host's own name so.
        log.warning(
            "the name to listen at is a loopback address, which other machines can't reach; "
            "listen at this machine's IP address for them",
            extra={"listen": listen, "address": found_at},
        )
    return found_at


async def check_advertised(member: Member, advertise: str) -> None:
    """Raise InvalidAddressError for a name to advertise that is unknown. If that is uncertain, log a warning."""
    host, _ = split_advertised(advertise)
    if ip_of(host) is not None:
        return
    try:
        await member.network().resolve(str(TcpAddress(host, _SOME_PORT)))
    except UnknownHostError as error:
        raise InvalidAddressError(
            advertise,
            f"{error.reason}, so others could not connect to it; advertise a name that is, or an IP address",
        ) from error
    except ConnectionFailed as error:
        log.warning(
            "the name to advertise could not be checked; others need to resolve it",
            extra={"advertise": advertise, "reason": error.reason},
        )


async def reachable_host() -> str:
    """Return the IP address at which other machines most likely reach this one: of its own name, its way out, or its first card.

    An address and no name, as compute nodes may not know the names of login nodes. On a machine without a network it is that
    of the loopback.
    """
    return await in_own_thread(
        # Compute nodes often have no way out.
        lambda: _address_of_name() or _address_of_way_out() or first_address() or _LOOPBACK
    )


def _address_of_name() -> str | None:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    # IPv4 first: what listens at all addresses may have to do without IPv6.
    hosts = [str(host) for family, _, _, _, (host, *_) in sorted(found, key=lambda one: one[0])]
    # Debian's /etc/hosts has the host's own name as a loopback address, and a name server may know an old one.
    return next(
        (host for host in hosts if not is_loopback(str(TcpAddress(host, 1))) and is_of_this_machine(host)),
        None,
    )


def _address_of_way_out() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the kernel only chooses a way.
            probe.connect((_SOMEWHERE, _SOME_PORT))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _is_interface(name: str) -> bool:
    return any(name == interface for _, interface in socket.if_nameindex())


def _first_own(hosts: list[str]) -> str | None:
    return next(filter(is_of_this_machine, hosts), None)
