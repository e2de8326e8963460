"""Rows for workers of stages are sent together, but never behind values that they do not need."""

import asyncio
from typing import TYPE_CHECKING

from handoff_actors.actors.app.streams.stage_outbox import StageOutbox
from handoff_actors.core.stream.events import LanePlace
from handoff_actors.ids import Attempt, Index, RunId
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.stage_rows import RunItem, ToStage
from handoff_actors.workers.stage_protocol import to_stage

if TYPE_CHECKING:
    from handoff_actors.wire.messages.stages import StageInput

RUN = RunId(1)
HERE = LanePlace("n1", Index(0), Attempt(1))
THERE = LanePlace("n2", Index(1), Attempt(3))
NEEDED = Ref(Index(9), 1000, [""])


def item(number: int) -> RunItem:
    return RunItem(number, (b"x",))


class Sent:
    """What an outbox has sent."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, StageInput]] = []
        self.outbox = StageOutbox(RUN, lambda name, message: self.messages.append((name, message)))

    def rows(self) -> list[tuple[str, list[ToStage], list[Ref]]]:
        return [(name, to_stage(message.content), message.needs) for name, message in self.messages]


async def test_rows_of_one_turn_share_a_message_for_each_worker() -> None:
    sent = Sent()
    sent.outbox.add(HERE, [item(1)], [])
    sent.outbox.add(THERE, [item(2)], [])
    sent.outbox.add(HERE, [item(3), item(4)], [])

    assert sent.messages == []
    await asyncio.sleep(0)

    assert sent.rows() == [("n1", [item(1), item(3), item(4)], []), ("n2", [item(2)], [])]
    message = sent.messages[1][1]
    assert (message.run, message.index, message.attempt) == (RUN, THERE.index, THERE.attempt)


async def test_rows_that_need_values_begin_a_message() -> None:
    sent = Sent()
    sent.outbox.add(HERE, [item(1)], [])
    sent.outbox.add(HERE, [item(2)], [NEEDED])
    sent.outbox.add(HERE, [item(3)], [])
    sent.outbox.add(HERE, [item(4)], [NEEDED])
    await asyncio.sleep(0)

    assert sent.rows() == [
        ("n1", [item(1)], []),
        ("n1", [item(2), item(3)], [NEEDED]),
        ("n1", [item(4)], [NEEDED]),
    ]


async def test_nothing_is_sent_twice() -> None:
    sent = Sent()
    sent.outbox.add(HERE, [item(1)], [])
    sent.outbox.flush()
    await asyncio.sleep(0)
    sent.outbox.add(HERE, [item(2)], [])
    await asyncio.sleep(0)

    assert sent.rows() == [("n1", [item(1)], []), ("n1", [item(2)], [])]
