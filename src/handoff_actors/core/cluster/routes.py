"""Addresses to which this node gets no connection: values there are asked of a relay, so that no fetch waits for a time-out.

    new --no contact within PATIENCE_S, or no answer--> cut off --answered--> new
                                                              |   ^
                                                              +---+  tried again in the background, RETRY_S after each failure

A connection that has been made and is lost later says nothing about the next one.
"""

from typing import Final

#: A host that does not even take up a connection so soon is not waited for where a relay may have the value.
PATIENCE_S: Final = 1.0
#: Time between the end of one try in the background and the fetch that begins the next one.
RETRY_S: Final = 30.0
#: Addresses that nothing was asked of for so long are forgotten.
FORGET_S: Final = 3600.0
#: A try in the background is under way.
_TRYING: Final = float("inf")


class Routes:
    """The addresses that can't be reached now, as far as is known."""

    def __init__(self) -> None:
        #: Each with the time from which it may be tried again.
        self._cut_off: dict[str, float] = {}

    def is_cut_off(self, address: str) -> bool:
        """True if nothing is to be asked of an address itself."""
        return address in self._cut_off

    def begin_retry(self, address: str, now: float) -> bool:
        """True, once, if it is time to try an address again that is cut off."""
        if now < self._cut_off.get(address, _TRYING):
            return False
        self._cut_off[address] = _TRYING
        return True

    def begin_in_background(self, address: str) -> None:
        """Note that an address is too slow to be waited for, and that a try goes on in the background."""
        self._cut_off[address] = _TRYING

    def connected(self, address: str) -> None:
        """Note that an address can be reached."""
        self._cut_off.pop(address, None)

    def failed(self, address: str, now: float) -> None:
        """Note that a try has failed."""
        self._cut_off = {
            other: again_at for other, again_at in self._cut_off.items() if now < again_at + FORGET_S
        }
        self._cut_off[address] = now + RETRY_S
