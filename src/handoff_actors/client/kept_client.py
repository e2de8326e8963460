"""Values that nodes keep for this session, or under a name for any: asks nodes to keep, find and drop them."""

import asyncio
import itertools
import logging
import secrets
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from handoff_actors.actors.app.foreign_arguments import FoundValue
from handoff_actors.actors.app.own_modules import OWN_MODULES
from handoff_actors.actors.app.run_host import Buffer
from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.client.run import StoredValue
from handoff_actors.core.cluster.value_placement import by_room
from handoff_actors.errors import ValueLost
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.directions import ToNode
from handoff_actors.wire.messages.jobs import Ref, ValueOf
from handoff_actors.wire.messages.kept import DropKept, FindKept, Keep, KeptAnswer, KeptEntry
from handoff_actors.wire.messages.members import Advert
from handoff_actors.wire.payload import decode, encode

log = logging.getLogger(__name__)

#: Kept values have this index within their own run number.
_INDEX: Index = 0
_PUT: Final = "a value that was put on a node"


class KeptHost(Protocol):
    """The part of its session that kept values need."""

    def adverts(self) -> list[Advert]:
        """The latest advert of every node that can be used."""

    def send(self, name: str, message: ToNode) -> None:
        """Send a message to a node."""

    def fetch(
        self,
        run: RunId,
        index: Index,
        nbytes: int,
        holders: list[str],
        done: Callable[[Buffer | FetchFailure], None],
    ) -> Callable[[], None]:
        """Fetch a value from nodes, by their names. Returns a function that gives up the fetch."""


class KeptClient:
    """The requests of one session about values that nodes keep."""

    def __init__(self, host: KeptHost, offered: dict[RunId, Buffer], own_modules: set[str]) -> None:
        """`offered` are values that the app serves to nodes that are to keep them.

        `own_modules` are the names of the app's own modules that values of the session may refer to.
        """
        self._host = host
        self._offered = offered
        self._own_modules = own_modules
        self._numbers = itertools.count(1)
        #: The answers that are to come, by the node and the number of the request; None: the node is gone.
        self._expected: dict[tuple[str, int], asyncio.Future[KeptAnswer | None]] = {}
        #: Values that are referred to.
        self._owners: weakref.WeakSet[KeptValueOwner] = weakref.WeakSet()
        self._moves: dict[KeptValueOwner, asyncio.Task[None]] = {}

    async def keep(self, value: FoundValue, name: str, ttl_s: float) -> None:
        """Have the nodes that hold a value keep it under a name. Raises ValueLost."""
        run = RunId(secrets.randbits(62))
        if value.encoded is None:
            ref = value.source.ref()
            ref = Ref(_INDEX, ref.nbytes, ref.holders, 0, ValueOf(value.run, ref.index, ref.version))
            entries = await self._keep(list(filter(None, value.source.holders())), name, run, ref, ttl_s)
        else:
            entries = await self._bring(value.encoded, name, run, ttl_s)
        if not entries:
            raise ValueLost(value.function_id, f"no node could keep it as {name!r}", value.subject)
        await self._leave_latest(name)

    async def _leave_latest(self, name: str) -> None:
        """Drop what was kept earlier under a name. Others may keep something there at the same time: only the latest is to stay."""
        answers = await self._ask(self._names(), lambda request: FindKept(request, name))
        found = {(entry.rank, entry.run) for answer in answers.values() for entry in answer.values}
        for _, run in sorted(found)[:-1]:
            await self._ask(self._names(), lambda request, run=run: DropKept(request, "", run))  # type: ignore[misc]

    async def find(self, name: str) -> StoredValue:
        """Find the value that nodes keep under a name. Raises KeyError."""
        answers = await self._ask(self._names(), lambda request: FindKept(request, name))
        found = [(entry.rank, entry.run, node) for node, answer in answers.items() for entry in answer.values]
        if not found:
            near = sorted({other for answer in answers.values() for other in answer.near})
            meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise KeyError(f"no node keeps a value under the name {name!r}{meant}")
        run = max(found)[1]
        nodes = [node for _, other, node in found if other == run]
        nbytes = max(
            entry.nbytes for answer in answers.values() for entry in answer.values if entry.run == run
        )
        owner = KeptValueOwner(self._host, run, name, nbytes, nodes)
        self._owners.add(owner)
        return StoredValue(owner, name, nodes[0], nbytes)

    async def drop(self, name: str) -> None:
        """Have all nodes drop the value of a name. Raises KeyError where none keeps one."""
        answers = await self._ask(self._names(), lambda request: DropKept(request, name, RunId(0)))
        if not any(answer.values for answer in answers.values()):
            raise KeyError(f"no node keeps a value under the name {name!r}")

    async def put(self, value: object) -> StoredValue:
        """Have a node hold a value for this session, for as long as it is referred to. Raises SerializationError, ValueLost."""
        encoded = encode(value, "value").to_bytes()
        self._own_modules |= OWN_MODULES.used_in(encoded)
        run = RunId(secrets.randbits(62))
        entries = await self._bring(encoded, "", run, 0.0)
        if not entries:
            raise ValueLost("", "no node could take it", _PUT)
        [node] = entries
        owner = KeptValueOwner(self._host, run, "", len(encoded), [node])
        owner.drop_when_collected(asyncio.get_running_loop())
        self._owners.add(owner)
        self.nodes_changed()
        return StoredValue(owner, "", node, len(encoded))

    def heard(self, name: str, answer: KeptAnswer) -> None:
        """Take the answer of a node."""
        self._answered(name, answer.request, answer)

    def nodes_changed(self) -> None:
        """Follow values that move off nodes that leave, or have them move, now or once there is another one that takes them."""
        if not self._owners:
            return
        staying = {advert.name for advert in self._host.adverts() if not advert.leaving}
        for owner in list(self._owners):
            if staying.isdisjoint(owner.nodes) and not (owner.is_lost or owner in self._moves):
                follow = self._look_for(owner) if owner.name else self._move(owner)
                move = asyncio.get_running_loop().create_task(follow, name="move of a value")
                self._moves[owner] = move
                move.add_done_callback(partial(self._moved, owner))

    def node_gone(self, name: str) -> None:
        """Expect nothing more from a node."""
        for node, request in list(self._expected):
            if node == name:
                self._answered(node, request, None)
        self.nodes_changed()

    def close(self) -> None:
        """Expect nothing more from any node."""
        for move in self._moves.values():
            move.cancel()
        for node, request in list(self._expected):
            self._answered(node, request, None)

    async def _look_for(self, owner: "KeptValueOwner") -> None:
        """Find out to which nodes one that leaves, or has left, has handed a value with a name."""
        others = [name for name in self._names() if name not in owner.nodes]
        answers = await self._ask(others, lambda request: FindKept(request, owner.name))
        found = [
            node for node, answer in answers.items() if owner.run in {each.run for each in answer.values}
        ]
        if found:
            owner.nodes[:] = found
        else:
            owner.is_lost = not owner.holders()

    async def _move(self, owner: "KeptValueOwner") -> None:
        """Have another node keep what was put on one that leaves: the roomiest one that does."""
        owner.is_lost = not owner.holders()
        candidates = [] if owner.is_lost else by_room(self._host.adverts())
        for advert in candidates:
            if advert.name in owner.refused_by:
                continue
            if await self._keep([advert.name], "", owner.run, owner.ref(), 0.0):
                for name in owner.nodes:
                    self._host.send(name, DropKept(0, "", owner.run))
                owner.nodes[:] = [advert.name]
                return
            owner.refused_by.add(advert.name)

    def _moved(self, owner: "KeptValueOwner", move: "asyncio.Task[None]") -> None:
        del self._moves[owner]
        if not move.cancelled() and (error := move.exception()) is not None:
            log.error("a value that a node keeps can't be followed", exc_info=error)

    def _answered(self, name: str, request: int, answer: KeptAnswer | None) -> None:
        expected = self._expected.get((name, request))
        if expected is not None and not expected.done():
            expected.set_result(answer)

    def _names(self) -> list[str]:
        return [advert.name for advert in self._host.adverts()]

    async def _bring(self, encoded: Buffer, name: str, run: RunId, ttl_s: float) -> dict[str, KeptEntry]:
        """Have a node fetch a value from here, and keep it: the roomiest one that does."""
        self._offered[run] = encoded
        ref = Ref(_INDEX, len(encoded), [""], 0, ValueOf(run, _INDEX))
        asked: list[str] = []
        try:
            for advert in by_room(self._host.adverts()):
                asked = [advert.name]
                entries = await self._keep(asked, name, run, ref, ttl_s)
                if entries:
                    return entries
        except asyncio.CancelledError:
            # Nobody will ever refer to it.
            for node in [] if name else asked:
                self._host.send(node, DropKept(0, "", run))
            raise
        finally:
            del self._offered[run]
        return {}

    async def _keep(
        self, nodes: Sequence[str], name: str, run: RunId, ref: Ref, ttl_s: float
    ) -> dict[str, KeptEntry]:
        """Have nodes keep a value. Returns what they say who do."""
        rank = time.time_ns()
        answers = await self._ask(nodes, lambda request: Keep(request, name, run, ref, rank, ttl_s))
        return {node: answer.values[0] for node, answer in answers.items() if answer.values}

    async def _ask(self, nodes: Iterable[str], message_of: Callable[[int], ToNode]) -> dict[str, KeptAnswer]:
        """Ask nodes, and wait until each of them has answered or is gone."""
        asked: dict[str, asyncio.Future[KeptAnswer | None]] = {}
        request = next(self._numbers)
        loop = asyncio.get_running_loop()
        for node in nodes:
            asked[node] = self._expected[node, request] = loop.create_future()
            self._host.send(node, message_of(request))
        try:
            if asked:
                await asyncio.wait(asked.values())
            answers = {node: answer.result() for node, answer in asked.items()}
        finally:
            for node in asked:
                del self._expected[node, request]
        return {node: answer for node, answer in answers.items() if answer is not None}


class KeptValueOwner:
    """A value that nodes keep, as its user refers to it."""

    def __init__(self, host: KeptHost, run: RunId, name: str, nbytes: int, nodes: Sequence[str]) -> None:
        self.host = host
        self.run = run
        self.name = name
        self._nbytes = nbytes
        #: Names of the nodes that keep it.
        self.nodes = list(nodes)
        #: Names of nodes that it could not move to.
        self.refused_by: set[str] = set()
        #: True once no node has it any more.
        self.is_lost = False
        self._subject = f"the value kept as {name!r}" if name else _PUT
        self._decoded: list[Any] = []

    def drop_when_collected(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the nodes drop the value once nobody refers to this."""
        weakref.finalize(self, _drop_soon, loop, self.host, self.nodes, self.run).atexit = False

    def holders(self) -> list[str]:
        """See ValueSource."""
        there = {advert.name for advert in self.host.adverts()}
        return [node for node in self.nodes if node in there]

    def ref(self) -> Ref:
        """See ValueSource."""
        addresses = [advert.address for advert in self.host.adverts() if advert.name in self.nodes]
        return Ref(_INDEX, self._nbytes, addresses)

    def find(self, _: object) -> FoundValue:
        """See ValueOwner."""
        if not self.holders():
            reason = "the nodes that had it are gone"
            if self.name:
                reason += f"; if they have handed it to others, await kept({self.name!r}) finds it there"
            raise ValueLost(self.name, reason, self._subject)
        return FoundValue(
            self.run, self, None, self.name, self._subject, self, f"kept {self.run:016x}".encode()
        )

    async def fetch(self, _: object) -> Any:
        """See ValueOwner."""
        if not self._decoded:
            encoded = await self._fetch()
            self._decoded = [decode(encoded)]
        return self._decoded[0]

    async def _fetch(self) -> Buffer:
        answer: asyncio.Future[Buffer | FetchFailure] = asyncio.get_running_loop().create_future()

        def done(value: Buffer | FetchFailure) -> None:
            if not answer.done():
                answer.set_result(value)

        give_up = self.host.fetch(self.run, _INDEX, self._nbytes, self.holders(), done)
        try:
            fetched = await answer
        finally:
            if answer.cancelled():
                give_up()
        if isinstance(fetched, FetchFailure):
            raise ValueLost(self.name, fetched.reason, self._subject)
        return fetched


def _drop_soon(loop: asyncio.AbstractEventLoop, host: KeptHost, nodes: Sequence[str], run: RunId) -> None:
    # Garbage may be collected in any thread, and after the loop has ended.
    if not loop.is_closed():
        for node in nodes:
            loop.call_soon_threadsafe(host.send, node, DropKept(0, "", run))
