"""The outcome of a command on one host."""

from typing import Literal

from msgspec import Struct

from handoff_actors.deploy.ssh.messages import ReadyNode


class HostOutcome(Struct, frozen=True):
    """The end of a command's work on one host."""

    host: str
    state: Literal["started", "was up", "ended", "was not up", "failed"]
    #: The node that is up.
    node: ReadyNode | None = None
    #: Why it failed, or a thing that the user should know.
    note: str = ""
