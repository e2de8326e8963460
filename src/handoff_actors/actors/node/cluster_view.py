"""The cluster as a node sees it, and tells it of what its peers say."""

from collections.abc import Callable
from typing import Protocol

from handoff_actors.core.cluster.membership_events import Source
from handoff_actors.wire.messages.members import Advert, Refused


class ClusterView(Protocol):
    """The cluster as seen from one of its nodes."""

    def announce(self, advert: Advert) -> None:
        """Publish the node's new advert."""

    def node_introduced(
        self, advert: Advert, answer: Callable[[Refused | int], None], *, is_joining: bool
    ) -> None:
        """Take a node that has introduced itself. `answer` is told why it is refused, or the rank that it is to exceed."""

    def advert_received(self, advert: Advert, source: Source) -> None:
        """Take the advert of a node that has come over a link."""

    def members_reported(self, adverts: list[Advert]) -> None:
        """Take the adverts of members that a node has reported."""

    def member_left(self, name: str, incarnation: str) -> None:
        """Take note that a node has announced its end."""

    def members(self) -> list[Advert]:
        """The latest advert of every other member."""

    def suspects(self) -> list[str]:
        """Names of members that have been silent for a while."""

    def view(self) -> int:
        """A number made of all members."""

    def lately_left(self) -> list[str]:
        """The incarnations of nodes that have left lately."""

    def unreachable(self) -> list[str]:
        """Names of members that this node can neither hear on their bus nor connect to."""

    def entrance(self) -> tuple[str, str | None, str | None] | None:
        """The address, the key and the other key that is accepted, by which workers of the node reach the cluster; None if they can't.

        Raises HandoffError, OSError.
        """
