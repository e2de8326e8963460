"""Values that a node keeps beyond their run: under a name for a time, or without one for as long as a peer wants them.

Each has a run number of its own, so that it is stored, linked and fetched as any other value is. Nobody makes it again: it is
lost with the node, unless that leaves in good order. Then others are asked to keep it: by the node if it has a name, and by
whoever wants it if it has none.
"""

from collections.abc import Iterable
from typing import assert_never

from msgspec import Struct, field

from handoff_actors.core.node.events import (
    FetchInput,
    ForgetRun,
    InputFetched,
    InputMissing,
    NodeEffect,
    Reply,
)
from handoff_actors.core.node.inputs import Inputs
from handoff_actors.core.node.spill_policy import SpillPolicy
from handoff_actors.ids import Index, PeerId, RunId
from handoff_actors.text import near
from handoff_actors.wire.messages.kept import DropKept, FindKept, Keep, KeptAnswer, KeptEntry

#: Each has this index within its own run number.
INDEX: Index = 0


class _Kept(Struct):
    #: The request to keep it.
    wanted: Keep
    #: None: it has a name.
    owner: PeerId | None
    #: Those who wait until it is here.
    asked: list[tuple[PeerId, int]] = field(default_factory=list)
    #: None until it is here, and for values without a name.
    expires_at: float | None = None


class KeptValues:
    """The values that one node keeps."""

    def __init__(self, inputs: Inputs, spill_policy: SpillPolicy) -> None:
        self._inputs = inputs
        self._spill_policy = spill_policy
        self._kept: dict[RunId, _Kept] = {}

    def received(self, peer: PeerId, message: Keep | FindKept | DropKept, now: float) -> list[NodeEffect]:
        """Act on a peer's message."""
        match message:
            case Keep():
                return self._keep(peer, message, now)
            case FindKept(request, name):
                found = self._here_as(name)
                others = (
                    []
                    if found or not name
                    else near(name, (kept.wanted.name for kept in self._kept.values()))
                )
                return [Reply(peer, KeptAnswer(request, self._entries(found, now), others))]
            case DropKept(request, name, run):
                runs = [other for other in self._named(name) if other != run] if name else [run]
                entries = self._entries(runs, now)
                waiting = [self._kept[each] for each in runs if each in self._kept]
                refusals = [effect for kept in waiting for effect in _refusal(kept, "it was dropped")]
                return [*self._drop(runs), *refusals, Reply(peer, KeptAnswer(request, entries))]
            case _:
                assert_never(message)

    def named(self, now: float) -> list[KeptEntry]:
        """List the values that are here under names."""
        return self._entries(self._here_as(""), now)

    def has(self, run: RunId) -> bool:
        """True for the run number of a value that is kept, or is to be."""
        return run in self._kept

    def came(self, event: InputFetched | InputMissing, now: float) -> list[NodeEffect]:
        """Take a value that was to be kept, or the reason why it can't be had."""
        run = event.run
        kept = self._kept[run]
        self._inputs.take_copy(run, INDEX)
        if isinstance(event, InputMissing):
            return [*self._drop([run]), *_refusal(kept, event.reason)]
        self._inputs.arrived(run, INDEX, event.nbytes)
        self._spill_policy.put((run, INDEX), event.nbytes, event.shared_with)
        wanted = kept.wanted
        if not wanted.name:
            return self._answer(run, now)
        rivals = [other for other in self._named(wanted.name) if other != run and self._is_here(other)]
        if any(self._kept[other].wanted.rank > wanted.rank for other in rivals):
            return [*self._drop([run]), *_refusal(kept, "a later value is kept under this name")]
        kept.expires_at = now + wanted.ttl_s
        return [*self._drop(rivals), *self._answer(run, now)]

    def peer_gone(self, peer: PeerId) -> list[NodeEffect]:
        """Drop what a peer wanted kept without a name."""
        return self._drop([run for run, kept in self._kept.items() if kept.owner == peer])

    def wake(self, now: float) -> list[NodeEffect]:
        """Drop values whose time is over."""
        return self._drop(
            [
                run
                for run, kept in self._kept.items()
                if kept.expires_at is not None and now >= kept.expires_at
            ]
        )

    @property
    def wake_at(self) -> float | None:
        """The time at which the next value is dropped."""
        if not self._kept:
            return None
        times = (kept.expires_at for kept in self._kept.values())
        return min((time for time in times if time is not None), default=None)

    @property
    def named_nbytes(self) -> int:
        """Bytes of the values that are here under names."""
        return sum(self._inputs.size(run, INDEX) or 0 for run in self._named(""))

    def _keep(self, peer: PeerId, wanted: Keep, now: float) -> list[NodeEffect]:
        run, value = wanted.run, wanted.value
        known = self._kept.get(run)
        if known is not None and self._is_here(run):
            return [Reply(peer, KeptAnswer(wanted.request, self._entries([run], now)))]
        kept = self._kept[run] = known or _Kept(wanted, None if wanted.name else peer)
        kept.asked.append((peer, wanted.request))
        _, missing = self._inputs.await_copies(run, [value])
        return [
            FetchInput(
                peer,
                run,
                INDEX,
                ref.nbytes,
                tuple(ref.holders),
                source=ref.source,
                is_here=ref.source is not None and self._inputs.is_here(ref.source),
            )
            for ref in missing
        ]

    def _answer(self, run: RunId, now: float) -> list[NodeEffect]:
        kept = self._kept[run]
        asked, kept.asked = kept.asked, []
        entries = self._entries([run], now)
        return [Reply(peer, KeptAnswer(request, entries)) for peer, request in asked]

    def _is_here(self, run: RunId) -> bool:
        # Somebody may have removed it from the store.
        return self._inputs.size(run, INDEX) is not None

    def _here_as(self, name: str) -> list[RunId]:
        return [run for run in self._named(name) if self._is_here(run)]

    def _named(self, name: str) -> list[RunId]:
        return [
            run for run, kept in self._kept.items() if kept.wanted.name and name in {"", kept.wanted.name}
        ]

    def _entries(self, runs: Iterable[RunId], now: float) -> list[KeptEntry]:
        entries: list[KeptEntry] = []
        for run in runs:
            kept = self._kept.get(run)
            if kept is not None:
                nbytes = self._inputs.size(run, INDEX) or 0
                left_s = 0.0 if kept.expires_at is None else max(0.0, kept.expires_at - now)
                entries.append(KeptEntry(kept.wanted.name, run, nbytes, kept.wanted.rank, left_s))
        return entries

    def _drop(self, runs: Iterable[RunId]) -> list[NodeEffect]:
        effects: list[NodeEffect] = []
        for run in runs:
            if self._kept.pop(run, None) is not None:
                self._inputs.forget(run)
                self._spill_policy.forget(run)
                effects.append(ForgetRun(run))
        return effects


def _refusal(kept: _Kept, reason: str) -> list[NodeEffect]:
    return [Reply(peer, KeptAnswer(request, [], [reason])) for peer, request in kept.asked]
