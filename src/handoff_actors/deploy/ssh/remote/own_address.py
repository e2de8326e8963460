"""The address at which a machine was reached."""

import ipaddress
import os

from handoff_actors.deploy.ssh.remote.channel import AgentRefused

_REMEDY = "say with --advertise at which others reach it (%h: as the host is called in ssh's configuration)"


def own_address() -> str:
    """Return the address of this machine that the command's connection, or its jump host's, came to. Raises AgentRefused."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    try:
        address = ipaddress.ip_address(words[2])
    except (IndexError, ValueError):
        raise AgentRefused(
            f"the SSH server there does not say at which address it was reached; {_REMEDY}"
        ) from None
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    if address.is_link_local:
        raise AgentRefused(f"it was reached at {address}, which means another machine elsewhere; {_REMEDY}")
    return str(address)
