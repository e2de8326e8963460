"""A run that goes on has nodes forget single values, and uses their indices again: real nodes, workers and stores."""

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from handoff_actors.ids import RunId
from handoff_actors.wire.messages.jobs import Arg, Done, Job, Ref, Template, ValueKey
from handoff_actors.wire.messages.runs import Assign, Close, Completed, Drop, Failed
from handoff_actors.wire.payload import decode, encode, encode_code
from tests.daemons import Daemon, Daemons
from tests.processes.raw_peer import HELLO, RawPeer, connected_to

pytestmark = pytest.mark.processes

RUN = RunId(7)
LARGE = 600_000
STEPS = 100


def template(number: int, code: Callable[..., Any]) -> Template:
    digest, by_reference, encoded = encode_code(code)
    return Template(number, digest, by_reference, encoded, False, False, {}, None)


def filled(number: int) -> bytes:
    return bytes([number % 256]) * LARGE


def first_of(value: bytes) -> int:
    return value[0]


def next_of(value: bytes) -> bytes:
    assert len(set(value)) == 1, "it is the value of one function alone"
    return filled(value[0] + 1)


TEMPLATES = [template(0, filled), template(1, first_of), template(2, next_of)]


class Run:
    """One run at one node, function by function."""

    def __init__(self, peer: RawPeer) -> None:
        self._peer = peer
        self._messages = peer.messages()
        self._peer.say(HELLO, Assign(RUN, TEMPLATES, []))

    def call(self, index: int, attempt: int, number: int, *args: object) -> Done:
        """Have one function run. Arguments are references, or small values."""
        encoded: list[Arg] = [arg if isinstance(arg, Ref) else encode(arg).to_bytes() for arg in args]
        self._peer.say(Assign(RUN, [], [Job(index, attempt, number, encoded, None)]))
        for message in self._messages:
            assert not isinstance(message, Failed), message
            if isinstance(message, Completed):
                [done] = message.done
                return done
        raise AssertionError("messages never end")

    def drop(self, *values: ValueKey) -> None:
        self._peer.say(Drop(RUN, list(values)))

    def close(self) -> None:
        self._peer.say(Close(RUN))


def start(daemons: Daemons, *options: str) -> Daemon:
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "HANDOFF_CHECK": "1"}
    return daemons.start("--cpu", "1", *options, variables=variables)


def test_copy_from_an_indexs_earlier_life_is_not_taken_for_its_value(daemons: Daemons) -> None:
    makes, takes = start(daemons, "--name", "n1"), start(daemons, "--name", "n2")
    with connected_to(makes) as one, connected_to(takes) as other:
        at_one, at_other = Run(one), Run(other)

        def taken(version: int, index: int) -> int:
            done = at_other.call(index, version, 1, Ref(5, LARGE, [makes.address], version))
            assert isinstance(done.value, bytes)
            value: int = decode(done.value)
            return value

        at_one.call(5, 1, 0, 11)
        first = taken(1, 6)
        # Of the other's copy the run knows nothing.
        at_one.drop(ValueKey(5, 1))
        at_one.call(5, 2, 0, 22)
        second = taken(2, 6)
        at_other.drop(ValueKey(5, 1))
        third = taken(2, 7)

    assert [first, second, third] == [11, 22, 22]


def test_a_long_chain_of_stored_values_leaves_one_in_the_store(daemons: Daemons) -> None:
    node = start(daemons, "--name", "n1", "--store-limit", "1")
    with connected_to(node) as peer:
        run = Run(peer)
        run.call(1, 1, 0, 0)
        for step in range(2, STEPS):
            former = Ref(step % 2 ^ 1, LARGE, [], step - 1)
            assert isinstance(run.call(step % 2, step, 2, former).value, int)
            run.drop(ValueKey(former.index, former.version))
        last = (STEPS - 1) % 2
        first = run.call(9, 1, 1, Ref(last, LARGE, [], STEPS - 1))

        assert isinstance(first.value, bytes)
        assert decode(first.value) == (STEPS - 2) % 256
        assert [path.name for path in node.stored()] == [f"{RUN:016x}-{last}"]
        run.close()
    assert node.terminate() == 0
