"""The rule for the addresses at which a node may listen without a key."""

from handoff_actors.addresses import LOCAL_SCHEMES, TCP, is_loopback
from handoff_actors.errors import InsecureAddressError


def check_bind(address: str, insecure: bool, *, has_key: bool = False) -> None:
    """Check that other machines can't reach an address without a key, unless `insecure` insists on it.

    Raises InsecureAddressError.
    """
    if not (has_key or insecure or address.startswith(LOCAL_SCHEMES) or is_loopback(address)):
        raise InsecureAddressError(address)


def is_remote(address: str) -> bool:
    """True if an address leads out of this process.

    Peers supply addresses, and the authenticator is among the sockets at inproc://.
    """
    return address.startswith((TCP, "ipc://"))
