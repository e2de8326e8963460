"""The network interfaces of this machine."""

import socket


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
