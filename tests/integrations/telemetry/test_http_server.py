"""The limits of the port that probes and metrics are served at, over real sockets."""

import asyncio
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import psutil
import pytest

import handoff_actors as handoff
from handoff_actors.integrations.http_request import Site, is_expected
from handoff_actors.integrations.http_server import CONNECTIONS, HEAD_NBYTES, HttpServer
from tests.daemons import Daemon, Daemons

PAGE = b"handoff_workers 2\n"
ASKING = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"

Serve = Callable[..., tuple[str, int]]


def page(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    if environ["HTTP_ACCEPT"] == "broken":
        raise TypeError("as prometheus_client does")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"x" * 50_000_000 if environ["QUERY_STRING"] == "large" else PAGE]


SITE = Site(
    {"n1.example", "Host-7"},
    {"/healthz": lambda: (HTTPStatus.OK, "alive"), "/readyz": lambda: (HTTPStatus.SERVICE_UNAVAILABLE, "no")},
    {"/metrics": page, "/": page},
)


class ServingLoop:
    """A loop in a thread, with a server."""

    def __init__(self, deadline_s: float = 30.0) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = listener.getsockname()
        self._loop = asyncio.new_event_loop()
        self._loop.call_soon(self._start, listener, deadline_s)
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def _start(self, listener: socket.socket, deadline_s: float) -> None:
        self._server = HttpServer(listener, SITE.answer, deadline_s)

    def close(self) -> None:
        """End the server, and then the loop."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server, with a deadline in seconds."""
    with ExitStack() as closing:

        def started(deadline_s: float = 30.0) -> tuple[str, int]:
            serving = ServingLoop(deadline_s)
            closing.callback(serving.close)
            return serving.address

        yield started


def ask(address: tuple[str, int], request: bytes) -> tuple[int, list[str], bytes]:
    """Status, header lines and body of the answer."""
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(request)
        return answer_to(client)


def answer_to(client: socket.socket) -> tuple[int, list[str], bytes]:
    with client.makefile("rb") as reader:
        head, _, body = reader.read().partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    return int(status.split()[1]), headers, body


def is_held(client: socket.socket) -> bool:
    """True if the server has neither answered nor closed the connection."""
    return not select.select([client], [], [], 0)[0]


def has_ended(client: socket.socket) -> bool:
    """True if the server has closed the connection without an answer, or does so soon."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def address_of(node: Daemon) -> tuple[str, int]:
    return "127.0.0.1", int(node.health.split(":")[2].split("/")[0])


def own_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def connections_of(node: Daemon) -> int:
    """The number of connections that the metrics port has accepted and not closed."""
    port = address_of(node)[1]
    sockets = psutil.Process(node.process.pid).net_connections("tcp")
    return sum(one.laddr.port == port and one.status != psutil.CONN_LISTEN for one in sockets)


def taken_by(node: Daemon) -> tuple[int, int]:
    """The numbers of descriptors and threads of a process."""
    process = Path(f"/proc/{node.process.pid}")
    return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:9100",
        "localhost.",
        "127.0.0.1",
        "10.0.0.7:9100",
        "[::1]:9100",
        "[::1]",
        "n1.example:1",
        "N1.Example.",
        "host-7",
    ],
)
def test_hosts_that_are_this_node_are_expected(host: str) -> None:
    assert is_expected(host, {"n1.example", "Host-7"})


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "n1.example.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:127.0.0.1",
        "evil.example@127.0.0.1",
        "127.0.0.1@evil.example",
        "127.0.0.1,evil.example",
        "localhost evil.example",
        "[evil.example]",
        "::1",
        "[::1",
        "localhost:x",
        ".",
    ],
)
def test_hosts_that_may_be_anything_are_not(host: str) -> None:
    assert not is_expected(host, {"n1.example", "Host-7", ""})


def test_a_page_of_another_name_cannot_read_the_metrics(serve: Serve) -> None:
    status, _, body = ask(serve(), ASKING.replace(b"localhost", b"rebound.example"))

    assert status == 421
    assert b"--metrics-host" in body
    assert PAGE not in body


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: localhost\r\n"], ids=["none", "two"])
def test_a_request_needs_one_host(serve: Serve, hosts: bytes) -> None:
    status, _, body = ask(serve(), b"GET /metrics HTTP/1.1\r\n" + hosts + b"\r\n")

    assert (status, body) == (400, b"A request needs one Host header.\n")


@pytest.mark.parametrize(
    ("line", "expected", "body"),
    [
        (b"GET /metrics HTTP/1.1", 200, PAGE),
        (b"GET / HTTP/1.0", 200, PAGE),
        (b"HEAD /metrics HTTP/1.1", 200, b""),
        (b"GET /healthz HTTP/1.1", 200, b"alive\n"),
        (b"GET /healthz?verbose HTTP/1.0", 200, b"alive\n"),
        (b"HEAD /readyz HTTP/1.1", 503, b""),
        (b"GET /readyz HTTP/1.1", 503, b"no\n"),
        (b"HEAD /other HTTP/1.1", 404, b""),
        (b"GET /other HTTP/1.1", 404, b"There are /healthz, /metrics, /readyz.\n"),
        (b"GET http://localhost/metrics HTTP/1.1", 404, b"There are /healthz, /metrics, /readyz.\n"),
        (b"POST /metrics HTTP/1.1", 405, b"Use GET or HEAD.\n"),
        (b"OPTIONS /metrics HTTP/1.1", 405, b"Use GET or HEAD.\n"),
        (b"GET /metrics", 200, PAGE),
        (b"GET /metrics HTTP/2.0", 505, b"Invalid HTTP version (2.0)\n"),
        (b"GET /metrics HTTP/x", 400, b"Bad request version ('HTTP/x')\n"),
        (b"GET <b> /metrics HTTP/1.1", 400, b"Bad request syntax ('GET <b> /metrics HTTP/1.1')\n"),
        (b"", 400, b"Bad Request\n"),
    ],
)
def test_every_answer_is_text_and_says_nothing_of_the_server(
    serve: Serve, line: bytes, expected: int, body: bytes
) -> None:
    status, headers, answered = ask(
        serve(), line + b"\r\nHost: localhost\r\nOrigin: http://x.example\r\n\r\n"
    )

    assert (status, answered) == (expected, body)
    names = {header.partition(":")[0] for header in headers}
    assert names - {"Allow"} == {
        "Date",
        "Content-Type",
        "Content-Length",
        "Connection",
        "X-Content-Type-Options",
    }
    assert ("Allow" in names) == (expected == 405)
    assert {"Connection: close", "X-Content-Type-Options: nosniff"} <= set(headers)
    assert any(header.startswith("Content-Type: text/plain") for header in headers)


def test_a_request_that_breaks_the_page_is_answered_and_the_next_one_too(serve: Serve) -> None:
    address = serve()

    assert ask(address, ASKING[:-2] + b"Accept: broken\r\n\r\n")[0] == 500
    assert ask(address, ASKING)[0] == 200


def test_a_request_that_comes_in_pieces_is_answered(serve: Serve) -> None:
    with socket.create_connection(serve(), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in ASKING:
            client.sendall(bytes([byte]))

        assert answer_to(client)[2] == PAGE


@pytest.mark.parametrize("filling", [b"GET /", ASKING[:-2] + b"X: ", ASKING[:-2] + b"X: y\r\n" * 2000])
def test_a_longer_head_than_a_scraper_sends_is_refused(serve: Serve, filling: bytes) -> None:
    status, _, _ = ask(serve(), filling.ljust(2 * HEAD_NBYTES, b"x"))

    assert status == 431


def test_a_client_that_sends_more_than_a_head_still_reads_the_answer(serve: Serve) -> None:
    status, _, _ = ask(serve(), ASKING.replace(b"GET", b"POST") + bytes(300_000))

    assert status == 405


@pytest.mark.parametrize("sent", [b"", b"GET ", ASKING], ids=["silent", "slow", "answered"])
def test_a_byte_now_and_then_does_not_keep_a_connection(serve: Serve, sent: bytes) -> None:
    with socket.create_connection(serve(deadline_s=0.2), timeout=0.02) as client:
        client.sendall(sent)
        began = time.monotonic()
        with pytest.raises(ConnectionError):  # noqa: PT012 - as long as it takes
            while time.monotonic() < began + 10:
                client.sendall(b"x")
                select.select([], [], [], 0.02)

        assert time.monotonic() - began < 5


def test_a_client_that_does_not_read_is_left(serve: Serve) -> None:
    address = serve(deadline_s=0.5)
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(ASKING.replace(b"/metrics", b"/metrics?large"))
        client.recv(1)
        # Answers to others come meanwhile.
        assert ask(address, ASKING)[2] == PAGE
        select.select([], [], [], 0.6)

        received = 0
        with pytest.raises(ConnectionError):  # noqa: PT012 - what is in the buffers comes first
            while chunk := client.recv(1 << 20):
                received += len(chunk)
            raise ConnectionResetError
        assert received < 50_000_000


def test_a_new_connection_takes_the_place_of_the_oldest(serve: Serve) -> None:
    address = serve()
    with ExitStack() as closing:
        held = [closing.enter_context(socket.create_connection(address)) for _ in range(CONNECTIONS)]

        assert ask(address, ASKING)[2] == PAGE

        assert has_ended(held[0])
        assert all(map(is_held, held[1:]))


def test_an_end_waits_for_no_client() -> None:
    threads, descriptors = set(threading.enumerate()), own_descriptors()
    server = ServingLoop()
    with ExitStack() as closing:
        held = [
            closing.enter_context(socket.create_connection(server.address)) for _ in range(CONNECTIONS + 4)
        ]
        held[-1].sendall(ASKING)
        assert held[-1].recv(1)
        began = time.monotonic()

        server.close()

        assert time.monotonic() - began < 2
        assert all(map(has_ended, held[:-1]))
    assert set(threading.enumerate()) <= threads
    assert own_descriptors() == descriptors


@pytest.mark.processes
async def test_held_connections_take_few_descriptors_and_no_thread_of_a_node(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1", "--metrics-port", "0")
    address = address_of(node)
    assert ask(address, ASKING)[0] == 200
    descriptors, threads = taken_by(node)
    dag = handoff.new().add_function(handoff.Function("made", [], int))
    with ExitStack() as closing:
        for _ in range(300):
            client = closing.enter_context(socket.create_connection(address, timeout=10))
            client.sendall(ASKING[:-2])

        # Asking waits until the node has accepted those before.
        assert ask(address, ASKING)[0] == 200
        assert CONNECTIONS - 1 <= connections_of(node) <= CONNECTIONS
        held_descriptors, held_threads = taken_by(node)
        # The node has others come and go by itself.
        assert held_descriptors < descriptors + 2 * CONNECTIONS
        assert held_threads < threads + 2
        async with handoff.Session(seeds=[node.address]) as session:
            run = await session.execute_distributed(dag)
            assert await run.fetch("made") == 0
        began = time.monotonic()
        assert node.terminate() == 0
        assert time.monotonic() - began < 5


@pytest.mark.processes
def test_whoever_has_asked_is_answered_before_another_takes_its_place(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1", "--metrics-port", "0")
    with ExitStack() as closing:

        def connect() -> socket.socket:
            return closing.enter_context(socket.create_connection(address_of(node), timeout=10))

        oldest, *_ = [connect() for _ in range(CONNECTIONS)]
        node.wait_until(lambda: connections_of(node) == CONNECTIONS)
        node.process.send_signal(signal.SIGSTOP)
        node.wait_until(lambda: psutil.Process(node.process.pid).status() == psutil.STATUS_STOPPED)
        oldest.sendall(ASKING)
        connect()
        node.process.send_signal(signal.SIGCONT)

        assert answer_to(oldest)[0] == 200


@pytest.mark.processes
def test_a_node_without_descriptors_to_spare_waits_for_one(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1", "--metrics-port", "0")
    assert ask(address_of(node), ASKING)[0] == 200
    process = psutil.Process(node.process.pid)
    limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    with socket.create_connection(address_of(node), timeout=0.5) as client:
        client.sendall(ASKING)
        before = process.cpu_times()

        with pytest.raises(TimeoutError):
            client.recv(1)

        after = process.cpu_times()
        assert after.user + after.system - before.user - before.system < 0.2
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
        client.settimeout(10)
        assert answer_to(client)[0] == 200


@pytest.mark.processes
def test_a_node_answers_to_the_names_it_is_known_by(daemons: Daemons) -> None:
    node = daemons.start("--metrics-port", "0", "--metrics-host", "localhost")
    names = ["localhost", "127.0.0.1", "[::1]", socket.gethostname(), "rebound.example"]

    statuses = [ask(address_of(node), ASKING.replace(b"localhost", name.encode()))[0] for name in names]

    assert statuses == [200, 200, 200, 200, 421]


@pytest.mark.processes
async def test_a_node_is_alive_and_ready_until_it_leaves(daemons: Daemons, tmp_path: Path) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1", "--metrics-port", "0", "--drain", "600")
    dag = handoff.new().add_function(handoff.Function("waits", [], wait_for, extra_args=[str(tmp_path)]))
    async with handoff.Session(seeds=[node.address]) as session, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.execute_distributed(dag))
        await asyncio.to_thread(node.wait_until, (tmp_path / "began").exists)
        before = await asyncio.to_thread(probe, node)
        node.process.terminate()
        await asyncio.to_thread(node.wait_for_log, "draining")
        after = await asyncio.to_thread(probe, node)
        (tmp_path / "gate").touch()
        await running

    assert before == [(200, b"alive\n"), (200, b"ready\n")]
    assert after == [(200, b"alive\n"), (503, b"not ready: it is leaving\n")]
    assert node.wait() == 0


def wait_for(place: str) -> None:
    (Path(place) / "began").touch()
    while not (Path(place) / "gate").exists():
        time.sleep(0.01)


def probe(node: Daemon) -> list[tuple[int, bytes]]:
    """Status and text of both probes."""
    answers = [ask(address_of(node), ASKING.replace(b"/metrics", path)) for path in (b"/healthz", b"/readyz")]
    return [(status, body) for status, _, body in answers]


@pytest.mark.processes
def test_a_node_whose_loop_stands_still_answers_no_probe(daemons: Daemons) -> None:
    node = daemons.start(
        *("--name", "n1", "--metrics-port", "0"),
        variables={"PYTHONPATH": os.pathsep.join(sys.path)},
        module="tests.cli.held_up",
    )
    assert ask(address_of(node), ASKING)[0] == 200
    node.process.send_signal(signal.SIGUSR1)

    with socket.create_connection(address_of(node), timeout=0.5) as client:
        client.sendall(ASKING.replace(b"/metrics", b"/healthz"))
        with pytest.raises(TimeoutError):
            client.recv(1)


@pytest.mark.processes
async def test_a_flood_of_requests_takes_a_small_part_of_a_nodes_time(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1", "--metrics-port", "0")
    ending = threading.Event()

    def flood() -> int:
        answered = 0
        while not ending.is_set():
            with suppress(OSError):
                answered += ask(address_of(node), ASKING)[0] == 200
        return answered

    process = psutil.Process(node.process.pid)
    before, began = process.cpu_times(), time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        floods = [tasks.create_task(asyncio.to_thread(flood)) for _ in range(3)]
        await asyncio.sleep(1.0)
        ending.set()
    after = process.cpu_times()

    share = (after.user + after.system - before.user - before.system) / (time.monotonic() - began)
    assert share < 0.5
    assert sum(task.result() for task in floods) > 10


@pytest.mark.processes
def test_without_the_extra_there_are_probes_and_no_metrics(daemons: Daemons, tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError")
    node = daemons.start(
        "--name",
        "n1",
        "--metrics-port",
        "0",
        variables={"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )

    assert node.metrics == ""
    assert probe(node) == [(200, b"alive\n"), (200, b"ready\n")]
    status, _, body = ask(address_of(node), ASKING)
    assert status == 501
    assert body.startswith(b"metrics need prometheus_client: ")
    node.wait_for_log("no metrics are served, only probes")
