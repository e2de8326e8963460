"""The network interfaces of this machine."""

import fcntl
import socket
import struct
from contextlib import suppress
from typing import Final

#: See netdevice(7).
_GET_FLAGS: Final = 0x8913
_GET_ADDRESS: Final = 0x8915
_IS_UP: Final = 0x1
_IS_LOOPBACK: Final = 0x8
#: Of a `struct ifreq`: the name, and the flags or the address behind it.
_REQUEST: Final = "16s24x"
_FLAGS: Final = slice(16, 18)
_IPV4: Final = slice(20, 24)


def first_address() -> str | None:
    """The IPv4 address of the first network card that is up; None where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            request = struct.pack(_REQUEST, name.encode())
            # A card may have no address, or no IPv4 one.
            with suppress(OSError):
                answer = fcntl.ioctl(asked, _GET_FLAGS, request)
                [flags] = struct.unpack("=H", answer[_FLAGS])
                if flags & _IS_UP and not flags & _IS_LOOPBACK:
                    return socket.inet_ntoa(fcntl.ioctl(asked, _GET_ADDRESS, request)[_IPV4])
    return None


def is_of_this_machine(host: str) -> bool:
    """True if this IP address is one of this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            # The fourth field of an IPv6 socket address is the scope, which getaddrinfo reads from the text.
            probe.bind(
                socket.getaddrinfo(host, 0, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)[0][4]
            )
        except OSError:
            return False
    return True
