"""Tests of the messages that a worker sends: each arrives, whatever another one has in it."""

import socket
import threading
from collections.abc import Iterator

import pytest

from handoff_actors.ids import RunId
from handoff_actors.workers.child.outbox import WorkerOutbox
from handoff_actors.workers.child.tail import Tail
from handoff_actors.workers.protocol import FromWorker, JobFailed, JobsDone, from_worker
from handoff_actors.workers.rows import RowReader

RUN = RunId(7)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The worker's end of a channel, and the node's."""
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def received(end: socket.socket) -> list[FromWorker]:
    """Everything that is sent until the other side closes."""
    reader = RowReader()
    messages: list[FromWorker] = []
    while chunk := end.recv(65536):
        messages += map(from_worker, reader.rows(chunk))
    return messages


def test_what_cannot_be_sent_is_the_failure_of_its_function_alone(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    outbox = WorkerOutbox(ours, Tail())

    outbox.done(RUN, 1, 1, b"before", 0.1)
    outbox.failed((RUN, 2, 1), ("exception", b"", "data\udcff.csv", ""), 0.1)
    outbox.done(RUN, 3, 1, b"behind", 0.1)
    outbox.flush()
    ours.close()

    before, failed, behind = received(theirs)
    assert isinstance(before, JobsDone)
    assert isinstance(behind, JobsDone)
    assert [row[0] for row in (*before.rows, *behind.rows)] == [1, 3]
    assert isinstance(failed, JobFailed)
    assert (failed.key, failed.kind) == ((RUN, 2, 1), "exception")
    assert failed.reason.startswith("'data\\udcff.csv' (it can't be reported as it is: UnicodeEncodeError")


def test_message_longer_than_the_channel_has_room_for_arrives(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    # As the loop of an async worker does.
    ours.setblocking(False)
    outbox = WorkerOutbox(ours, Tail())
    messages: list[FromWorker] = []
    reader = threading.Thread(target=lambda: messages.extend(received(theirs)))
    reader.start()

    outbox.failed((RUN, 1, 1), ("exception", bytes(4_000_000), "reason", ""), 0.1)
    outbox.flush()
    ours.close()
    reader.join()

    [failed] = messages
    assert isinstance(failed, JobFailed)
    assert len(failed.error) == 4_000_000
