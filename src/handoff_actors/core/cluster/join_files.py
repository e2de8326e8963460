"""Tell the files of members that live from others in a join directory.

A member touches its file again and again, and removes it when it leaves. One that was killed leaves it behind: its file is stale
once it has not been touched for a while, and is then of no use to anyone. Ages are differences of two times of modification, of
which the file server's clock is the only one: the clocks of the machines need not agree.
"""

from collections.abc import Collection, Sequence
from typing import Final, Literal

from msgspec import Struct

#: A member touches its file this often; machines of one file server have up to a minute to see it.
TOUCH_S: Final = 15.0
STALE_S: Final = 90.0
#: A member that stood still for so long writes its file anew.
REMOVE_S: Final = 900.0
#: Pauses between the first looks: members that start together find one another soon.
FIRST_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
#: Pause between two looks of a process that knows no member.
LONELY_PAUSE_S: Final = 2.0

Age = Literal["current", "stale", "old"]


class JoinEntry(Struct, frozen=True, forbid_unknown_fields=False):
    """The content of a file: how to reach one member."""

    name: str
    address: str
    incarnation: str
    #: Fingerprint of the cluster's key: members of clusters with other keys are none of one's own.
    cluster: str


def age_of(modified: float, now: float) -> Age:
    """Judge a file by its time of modification, both times by the file server's clock."""
    age_s = now - modified
    if age_s > REMOVE_S:
        return "old"
    return "stale" if age_s > STALE_S else "current"


def of_cluster(entries: Sequence[JoinEntry], clusters: Collection[str]) -> list[JoinEntry]:
    """The entries of members with one of these keys, in the order of their names."""
    return sorted(
        (entry for entry in entries if entry.cluster in clusters),
        key=lambda entry: (entry.name, entry.incarnation),
    )


def pause_s(looks: int, *, is_alone: bool) -> float:
    """The pause after so many looks."""
    usual = FIRST_PAUSES_S[looks - 1] if looks <= len(FIRST_PAUSES_S) else TOUCH_S
    return min(usual, LONELY_PAUSE_S) if is_alone else usual
