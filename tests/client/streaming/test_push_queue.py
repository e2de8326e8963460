"""Callers that push get their turns in order, and lose nothing where they are cancelled."""

import asyncio

import pytest

from handoff_actors.client.streaming.push_queue import PushQueue
from handoff_actors.errors import HandoffError


class Room:
    """So many may push."""

    def __init__(self, places: int = 0) -> None:
        self.places = places
        self.pushed: list[int] = []
        self.queue = PushQueue(lambda: self.places > 0)

    async def push(self, number: int) -> int:
        def push() -> int:
            self.places -= 1
            self.pushed.append(number)
            return number

        return await self.queue.push(push)

    def free(self, places: int) -> None:
        self.places += places
        self.queue.wake()


async def wait_for(tasks: "list[asyncio.Task[int]]", ended: int) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    assert sum(task.done() for task in tasks) == ended


async def test_pushes_are_made_in_the_order_of_the_callers() -> None:
    room = Room()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(room.push(number)) for number in range(5)]
        await wait_for(tasks, 0)
        room.free(2)
        await wait_for(tasks, 2)
        room.free(3)

    assert room.pushed == [0, 1, 2, 3, 4]


async def test_newcomer_does_not_overtake_those_who_wait() -> None:
    room = Room()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(room.push(0))]
        await wait_for(tasks, 0)
        room.free(1)
        tasks.append(group.create_task(room.push(1)))
        await wait_for(tasks, 1)
        room.free(1)

    assert room.pushed == [0, 1]


async def test_turn_of_a_caller_that_is_cancelled_is_the_next_one_s() -> None:
    room = Room()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(room.push(number)) for number in range(2)]
        await wait_for(tasks, 0)
        room.free(1)
        # It has its turn, and has not taken it yet.
        tasks[0].cancel()
        await wait_for(tasks, 2)

    assert room.pushed == [1]
    assert room.places == 0


async def test_caller_whose_room_is_gone_again_keeps_its_place() -> None:
    room = Room()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(room.push(number)) for number in range(2)]
        await wait_for(tasks, 0)
        room.free(1)
        room.places = 0
        await wait_for(tasks, 0)
        room.free(2)

    assert room.pushed == [0, 1]


async def test_all_callers_hear_why_nothing_is_pushed_any_more() -> None:
    room = Room()
    tasks = [asyncio.ensure_future(room.push(number)) for number in range(2)]
    await wait_for(tasks, 0)
    over = HandoffError("it is over")
    over.__cause__ = cause = ValueError()

    room.queue.close(over)

    for task in [*tasks, room.push(2)]:
        with pytest.raises(HandoffError, match="it is over") as caught:
            await task
        assert caught.value.__cause__ is cause
    assert room.pushed == []
