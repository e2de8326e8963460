"""Encoded globals before they are groups: their digests are missing, as those depend on the groups that they refer to."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from handoff_actors.wire.code.namespaces import GlobalName, Group
from handoff_actors.wire.code.unchanged import Fingerprint, is_same

_MOST_KEPT: Final = 1000
_MOST_KEPT_NBYTES: Final = 64 * 1024


class Draft:
    """A group without its digest."""

    def __init__(
        self,
        names: tuple[GlobalName, ...],
        refers_to: Collection[GlobalName],
        needs: Collection[GlobalName],
        lacks: Collection[GlobalName],
        modules: Collection[str],
        encoded: bytes,
        known: Group | None = None,
    ) -> None:
        self.names = names
        #: Globals whose values are part of the value.
        self.refers_to = [name for name in refers_to if name not in names]
        self.needs = [name for name in needs if name not in names]
        #: Globals that its functions name and that did not exist.
        self.lacks = lacks
        #: Names of modules that it may import.
        self.modules = frozenset(modules)
        self.encoded = encoded
        self._known = known

    @classmethod
    def of_group(cls, group: Group) -> "Draft":
        """A group that has come as it is."""
        return cls(group.names, (), group.needs, (), (), b"", group)

    def group(self, digests: Mapping[GlobalName, bytes]) -> Group:
        """Give the group; `digests` are those of the groups that it refers to."""
        if self._known is not None:
            return self._known
        # As in wire.payload: with OpenSSL it takes 3 ms to import, and workers rarely need it.
        from hashlib import blake2b  # noqa: PLC0415

        digest = blake2b(self.encoded, digest_size=16)
        for name in sorted(digests):
            digest.update(digests[name])
        return Group(self.names, digest.digest(), tuple(self.needs), self.encoded)


def circles(refers_to: Mapping[GlobalName, Sequence[GlobalName]]) -> Iterator[list[GlobalName]]:
    """Yield the strongly connected components, each after those that it refers to.

    Source: R. Tarjan, "Depth-first search and linear graph algorithms", 1972.
    """
    index: dict[GlobalName, int] = {}
    lowest: dict[GlobalName, int] = {}
    path: list[GlobalName] = []
    for root in refers_to:
        if root in index:
            continue
        index[root] = lowest[root] = len(index)
        path.append(root)
        visits = [(root, iter(refers_to[root]))]
        while visits:
            name, rest = visits[-1]
            other = next((other for other in rest if other not in index or other in path), None)
            if other is None:
                visits.pop()
                if visits:
                    lowest[visits[-1][0]] = min(lowest[visits[-1][0]], lowest[name])
                if lowest[name] == index[name]:
                    start = path.index(name)
                    yield path[start:]
                    del path[start:]
            elif other in index:
                lowest[name] = min(lowest[name], index[other])
            else:
                index[other] = lowest[other] = len(index)
                path.append(other)
                visits.append((other, iter(refers_to[other])))


#: By name: the last draft of a global that can be recognised, and what it is recognised by.
_kept: dict[GlobalName, tuple[Fingerprint, Draft]] = {}


def kept_draft(name: GlobalName, fingerprint: Fingerprint) -> Draft | None:
    """Give the draft of a global, if it was kept of the same parts."""
    kept = _kept.get(name)
    return kept[1] if kept is not None and is_same(kept[0], fingerprint) else None


def keep_draft(name: GlobalName, fingerprint: Fingerprint, draft: Draft) -> None:
    """Keep a draft for later encodings, in any thread, unless it is large."""
    if len(draft.encoded) <= _MOST_KEPT_NBYTES:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[name] = fingerprint, draft
