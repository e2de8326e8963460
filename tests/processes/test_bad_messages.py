"""Whatever is said to a node, it goes on, and so does what it runs."""

import asyncio
import os
import random
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise

import psutil
import pytest
import zmq
from msgspec.structs import replace

import handoff_actors as handoff
from handoff_actors.actors.node.actor import ANSWERS_NBYTES, INLINE_LIMIT
from handoff_actors.core.cluster.transfers import CHUNK_NBYTES
from handoff_actors.core.run.scheduling.requirements import MAX_AHEAD
from handoff_actors.ids import RunId
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.transport.curve import Curve
from handoff_actors.transport.user_key import user_key
from handoff_actors.wire.codec import FROM_NODE, MAX_FRAME_BYTES, PIECE_BYTES, decode, encode
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.messages.directions import ToNode
from handoff_actors.wire.messages.jobs import Job, Ref, Template, Ticket
from handoff_actors.wire.messages.members import (
    Advert,
    Beat,
    Goodbye,
    Hello,
    ListMembers,
    ListRuns,
    Members,
    Redeclare,
    Refused,
    Runs,
    Welcome,
)
from handoff_actors.wire.messages.runs import Assign, CancelJobs, Close, Closed, Recall, Recalled, Rejected
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone
from handoff_actors.wire.versions import VERSION
from tests.daemons import Daemon, Daemons
from tests.processes import functions
from tests.processes.raw_peer import HELLO, RawPeer, connected_to

pytestmark = pytest.mark.processes

SEED = 20240607
LARGE = 3_000_000
#: More than a node of this size needs for itself, and far less than what the frames below announce.
MAY_GROW_BYTES = 200_000_000

TEMPLATE = Template(
    0, b"d", by_reference=True, code=b"builtins:int", is_async=False, as_list=False, cost={}, timeout=None
)
JOB = Job(0, 1, 0, [], None)


@pytest.fixture
def node(daemons: Daemons) -> Iterator[Daemon]:
    """A node, which must still serve at the end."""
    daemon = daemons.start("--name", "n1", "--cpu", "1", variables={"HANDOFF_CHECK": "1"})
    yield daemon
    assert daemon.terminate() == 0
    assert "bug" not in daemon.log()
    assert "Traceback" not in daemon.log()


@pytest.fixture
def peer(node: Daemon) -> Iterator[RawPeer]:
    with connected_to(node) as peer:
        yield peer


# --- Strangers --------------------------------------------------------------------------------------------------


def mutations(frame: bytes, count: int, chance: random.Random) -> Iterator[bytes]:
    for _ in range(count):
        mutated = bytearray(frame)
        for _ in range(chance.randint(1, 4)):
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
        yield bytes(mutated)


def bad_frames() -> Iterator[bytes]:
    chance = random.Random(SEED)
    assign = encode([HELLO, Assign(RunId(1), [TEMPLATE], [JOB])])
    yield from (chance.randbytes(chance.randrange(200)) for _ in range(300))
    yield from (assign[:length] for length in range(len(assign)))
    yield from mutations(assign, 500, chance)
    # Right messages, of unions that a node does not take.
    yield encode([Closed(RunId(1)), Members([])])
    # Lists, strings and maps of four thousand million entries.
    yield from (bytes([kind]) + b"\xff" * 4 for kind in (0xDD, 0xDB, 0xC6, 0xDF))
    yield b"\x91" * 100_000


@pytest.mark.parametrize("key", [None, handoff.ClusterKey.generate()], ids=["insecure", "key"])
async def test_run_ends_right_while_strangers_talk_nonsense(
    daemons: Daemons, key: handoff.ClusterKey | None
) -> None:
    variables = {"HANDOFF_CHECK": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    variables |= {"HANDOFF_INSECURE": "1"} if key is None else {"HANDOFF_KEY": key.text()}
    node = daemons.start("--name", "n1", "--cpu", "1", variables=variables)
    dag = handoff.DAG().add_functions(
        handoff.Function(number, [], functions.span, cost={"cpu": 1}) for number in range(100)
    )
    async with handoff.Session(seeds=[node.address], key=key, insecure=key is None) as session:
        await session.execute_distributed(handoff.DAG().add_function(handoff.Function("warm", [], int)))
        size_before = psutil.Process(node.process.pid).memory_info().rss
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(session.execute_distributed(dag))
            tasks.create_task(asyncio.to_thread(talk_nonsense, node.address))
        run = running.result()

    assert len(run.results) == 100
    assert all(first[1] <= second[0] for first, second in pairwise(sorted(run.results.values())))
    node.wait_for_log("malformed message" if key is None else "stranger refused")
    assert psutil.Process(node.process.pid).memory_info().rss < size_before + MAY_GROW_BYTES
    assert node.terminate() == 0
    assert "bug" not in node.log(), node.log()


def talk_nonsense(address: str) -> None:
    host, port = address.removeprefix("tcp://").split(":")
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 2000
        dealer.set_hwm(0)
        dealer.connect(address)
        for frame in bad_frames():
            # A keyed node lets none of them through, so there may be no room.
            with suppress(zmq.Again):
                dealer.send(frame, zmq.NOBLOCK)
    for noise in raw_noise():
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(noise)


def raw_noise() -> Iterator[bytes]:
    chance = random.Random(SEED)
    greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL" + b"\0" * 48
    yield b""
    yield b"GET / HTTP/1.1\r\nHost: there\r\n\r\n" * 20
    yield b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + chance.randbytes(500)
    yield greeting
    # A handshake, and then a frame that is announced as longer than any may be, and one as long as one may be.
    ready = b"\x04\x26\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
    for length in (2**63 - 1, MAX_FRAME_BYTES - 1):
        yield greeting + ready + b"\x02" + length.to_bytes(8, "big") + b"\0" * 1000
    yield from (chance.randbytes(500) for _ in range(20))


# --- Members with a bug, or with malice -------------------------------------------------------------------------


def test_peer_of_another_protocol_is_told_so(peer: RawPeer) -> None:
    peer.say(Hello(PROTOCOL + 1, VERSION, PYTHON, "peer", None))

    [answer] = decode(peer.socket.recv(), FROM_NODE)

    assert isinstance(answer, Refused)
    assert f"protocol {PROTOCOL + 1}" in answer.reason


def of_cost(cost: dict[str, float], timeout: float | None = None) -> Assign:
    template = Template(
        0, b"d", by_reference=True, code=b"builtins:int", is_async=False, as_list=False, cost=cost, timeout=timeout
    )  # fmt: skip
    return Assign(RunId(7), [template], [JOB])


def of_holders(holders: list[str]) -> Assign:
    return Assign(RunId(7), [TEMPLATE], [Job(0, 1, 0, [Ref(0, 2**62, holders)], None)])


FALSE_ADVERT = Advert(
    "n9", "f", 1, "tcp://127.0.0.1:1", "", {"cpu": 1.0}, {}, 1, 0, 0, 0, leaving=False, view=0,
    version=VERSION, python=PYTHON,
)  # fmt: skip


def advert_with(capabilities: dict[str, float], bus: str) -> Hello:
    return Hello(PROTOCOL, VERSION, PYTHON, "peer", replace(FALSE_ADVERT, bus=bus, capabilities=capabilities))


HOSTILE: list[tuple[ToNode, ...]] = [
    (Assign(RunId(7), [], [JOB]),),
    (of_cost({"cpu": float("nan")}),),
    (of_cost({"cpu": -1.0}),),
    (of_cost({"cpu": float("inf")}),),
    (of_cost({"gpu": 1e300}),),
    (of_cost({}, timeout=float("nan")),),
    (of_cost({}, timeout=-1.0),),
    (Assign(RunId(-7), [TEMPLATE], [Job(-5, 1, 0, [], None), Job(2**62, -1, 0, [], None)]),),
    (Assign(RunId(7), [TEMPLATE], [JOB, JOB, Job(0, 2, 0, [], None)]),),
    (Assign(RunId(7), [TEMPLATE], [Job(0, 1, 0, [Ref(-1, 2**62, ["nowhere", "", "tcp://"])], None)]),),
    (Assign(RunId(7), [TEMPLATE], [Job(0, 1, 0, [Ref(0, 2**62, [])], b"junk")]),),
    (Redeclare({"cpu": -1.0}),),
    (Redeclare({"cpu": float("nan"), "gpu": 1e18}),),
    (Recall(RunId(7), [Ticket(-1, -1), Ticket(0, 1)], room=1), Close(RunId(8))),
    (CancelJobs(RunId(7), [Ticket(-1, -1), Ticket(0, 1)]), CancelJobs(RunId(-1), [Ticket(2**62, 2**62)])),
    (Assign(RunId(7), [TEMPLATE], [JOB]), CancelJobs(RunId(7), [Ticket(0, 1), Ticket(0, 1), Ticket(0, 2)])),
    (Fetch(0, RunId(-1), -1, 2**63, 2**63),),
    (Chunk(1, 2**63, 2**63, memoryview(b"x")), Chunk(1, 0, 0, memoryview(b"")), Gone(1)),
    (HELLO, HELLO, Assign(RunId(7), [TEMPLATE], [JOB]), HELLO, Close(RunId(7))),
    (advert_with({"cpu": float("nan")}, ""),),
    (advert_with({"cpu": 1.0}, "nonsense"),),
    (advert_with({"cpu": 1.0}, "inproc://zeromq.zap.01"),),
    (advert_with({"r\x1b[2J": 1.0}, ""),),
    (advert_with({f"{number:0200d}": 1.0 for number in range(1000)}, ""),),
    (of_holders(["inproc://zeromq.zap.01", "inproc://zeromq.zap.01"]),),
    (Goodbye(), Goodbye(), Beat(), Assign(RunId(7), [TEMPLATE], [JOB]), Close(RunId(7)), HELLO),
]


@pytest.mark.parametrize("messages", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_member_harms_nobody(node: Daemon, peer: RawPeer, messages: Iterable[ToNode]) -> None:
    await asyncio.to_thread(peer.ask, HELLO, *messages)

    async with handoff.Session(seeds=[node.address]) as session:
        run = await session.execute_distributed(handoff.DAG().add_function(handoff.Function("one", [], int)))

    assert run.results["one"] == 0


def test_work_that_can_not_be_done_is_rejected_with_the_reason(node: Daemon, peer: RawPeer) -> None:
    answer = peer.ask(HELLO, Assign(RunId(7), [], [JOB]))

    assert answer == Rejected(RunId(7), "function 0: template 0 was never sent")
    assert isinstance(peer.ask(Close(RunId(7))), Closed)


def test_frame_that_can_not_be_decoded_ends_the_connection_and_its_runs(node: Daemon, peer: RawPeer) -> None:
    peer.ask(HELLO, Assign(RunId(7), [TEMPLATE], [JOB]))
    peer.socket.send(b"nonsense")

    messages = peer.messages()
    refused = next(message for message in messages if isinstance(message, Refused))

    assert "can't decode a message: a frame is malformed" in refused.reason
    peer.say(ListRuns())
    assert next(messages) == Refused("say Hello first")
    with connected_to(node) as other:
        # The worker of the function has to end before the run does.
        while (runs := other.ask(HELLO, ListRuns())) != Runs([]):
            assert isinstance(runs, Runs)
            assert [run.closing for run in runs.runs] == [True]
    peer.say(HELLO, ListRuns())
    assert isinstance(next(messages), Welcome)
    assert next(messages) == Runs([])


async def test_work_for_another_members_run_changes_nothing(node: Daemon, peer: RawPeer) -> None:
    async with handoff.Session(seeds=[node.address]) as session:
        dag = handoff.DAG().add_function(handoff.Function("one", [], bytes, extra_args=[LARGE]))
        run = await session.execute_distributed(dag.add_function(handoff.Function("two", ["one"], len)))
        number = run._holdings.runner.run

        recalled = await asyncio.to_thread(
            peer.ask,
            HELLO,
            Recall(number, [Ticket(0, 1)], room=1),
            CancelJobs(number, [Ticket(0, 1), Ticket(1, 1)]),
            Close(number),
            Assign(number, [TEMPLATE], [JOB]),
        )

        assert isinstance(recalled, Recalled | Closed | Welcome)
        assert (await session.execute_distributed(dag)).results["two"] == LARGE


async def test_no_more_than_a_chunk_is_handed_out_at_once(node: Daemon, peer: RawPeer) -> None:
    async with handoff.Session(seeds=[node.address]) as session:
        dag = handoff.DAG().add_function(handoff.Function("one", [], os.urandom, extra_args=[LARGE]))
        run = await session.execute_distributed(dag.add_function(handoff.Function("two", ["one"], len)))
        index = run._holdings.runner.plan.index_of["one"]
        number = run._holdings.runner.run

        whole = await asyncio.to_thread(peer.ask, HELLO, Fetch(1, number, index, 0, 2**63))
        beyond = await asyncio.to_thread(peer.ask, Fetch(2, number, index, 2**63, 2**63))
        of_another_attempt = await asyncio.to_thread(peer.ask, Fetch(3, number, index, 0, 10, version=2))

    assert isinstance(whole, Chunk)
    assert len(whole.data) == CHUNK_NBYTES
    assert isinstance(beyond, Chunk)
    assert len(beyond.data) == 0
    assert of_another_attempt == Gone(3)


async def test_peer_that_asks_and_does_not_read_costs_little_and_others_go_on(node: Daemon) -> None:
    """Requests of 100 kB ask for a gigabyte."""
    async with handoff.Session(seeds=[node.address]) as session:
        dag = handoff.DAG().add_function(handoff.Function("one", [], os.urandom, extra_args=[LARGE]))
        run = await session.execute_distributed(dag.add_function(handoff.Function("two", ["one"], len)))
        index = run._holdings.runner.plan.index_of["one"]
        number = run._holdings.runner.run
        process = psutil.Process(node.process.pid)
        before = process.memory_full_info().uss
        most = before
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.linger = 0
            dealer.set_hwm(0)
            dealer.rcvhwm = 1
            Curve(user_key()).protect_client(dealer)
            dealer.connect(node.address)
            for request in range(4000):
                hello = [HELLO] if request == 0 else []
                dealer.send(encode([*hello, Fetch(request, number, index, 0, PIECE_BYTES - 1)]))
            while "cut off a peer that does not read" not in node.log():
                most = max(most, process.memory_full_info().uss)
                again = await session.execute_distributed(
                    handoff.DAG().add_function(handoff.Function("x", [], int))
                )
                assert again.results["x"] == 0

    # What this node of one worker lets wait for a peer, and what ZeroMQ and the encryption hold meanwhile.
    may_wait_nbytes = ANSWERS_NBYTES + (1 + MAX_AHEAD) * INLINE_LIMIT
    assert most < before + may_wait_nbytes + MAY_GROW_BYTES / 2


def test_peer_speaks_for_one_node_and_for_no_more(node: Daemon, peer: RawPeer) -> None:
    hellos = [
        Hello(
            PROTOCOL,
            VERSION,
            PYTHON,
            "peer",
            replace(FALSE_ADVERT, name=f"n{number}", incarnation=f"f{number}"),
        )
        for number in range(1000)
    ]

    peer.say(*hellos)
    peer.ask(HELLO)
    peer.say(ListMembers())
    [members] = decode(peer.socket.recv(), FROM_NODE)

    assert isinstance(members, Members)
    assert [advert.name for advert in members.members] == ["n1", "n0"]
    node.wait_for_log("a peer that speaks for one node introduces another")
