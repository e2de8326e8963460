"""Directories and modules that are made for nodes when the first one asks."""

import asyncio
import threading

from handoff_actors.actors.app.packages import Packages


async def test_nodes_are_answered_although_what_they_have_asked_for_is_forgotten_meanwhile() -> None:
    may_go_on, answered = threading.Event(), asyncio.Event()
    packed: list[tuple[int, bytes]] = []
    refused: list[tuple[int, str]] = []

    def define() -> bytes:
        may_go_on.wait()
        return b"definitions"

    packages = Packages({}, {7: define}, lambda index, content: packed.append((index, content)))

    assert packages.pack(7, answered.set, lambda index, reason: refused.append((index, reason)))
    packages.forget(7)
    may_go_on.set()

    await answered.wait()
    assert (packed, refused) == ([], [])
    assert not packages.pack(7, answered.set, lambda *_: None)
