"""The number of messages that one turn of a socket delivers."""

import asyncio

import zmq

from handoff_actors.transport.pump import TURN_PIECES, Pump

PIECE = bytes(1 << 20)
COUNT = 20


async def test_pieces_are_handed_over_few_at_a_time() -> None:
    """Writing many of them down in a row would hold up what else the loop has to do."""
    turns: list[int] = [0]
    seen: list[bytes] = []
    is_complete = asyncio.Event()

    def accept_piece(frames: list[bytes], piece: memoryview) -> None:
        assert len(piece) == len(PIECE)
        seen.extend(frames)
        turns[-1] += 1
        if len(seen) == COUNT:
            is_complete.set()

    # Within a process all that has been sent has arrived.
    with zmq.Context() as context, context.socket(zmq.PAIR) as sender, context.socket(zmq.PAIR) as receiver:
        sender.bind("inproc://pieces")
        receiver.connect("inproc://pieces")
        for number in range(COUNT):
            sender.send_multipart([b"%d" % number, PIECE])
        pump = Pump(receiver, lambda _: None, lambda: turns.append(0), accept_piece)
        async with asyncio.timeout(10):
            await is_complete.wait()
        pump.close(0)

    assert seen == [b"%d" % number for number in range(COUNT)]
    assert max(turns) == TURN_PIECES
