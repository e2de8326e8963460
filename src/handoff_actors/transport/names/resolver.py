"""Resolves host names beside the event loop, so that a silent name server stops nothing.

ZeroMQ would resolve them in its only I/O thread, where one name whose server is silent stops all sockets of the process
for seconds. So it is given IP addresses alone. asyncio's own way takes threads of the loop's executor, which others need,
and which the process waits for at its end.

A name is asked for once at a time, however many wait for it, in a thread that ends with the answer. Answers are not kept:
whoever connects again asks again, and so follows a name that moves to another address.
"""

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import zmq

from handoff_actors.addresses import TcpAddress, check_destination, ip_of
from handoff_actors.errors import ConnectionFailed, HandoffError
from handoff_actors.transport.endpoint import UnknownHostError

#: Seconds after which a wait ends without an answer. The C library may wait much longer.
LIMIT_S: Final = 5.0
#: Names that are asked for at once, and those of them that got no answer in time the last time.
MOST_THREADS: Final = 8
MOST_SLOW_THREADS: Final = 2
#: Names that are remembered as slow.
_MOST_SLOW_NAMES: Final = 1000
_FILES: Final = "ipc://"
_LOCALHOST: Final = ("127.0.0.1", "::1")
#: The resolver knows for sure that there is no such name, or no address of it.
_UNKNOWN: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME), socket.EAI_FAIL)

#: The IP addresses of a name, best first, or the reason why there are none.
Answer = list[str] | HandoffError
_Ask = Callable[[str], list[str]]


class Lookup:
    """A wait for the addresses of a host, by one of perhaps many."""

    def __init__(self, done: Callable[[Answer], None]) -> None:
        self._done: Callable[[Answer], None] | None = done
        self._limit: asyncio.Handle | None = None

    def limit(self, seconds: float, failure: HandoffError) -> None:
        """End the wait with this failure after so many seconds."""
        self._limit = asyncio.get_running_loop().call_later(seconds, self.end, failure)

    def end(self, answer: Answer) -> None:
        """Pass on the answer, unless the wait is over."""
        done = self._done
        self.cancel()
        if done is not None:
            done(answer)

    def cancel(self) -> None:
        """Wait no longer."""
        self._done = None
        if self._limit is not None:
            self._limit.cancel()


class _Question:
    """A name that a thread asks for, or will."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.waiting: list[Callable[[list[str] | OSError | UnicodeError], None]] = []
        self.is_asked = False
        #: Asked by one of the few threads for names that were late.
        self.is_slow = False
        self.is_late = False


class Resolver:
    """Resolves names for all sockets of one event loop."""

    def __init__(self, ask: _Ask | None = None) -> None:
        """Have `ask` return the IP addresses of a name, or raise OSError; by default as the operating system does."""
        self._ask = ask or _ask_system
        self._questions: dict[str, _Question] = {}
        self._queue: deque[_Question] = deque()
        #: Names that got no answer in time; the values mean nothing.
        self._slow: dict[str, None] = {}

    async def resolve(self, address: str) -> list[str]:
        """Return tcp://IP:port for each IP address of the host. Raises InvalidAddressError, UnknownHostError, ConnectionFailed."""
        resolved: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        lookup = self.look_up(address, resolved.set_result)
        try:
            answer = await resolved
        finally:
            lookup.cancel()
        if isinstance(answer, HandoffError):
            raise answer
        return answer

    def look_up(self, address: str, done: Callable[[Answer], None]) -> Lookup:
        """Call `done` once with what `resolve` returns or raises: at once for an IP address, else from the loop.

        Raises InvalidAddressError.
        """
        lookup = Lookup(done)
        if address.startswith(_FILES):
            lookup.end([address])
            return lookup
        parts = check_destination(address)
        known = _known(parts.host)
        if known is not None:
            lookup.end([str(TcpAddress(ip, parts.port)) for ip in known])
            return lookup
        late = f"the name {parts.host} was not resolved within {LIMIT_S:g} s; its name server does not answer"
        lookup.limit(LIMIT_S, ConnectionFailed(address, late))
        question = self._questions.get(parts.host)
        if question is None:
            question = self._questions[parts.host] = _Question(parts.host)
            self._queue.append(question)
            self._ask_queued()
        question.waiting.append(partial(_pass_on, lookup, address, parts))
        return lookup

    def _ask_queued(self) -> None:
        asked = [question for question in self._questions.values() if question.is_asked]
        slow, free = sum(one.is_slow for one in asked), MOST_THREADS - len(asked)
        loop = asyncio.get_running_loop()
        for question in list(self._queue):
            is_slow = question.host in self._slow
            if free == 0:
                break
            # Otherwise a few names whose servers are silent would keep all threads from the others.
            if is_slow and slow == MOST_SLOW_THREADS:
                continue
            self._queue.remove(question)
            question.is_asked, question.is_slow = True, is_slow
            free -= 1
            slow += is_slow
            timer = loop.call_later(LIMIT_S, self._is_late, question)
            threading.Thread(
                target=_answer,
                args=(loop, self._ask, question.host, partial(self._answered, question, timer)),
                name=f"handoff-resolve-{question.host}",
                # The C library can't be interrupted, and the process must be able to end meanwhile.
                daemon=True,
            ).start()

    def _is_late(self, question: _Question) -> None:
        question.is_late = True
        self._slow[question.host] = None
        if len(self._slow) > _MOST_SLOW_NAMES:
            del self._slow[next(iter(self._slow))]

    def _answered(
        self, question: _Question, timer: asyncio.Handle, answer: list[str] | OSError | UnicodeError
    ) -> None:
        timer.cancel()
        if not question.is_late:
            self._slow.pop(question.host, None)
        del self._questions[question.host]
        self._ask_queued()
        for tell in question.waiting:
            tell(answer)


def has_name(address: str) -> bool:
    """True if an address leads to a host that is a name. Raises InvalidAddressError."""
    return not (address.startswith(_FILES) or check_destination(address).is_literal)


def connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Have ZeroMQ connect to one of the addresses that a `Resolver` has returned."""
    # Only for IPv6: with it libzmq would map the others.
    socket.setsockopt(zmq.IPV6, "[" in endpoint)
    socket.connect(endpoint)


def _known(host: str) -> tuple[str, ...] | None:
    """The IP addresses of a host that needs no name server; None if it does."""
    if host.lower() == "localhost":
        # A service at localhost listens at the first.
        return _LOCALHOST
    ip = ip_of(host)
    return None if ip is None else (str(ip),)


def _pass_on(
    lookup: Lookup, address: str, parts: TcpAddress, answer: list[str] | OSError | UnicodeError
) -> None:
    if isinstance(answer, list):
        usable = [text for ip in answer if not (text := TcpAddress(ip, parts.port)).is_wildcard]
        if usable:
            lookup.end([str(text) for text in usable])
        else:
            lookup.end(UnknownHostError(address, f"the name {parts.host} has no address"))
    elif isinstance(answer, socket.gaierror) and answer.errno not in _UNKNOWN:
        reason = f"the name {parts.host} could not be resolved now ({answer.strerror})"
        lookup.end(ConnectionFailed(address, reason))
    else:
        lookup.end(UnknownHostError(address, f"the name {parts.host} is not known to this machine"))


def _answer(
    loop: asyncio.AbstractEventLoop,
    ask: _Ask,
    host: str,
    done: Callable[[list[str] | OSError | UnicodeError], None],
) -> None:
    """Run in a thread of its own."""
    answer: list[str] | OSError | UnicodeError
    try:
        answer = ask(host)
    except (OSError, UnicodeError) as error:
        answer = error
    # The loop may have ended long ago.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(done, answer)


def _ask_system(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(name[0]) for _, _, _, _, name in found))
