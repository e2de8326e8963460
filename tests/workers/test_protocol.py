"""Both ends of the worker protocol agree, on messages and on the structs that reach a worker as rows."""

from pathlib import Path
from typing import Any, get_args

import msgpack
import msgspec
import pytest

from handoff_actors.ids import RunId, WorkerId
from handoff_actors.wire.messages.jobs import (
    Call,
    Done,
    Dropped,
    Earlier,
    Job,
    Logged,
    Printed,
    Ref,
    Said,
    Text,
)
from handoff_actors.workers import protocol
from handoff_actors.workers.output_protocol import output_part, pack_dropped, pack_logged, pack_printed
from handoff_actors.workers.pool.reports import entries_of
from handoff_actors.workers.protocol import (
    CancelJob,
    DefineModules,
    DefineTemplate,
    DropTemplates,
    ExposeDevices,
    FromWorker,
    GiveBackJobs,
    JobFailed,
    JobKey,
    JobsDone,
    JobsGivenBack,
    JobsPrinted,
    ObjectKept,
    QueueJobs,
    StageAnswers,
    StageRows,
    ToWorker,
    WorkerFailureKind,
    WorkerReady,
    WorkerSpoiled,
    done_row,
    from_worker,
    queue_jobs,
    to_worker,
)
from handoff_actors.workers.question_protocol import Surroundings, answer_packet, from_answer
from handoff_actors.workers.rows import RowReader
from handoff_actors.workers.zygote_protocol import (
    ForkWorker,
    ImportForNestedRuns,
    KillGroup,
    ProcessEnded,
    ToZygote,
    ZygoteSettings,
    from_zygote,
    to_zygote,
    zygote_packet,
)

RUN = RunId(7)
KEY: JobKey = (RUN, 5, 2)
_REF = Ref(3, 100, ["tcp://a"], 2)
_CALL = Call(4, [b"inner", _REF], None)
_JOB = Job(
    5, 2, 1, [b"value", Text("node"), _REF, _CALL, Earlier(4)], b"constants", (Job(6, 1, 0, [], _REF),)
)


def test_each_message_to_a_worker_arrives_as_it_was_sent() -> None:
    sent: list[ToWorker] = [
        DefineTemplate(
            RUN,
            0,
            b"digest",
            True,
            None,
            False,
            True,
            2,
            30,
            {b"NAME": b"value"},
            b"/there",
            9,
            "s1",
            b"set",
            b"",
        ),
        DefineTemplate(
            RUN, 1, b"digest", False, b"code", True, False, 1, None, None, b"", None, "", None, b"rule"
        ),
        DefineModules(b"set", "s1", {"app": b"digest"}, b"definitions"),
        QueueJobs(RUN, ()),
        DropTemplates(RUN),
        DropTemplates(RUN, (1, 2)),
        ExposeDevices("0,1"),
        ExposeDevices(None),
        GiveBackJobs(),
        CancelJob(KEY),
        StageRows(KEY, b"rows"),
    ]
    stream = b"".join(map(msgspec.msgpack.encode, sent))

    received = [*map(to_worker, RowReader().rows(stream))]

    assert received == sent
    assert [*map(type, received)] == [*map(type, sent)]
    assert {*map(type, sent)} == {*get_args(ToWorker)}


def test_each_message_from_a_worker_arrives_as_it_was_sent() -> None:
    sent: list[FromWorker] = [
        WorkerReady(123),
        JobsDone(RUN, (done_row(5, 2, b"value", 123, 0.5), done_row(6, 1, 70_000, 123, 0.25))),
        JobsDone(RUN, (done_row(7, 1, b"value", 123, 0.5, b"growth"),)),
        *(
            JobFailed(KEY, kind, b"", "why", 0.5, 1024, "printed", "rule")
            for kind in get_args(WorkerFailureKind)
        ),
        JobsGivenBack((KEY, KEY)),
        JobsPrinted(((KEY, 3),)),
        WorkerSpoiled(KEY, "why"),
        ObjectKept(b"key", 5),
        StageAnswers(KEY, b"rows", ((8, 100_000),)),
    ]
    stream = b"".join(map(msgpack.packb, sent))

    received = [*map(from_worker, RowReader().rows(stream))]

    assert received == sent
    assert [*map(type, received)] == [*map(type, sent)]
    assert {*map(type, sent)} == {*get_args(FromWorker)}


@pytest.mark.parametrize("sent", [ForkWorker(WorkerId(3)), KillGroup(WorkerId(3)), ImportForNestedRuns()])
def test_each_message_to_the_zygote_arrives_as_it_was_sent(sent: ToZygote) -> None:
    received = to_zygote(zygote_packet(sent))

    assert (received, type(received)) == (sent, type(sent))


def test_the_zygotes_report_arrives_as_it_was_sent() -> None:
    sent = ProcessEnded(WorkerId(3), 9, None, 1024, "printed")

    assert from_zygote(zygote_packet(sent)) == sent


@pytest.mark.parametrize("receive", [to_worker, from_worker])
@pytest.mark.parametrize("row", [(99,), (RUN, 99), (), 5, ((RUN,),)])
def test_a_row_that_is_no_message_is_an_error(receive: Any, row: Any) -> None:
    with pytest.raises(AssertionError, match="no message of the worker protocol"):
        receive(row)


@pytest.mark.parametrize("receive", [to_zygote, from_zygote])
def test_a_packet_that_is_no_message_is_an_error(receive: Any) -> None:
    with pytest.raises(AssertionError, match="no message of the worker protocol"):
        receive(msgpack.packb((1, 99)))


def test_a_failure_of_an_unknown_kind_is_an_error() -> None:
    failed: Any = JobFailed(KEY, "exeption", b"", "why", 0.5, 1024, "", "")  # type: ignore[arg-type]

    with pytest.raises(AssertionError, match="'exeption'"):
        from_worker(tuple(failed))


def test_positions_in_a_jobs_row_are_those_of_its_struct() -> None:
    (row,) = RowReader().rows(msgspec.msgpack.encode(queue_jobs(RUN, [_JOB])))
    message = to_worker(row)
    assert isinstance(message, QueueJobs)
    (job,) = message.jobs
    args: Any = job[protocol.JOB_ARGS]
    _, text, ref, call, earlier = args
    (member,) = job[protocol.JOB_THEN]

    assert (job[protocol.JOB_INDEX], job[protocol.JOB_ATTEMPT], job[protocol.JOB_TEMPLATE]) == (5, 2, 1)
    assert job[protocol.JOB_CONSTANTS] == b"constants"
    assert (member[protocol.JOB_INDEX], member[protocol.JOB_CONSTANTS]) == (6, ref)
    assert text[protocol.ARG_TAG] == protocol.TEXT
    assert text[protocol.TEXT_VALUE] == "node"
    assert ref[protocol.ARG_TAG] == protocol.REF
    assert ref[protocol.REF_INDEX] == 3
    assert call[protocol.ARG_TAG] == protocol.CALL
    assert call[protocol.CALL_TEMPLATE] == 4
    assert call[protocol.CALL_ARGS] == (b"inner", ref)
    assert call[protocol.CALL_CONSTANTS] is None
    assert earlier[protocol.ARG_TAG] == protocol.EARLIER
    assert earlier[protocol.EARLIER_INDEX] == 4


def test_the_row_of_a_done_attempt_is_that_of_its_struct() -> None:
    message = JobsDone(RUN, [done_row(5, 2, b"value", 123, 0.5)])

    assert entries_of(message) == [Done(5, 2, b"value", worker=123, ran_s=0.5)]


def test_output_arrives_as_the_structs_that_the_app_gets() -> None:
    logged = pack_logged(
        KEY,
        name="users.library",
        level=30,
        message="said",
        path="library.py",
        line=12,
        function="say",
        created=1.5,
        error="",
    )
    stream = pack_printed(KEY, "text", is_error=True) + logged + pack_dropped(KEY, 4)

    parts = [*map(output_part, RowReader().rows(stream))]

    assert [run for run, _ in parts] == [RUN] * 3
    assert [msgspec.convert(said, Said) for _, said in parts] == [
        Printed(5, 2, True, "text"),
        Logged(5, 2, "users.library", 30, "said", "library.py", 12, "say", 1.5, ""),
        Dropped(5, 2, 4),
    ]


@pytest.mark.parametrize("disk", [None, Path("/disk")])
def test_a_zygote_is_told_its_settings_in_its_arguments(disk: Path | None) -> None:
    settings = ZygoteSettings(4, Path("/store"), disk, "n1", 65536, 5, 1 << 37, 6)

    assert ZygoteSettings.parse(settings.arguments()) == settings


@pytest.mark.parametrize(
    "known", [None, Surroundings("tcp://127.0.0.1:7070", None), Surroundings("ipc:///x", "key")]
)
def test_an_answer_to_a_worker_says_how_to_reach_the_cluster(known: Surroundings | None) -> None:
    assert from_answer(answer_packet(known)) == known
