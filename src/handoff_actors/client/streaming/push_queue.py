"""The callers who wait for room in a stream, in the order in which they came."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from handoff_actors.errors import HandoffError

ResultT = TypeVar("ResultT")


class _Waiter:
    """One caller."""

    def __init__(self) -> None:
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class PushQueue:
    """Lets callers push one after the other, as there is room."""

    def __init__(self, has_room: Callable[[], bool]) -> None:
        self._has_room = has_room
        self._waiting: dict[_Waiter, None] = {}
        self._error: HandoffError | None = None

    @property
    def is_open(self) -> bool:
        """True if there is room, and nobody waits for it."""
        return not self._waiting and self._error is None and self._has_room()

    async def push(self, push: Callable[[], ResultT]) -> ResultT:
        """Call `push` once there is room, and all who came before have had their turn. Raises what `close` was given.

        A caller that is cancelled has pushed nothing.
        """
        if self._error is None and (self._waiting or not self._has_room()):
            await self._wait()
        if self._error is not None:
            # Each caller gets one of its own: frames are added to those that an error has.
            raise HandoffError(str(self._error)) from self._error.__cause__
        result = push()
        self.wake()
        return result

    async def _wait(self) -> None:
        waiter = _Waiter()
        self._waiting[waiter] = None
        try:
            while self._error is None:
                await waiter.turn
                if self._has_room():
                    break
                # It keeps its place.
                waiter.turn = asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            del self._waiting[waiter]
            # The turn that it may have been given is the next one's.
            self.wake()
            raise
        del self._waiting[waiter]

    def wake(self) -> None:
        """Give the first caller its turn, if there is room."""
        if self._waiting and self._has_room():
            _give_turn(next(iter(self._waiting)))

    def close(self, error: HandoffError) -> None:
        """Let nobody push any more: all get this error, and its cause."""
        if self._error is None:
            self._error = error
        for waiter in self._waiting:
            _give_turn(waiter)


def _give_turn(waiter: _Waiter) -> None:
    if not waiter.turn.done():
        waiter.turn.set_result(None)
