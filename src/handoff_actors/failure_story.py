"""The history of a function that has failed, as its error has it."""

from collections.abc import Sequence
from typing import Protocol


class FailureStoryEntry(Protocol):
    """One thing that happened to a function before it failed for good: see `handoff_actors.StoryEntry`."""

    @property
    def at_s(self) -> float:
        """Seconds since the run began."""

    @property
    def what(self) -> str:
        """The kind of entry, for example "retried"."""

    @property
    def attempt(self) -> int:
        """The number of the attempt."""

    @property
    def node(self) -> str:
        """The name of the node concerned."""

    @property
    def reason(self) -> str:
        """The reason, for people."""

    @property
    def cause(self) -> "FailureStoryEntry | None":
        """The entry that led to it, if that is known."""


class FailureStory(Protocol):
    """The history of a function until it failed for good: see `handoff_actors.Story`."""

    @property
    def entries(self) -> Sequence[FailureStoryEntry]:
        """Entries in the order of time."""
