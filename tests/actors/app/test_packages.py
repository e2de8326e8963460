"""What nodes lack is made once they ask for it, and forgotten with the functions that need it."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from handoff_actors.actors.app.packages import Packages
from handoff_actors.ids import Index

INDEX = Index(1)


@pytest.mark.parametrize("is_forgotten", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_nodes_are_answered_even_if_what_they_ask_for_is_forgotten_meanwhile(
    *, is_forgotten: bool, fails: bool
) -> None:
    goes_on = threading.Event()
    answered = asyncio.Event()
    packed: dict[Index, bytes] = {}
    refused: dict[Index, str] = {}
    packages = Packages({}, {INDEX: _maker(goes_on, fails=fails)}, packed.__setitem__)

    assert packages.pack(INDEX, answered.set, refused.__setitem__)
    if is_forgotten:
        packages.forget(INDEX)
    goes_on.set()
    await answered.wait()

    assert list(packed) == ([] if is_forgotten or fails else [INDEX])
    assert list(refused) == ([INDEX] if fails and not is_forgotten else [])
    assert not packages.pack(INDEX, answered.set, refused.__setitem__)


def _maker(goes_on: threading.Event, *, fails: bool) -> Callable[[], bytes]:
    def make() -> bytes:
        goes_on.wait()
        if fails:
            raise ValueError("no")
        return b"definitions"

    return make
