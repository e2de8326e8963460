"""The client's side of the handshake with a node: Hello, answered by Welcome or Refused."""

import asyncio
from typing import Final, Protocol

from handoff_actors.errors import AuthenticationError, ConnectionFailed, HandoffError, VersionMismatch
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.transport.endpoint import CONNECT_TIMEOUT_S, Link, Network
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.members import Advert, Hello, Refused, Welcome
from handoff_actors.wire.versions import VERSION

#: A node that is connected and has not answered Hello by then is given up: its event loop stands still.
WELCOME_S: Final = 5.0


class NameInUse(HandoffError):
    """The node that starts has the name of another one, which answers."""


#: The reasons for which a link ends.
LinkFailure = ConnectionFailed | VersionMismatch | AuthenticationError | NameInUse


class NodeLinkListener(Protocol):
    """The owner of a link to a node, told of its answers and its end."""

    def welcomed(self, welcome: Welcome) -> None:
        """Take the node's answer to Hello."""

    def received(self, message: FromNode) -> None:
        """Take any other message from the node."""

    def failed(self, failure: LinkFailure) -> None:
        """Take note that the link has ended, or could not be opened. Called at most once after a lost connection."""


def open_link(
    network: Network,
    address: str,
    name: str,
    listener: NodeLinkListener,
    within_s: float = CONNECT_TIMEOUT_S,
    own: Advert | None = None,
    *,
    is_joining: bool = False,
    is_refusal_final: bool = False,
) -> Link:
    """Connect to the node at an address, and send Hello as `name`; `own` introduces the node in this process, too.

    With `is_joining` that node starts, and is refused if its name is in use. With `is_refusal_final` the link fails at once
    where no process listens.

    The link fails if it is not connected within `within_s` seconds, or not welcomed within these or WELCOME_S.
    """
    handshake = _Handshake(address, listener, max(within_s, WELCOME_S))
    link = network.link(address, handshake, within_s, is_refusal_final=is_refusal_final)
    handshake.await_welcome(link)
    link.send(Hello(PROTOCOL, VERSION, PYTHON, name, own, is_joining))
    return link


def text_of(failure: LinkFailure) -> str:
    """Say why a link has failed, without the address, which the reader knows."""
    if isinstance(failure, AuthenticationError):
        return f"the two sides don't hold the same cluster key: {failure.reason}"
    return failure.reason if isinstance(failure, ConnectionFailed) else str(failure)


class _Handshake:
    """See LinkHandler."""

    def __init__(self, address: str, listener: NodeLinkListener, welcome_within_s: float) -> None:
        self._address = address
        self._listener = listener
        self._welcome_within_s = welcome_within_s
        self._deadline: asyncio.Handle | None = None

    def await_welcome(self, link: Link) -> None:
        """Give the link up if the node does not answer in time."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._welcome_within_s, self._give_up, link)

    def received(self, messages: list[FromNode]) -> None:
        """See LinkHandler."""
        for message in messages:
            match message:
                case Welcome():
                    self._stop_waiting()
                    self._listener.welcomed(message)
                case Refused(reason, is_name_taken):
                    self._stop_waiting()
                    self._listener.failed(NameInUse(reason) if is_name_taken else VersionMismatch(reason))
                case _:
                    self._listener.received(message)

    def lost(self, reason: str) -> None:
        """See LinkHandler."""
        self._stop_waiting()
        self._listener.failed(ConnectionFailed(self._address, reason))

    def refused(self, reason: str) -> None:
        """See LinkHandler."""
        self._stop_waiting()
        self._listener.failed(AuthenticationError(self._address, reason))

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _give_up(self, link: Link) -> None:
        # The link's owner may have closed it meanwhile, and is told nothing of it any more.
        if not link.is_closed:
            link.close()
            reason = f"connected, but its process did not answer within {self._welcome_within_s:g} s"
            self._listener.failed(ConnectionFailed(self._address, reason))
