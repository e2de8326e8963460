"""Pushes the items of a source, and gives their results: what `Pipeline.map` does."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from typing import Any

from handoff_actors.client.growing.session_calls import FILLS_FOR_S, RESTS_FOR_S
from handoff_actors.client.process.tracebacks import ON_PURPOSE, hide_inside
from handoff_actors.client.streaming.going_stream import GoingStream
from handoff_actors.client.streaming.inputs import EncodedItem
from handoff_actors.client.streaming.outlet import Arrival, Outlet

Source = Iterable[Any] | AsyncIterable[Any]


async def mapped(
    stream: GoingStream,
    source: Source,
    encode: Callable[[Any], EncodedItem],
    decode: Callable[[Arrival], Any],
) -> AsyncGenerator[Any, None]:
    """Push each item of a source as there is room, and give the results. What the source raises comes behind those."""
    try:
        outlet = stream.new_outlet()
        feeding = asyncio.create_task(_feed(stream, outlet, source, encode), name="items of a pipeline")
        try:
            # Most often there are some, and to wait for each would take long.
            while (arrival := outlet.first() or await outlet.next()) is not None:
                item = decode(arrival)
                outlet.take()
                yield item
            await feeding
        finally:
            feeding.cancel()
            stream.let_go(outlet)
            await asyncio.wait([feeding])
            if not feeding.cancelled():
                feeding.exception()
    except ON_PURPOSE as error:
        hide_inside(error, runs_users_code=True)
        raise


async def _feed(
    stream: GoingStream, outlet: Outlet, source: Source, encode: Callable[[Any], EncodedItem]
) -> None:
    clock = asyncio.get_running_loop().time
    holds_loop_until = clock() + FILLS_FOR_S
    try:
        if isinstance(source, AsyncIterable):
            async for item in source:
                await stream.push(outlet, encode(item))
            return
        for item in source:
            encoded = encode(item)
            if stream.push_now(outlet, encoded) is None:
                await stream.push(outlet, encoded)
            if clock() > holds_loop_until:
                await asyncio.sleep(RESTS_FOR_S)
                holds_loop_until = clock() + FILLS_FOR_S
    finally:
        outlet.fed()
