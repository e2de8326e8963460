"""CurveZMQ on both ends of every connection, under key pairs that each member derives from one key.

The binding side is the server, the connecting side the client. A client without the server's public key does not get
past the first message of the handshake; one with it, but without the client's secret, is refused by the authenticator.

Every socket that is bound has a ZAP domain, also where there is no key: without one libzmq lets ZMTP 1.0 in, which has no
handshake at all, so that the bytes of a web page's POST parse as frames. A socket that connects with a key takes no old
ZMTP either. One that connects without a key has no domain: libzmq 4.3.5 asks the authenticator for it, too, and then
sometimes crashes as the connection ends.

While a cluster's key is replaced, processes hold two. A server has one key pair, so a node has a server for each key, at
one port (`shared_ports`), and a client learns by trying which key it is let in with: a server of another key hangs up, and
the next key is tried. The choice is kept by address, as a node keeps its keys for as long as it lives.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import zmq
from zmq.utils import z85

from handoff_actors.lru import LruCache
from handoff_actors.transport.keys import ClusterKey
from handoff_actors.transport.pump import Pump

#: The address at which ZeroMQ asks which peers to admit (ZeroMQ RFC 27).
ZAP_ADDRESS: Final = "inproc://zeromq.zap.01"
ZAP_DOMAIN: Final = b"handoff"

#: As many members as a node knows, each with a service and a bus.
_MOST_ADDRESSES: Final = 20_000
_ZAP_VERSION: Final = b"1.0"
#: Sender, delimiter, version, request, domain, address, identity, mechanism; then the mechanism's own frames.
_ZAP_FRAMES: Final = 8


class _KeyPairs(NamedTuple):
    """The key pairs that follow from one key."""

    server_secret: bytes
    server_public: bytes
    client_secret: bytes
    client_public: bytes


class Curve:
    """The key pairs of one cluster: those of its key, and those of the other key that members may have."""

    def __init__(self, key: ClusterKey) -> None:
        keys = (key,) if key.also_accepted is None else (key, key.also_accepted)
        #: The source of the keys, for errors.
        self.origin = " and ".join(dict.fromkeys(one.origin for one in keys))
        self.key_count = len(keys)
        self._own, *_ = self._pairs = [
            _KeyPairs(*_key_pair(one, "curve server"), *_key_pair(one, "curve client")) for one in keys
        ]
        #: By address, the number of the key to use there.
        self._choices: LruCache[str, int] = LruCache(_MOST_ADDRESSES)
        self._latest = 0

    def protect_server(self, socket: zmq.Socket[bytes], number: int = 0) -> None:
        """Let only holders of the key of this number connect to this socket, which is not bound yet. It must have a ZAP domain."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._pairs[number].server_secret)

    def protect_client(self, socket: zmq.Socket[bytes]) -> None:
        """Let this socket connect to members only."""
        self._use(socket, self._own)

    def choose(self, socket: zmq.Socket[bytes], address: str) -> int:
        """Use the likeliest key for the next connection of this socket, to this address; return the key's number."""
        number = self._choices.get(address)
        if number is None:
            number = self._latest
        if self.key_count > 1:
            self._use(socket, self._pairs[number])
        return number

    def hung_up(self, address: str, number: int) -> None:
        """Choose the next key for an address, as the server there has hung up on this one."""
        chosen = self._choices.get(address)
        # Another connection may have moved on already.
        if chosen is None or chosen == number:
            self._choices.put(address, (number + 1) % self.key_count)

    def accepted(self, address: str, number: int) -> None:
        """Keep to a key for an address, as the server there holds it, too. It is the likeliest elsewhere."""
        self._choices.put(address, number)
        self._latest = number

    def _use(self, socket: zmq.Socket[bytes], pairs: _KeyPairs) -> None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, pairs.server_public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, pairs.client_public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, pairs.client_secret)

    def admits(self, domain: bytes, mechanism: bytes, credentials: list[bytes]) -> bool:
        """True if a peer that has proved to hold these credentials is a member."""
        publics = [z85.decode(pairs.client_public) for pairs in self._pairs]
        return (
            domain == ZAP_DOMAIN
            and mechanism == b"CURVE"
            and len(credentials) == 1
            and credentials[0] in publics
        )


def enforce_domain(socket: zmq.Socket[bytes]) -> None:
    """Have ZeroMQ ask the authenticator about each peer of this socket, which is not bound yet.

    The context must have an `Authenticator` already.
    """
    socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    # Otherwise every peer is admitted while no authenticator answers at ZAP_ADDRESS.
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


class Authenticator:
    """Tells ZeroMQ which peers to admit, for all sockets of one context. Made before any of them binds."""

    def __init__(
        self, socket: zmq.Socket[bytes], curve: Curve | None, on_close: Callable[["Authenticator"], None]
    ) -> None:
        """Admit peers that hold the keys of `curve`; without a curve, peers that use today's ZMTP and no keys."""
        self._curve = curve
        self._on_close = on_close
        socket.bind(ZAP_ADDRESS)
        self._pump = Pump(socket, self._answer, _nothing)

    def close(self) -> None:
        """Admit no peer any more."""
        self._pump.close(0)
        self._on_close(self)

    def _answer(self, frames: list[bytes]) -> None:
        # Only libzmq itself asks, so a request of another shape would be a bug of ours.
        assert len(frames) >= _ZAP_FRAMES, f"a ZAP request of {len(frames)} frames"
        sender, delimiter, version, request, domain, _address, _identity, mechanism, *credentials = frames
        assert version == _ZAP_VERSION, f"ZAP version {version!r}"
        is_admitted = self._admits(domain, mechanism, credentials)
        status = (b"200", b"welcome") if is_admitted else (b"400", b"not a member")
        self._pump.send([sender, delimiter, version, request, *status, b"", b""])

    def _admits(self, domain: bytes, mechanism: bytes, credentials: list[bytes]) -> bool:
        if self._curve is None:
            return domain == ZAP_DOMAIN and mechanism == b"NULL"
        return self._curve.admits(domain, mechanism, credentials)


def _key_pair(key: ClusterKey, role: str) -> tuple[bytes, bytes]:
    """Return secret and public key, in the text form that ZeroMQ wants."""
    secret = z85.encode(key.derive(role))
    return secret, zmq.curve_public(secret)


def _nothing() -> None:
    """Do nothing after a burst of requests."""
