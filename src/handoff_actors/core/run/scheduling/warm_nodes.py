"""The nodes of a session where objects of `per_worker` are, or are about to be made.

Nodes advertise the objects that their workers have. A function that is sent to a node has its objects made there, which
the node's next advert may be too early to say.
"""

from collections.abc import Collection, Iterable


class WarmNodes:
    """The nodes that have each object, by its key."""

    def __init__(self) -> None:
        self._nodes: dict[bytes, dict[str, None]] = {}
        #: Objects by node, as this session knows; and those for which it has sent functions since the node's latest advert.
        self._keys: dict[str, set[bytes]] = {}
        self._sent: dict[str, set[bytes]] = {}

    def heard(self, name: str, keys: Iterable[bytes]) -> None:
        """Take an advert of a node."""
        known = {*keys, *self._sent.pop(name, ())}
        for key in self._keys.pop(name, set()) - known:
            self._drop(name, key)
        for key in known:
            self._add(name, key)

    def sent(self, name: str, keys: Iterable[bytes]) -> None:
        """Note that a function which needs these objects is being sent to a node."""
        for key in keys:
            self._sent.setdefault(name, set()).add(key)
            self._add(name, key)

    def gone(self, name: str) -> None:
        """Drop a node that is gone."""
        self._sent.pop(name, None)
        self.heard(name, ())

    def with_object(self, key: bytes) -> Collection[str]:
        """The names of the nodes that have an object."""
        return self._nodes.get(key, {}).keys()

    def _add(self, name: str, key: bytes) -> None:
        self._keys.setdefault(name, set()).add(key)
        self._nodes.setdefault(key, {})[name] = None

    def _drop(self, name: str, key: bytes) -> None:
        del self._nodes[key][name]
        if not self._nodes[key]:
            del self._nodes[key]
