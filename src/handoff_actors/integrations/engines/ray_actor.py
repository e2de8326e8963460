"""The actor that has a node on a Ray node.

Ray's workers get this module by value, so that one without handoff_actors, or with another version, can say so. Methods import
all that they need themselves: names of this module are not there.
"""

from typing import Any


class HandoffNode:
    """A node in the charge of this process. Methods run in threads of their own."""

    def __init__(self) -> None:
        self.node: Any = None
        self.is_over = False

    def versions(self) -> tuple[int, str, str, str]:
        """Return protocol, version and version of Python, and "" or why handoff_actors can't be used."""
        import platform  # noqa: PLC0415

        python = platform.python_version()
        try:
            from handoff_actors.wire.messages.base import PROTOCOL  # noqa: PLC0415
            from handoff_actors.wire.versions import VERSION  # noqa: PLC0415
        except ImportError as error:
            return 0, "", python, str(error)
        try:
            import handoff_actors.integrations.engines.ray_worker  # noqa: F401, PLC0415
        except ImportError as error:
            return PROTOCOL, VERSION, python, str(error)
        return PROTOCOL, VERSION, python, ""

    def start(self, order: Any) -> tuple[str, str]:
        """Start the node. Returns its address and "", or "" and why it could not be started."""
        from handoff_actors.errors import HandoffError  # noqa: PLC0415
        from handoff_actors.integrations.engines.ray_worker import prepare_environment  # noqa: PLC0415
        from handoff_actors.integrations.engines.worker_node import WorkerNode  # noqa: PLC0415

        prepare_environment()
        try:
            self.node = WorkerNode(order)
            return self.node.wait_until_ready(), ""
        except (HandoffError, OSError) as error:
            return "", str(error)

    def wait(self) -> None:
        """Return once the node has ended."""
        while not self.is_over and not self.node.has_ended_within(1.0):
            pass

    def drain(self) -> None:
        """Have the node leave once its functions have ended, and hand its values on."""
        self.node.drain()

    def end(self) -> None:
        """End the node at once; return when nothing of it is left."""
        self.is_over = True
        if self.node is not None:
            self.node.end()
