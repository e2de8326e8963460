"""Fuzzes every decoder of frames with coverage feedback, by hand: the suite has the same promises in tests/wire.

    pip install atheris        # Linux, and a version of Python that it has wheels for
    python tests/fuzz/fuzz_decoders.py CORPUS -max_total_time=600 -max_len=4096

It runs until the time is over, or until it has found something, which it then writes to a file `crash-...`; to see that
again, give the file instead of CORPUS. A directory CORPUS is made and gets a few right frames to begin with: the decoder
itself is C, whose branches are not seen, so it has to start from something that is understood.
"""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from handoff_actors.wire.messages.directions import AnyMessage

with atheris.instrument_imports():
    from handoff_actors.core.node.validation import check_message
    from handoff_actors.errors import RemoteProtocolError
    from handoff_actors.ids import RunId
    from handoff_actors.wire.codec import FROM_NODE, ON_BUS, TO_NODE, decode, encode
    from handoff_actors.wire.messages.jobs import Arg, Call, Done, Job, Ref, Template, Text, Ticket
    from handoff_actors.wire.messages.members import Advert, Hello, Joined, Published, Redeclare
    from handoff_actors.wire.messages.runs import Assign, CancelJobs, Completed, Recall
    from handoff_actors.wire.messages.stages import StageInput, StageInputLost, StageOutput, StoredItem
    from handoff_actors.wire.messages.values import Chunk, Fetch


def fuzz_one(data: bytes) -> None:
    """Whatever is raised but a refusal is a find; so is a message that does not survive the way out and back."""
    with suppress(RemoteProtocolError):
        decode(data, FROM_NODE)
    with suppress(RemoteProtocolError):
        decode(data, ON_BUS)
    try:
        messages = decode(data, TO_NODE)
        for message in messages:
            check_message(message)
    except RemoteProtocolError:
        return
    frame = encode(messages)
    again = decode(frame, TO_NODE)
    assert encode(again) == frame


def seed(corpus: Path) -> None:
    """Put frames there from which mutations begin."""
    template = Template(0, b"d", True, b"builtins:int", False, True, {"cpu": 1.0}, 2.0)
    args: list[Arg] = [
        b"value",
        Text("node"),
        Ref(1, 70_000, ["tcp://127.0.0.1:1"]),
        Call(0, [b"value"], b"constants"),
    ]
    advert = Advert("n", "i", 1, "a", "b", {"cpu": 1.0}, {}, 1, 0, 0, 0, False, 7, "0", "3.11")
    frames: list[list[AnyMessage]] = [
        [Hello(1, "0", "3.11", "n", advert), Assign(RunId(5), [template], [Job(3, 1, 0, args, None)])],
        [Recall(RunId(5), [Ticket(3, 1)], room=1), Fetch(1, RunId(5), 3, 0, 1000), Redeclare({"gpu": 0.5})],
        [Chunk(1, 0, 4, memoryview(b"data")), Completed(RunId(5), [Done(3, 1, b"value", 9, 0.1)], {})],
        [CancelJobs(RunId(5), [Ticket(3, 1)]), Joined(advert), Published(advert)],
        [
            StageInput(RunId(5), 3, 1, b"rows", [Ref(1, 70_000, [""])]),
            StageOutput(RunId(5), 3, 1, b"rows", [StoredItem(1, 70_000)]),
            StageInputLost(RunId(5), 3, 1, 1, "gone"),
        ],
    ]
    corpus.mkdir(exist_ok=True)
    for number, messages in enumerate(frames):
        (corpus / f"seed-{number}").write_bytes(encode(messages))


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-") and not Path(sys.argv[1]).is_file():
        seed(Path(sys.argv[1]))
    atheris.Setup(sys.argv, fuzz_one)
    atheris.Fuzz()
