"""Fuzzes every decoder of frames with coverage feedback, by hand: the suite has the same promises in tests/wire.

    pip install atheris        # Linux, and a version of Python that it has wheels for
    python tests/fuzz/fuzz_decoders.py -max_total_time=600 -max_len=4096

It runs until the time is over, or until it has found something, which it then writes to a file `crash-...`; to see that
again, give the file as the argument.
"""

import sys
from contextlib import suppress

import atheris

with atheris.instrument_imports():
    from handoff_actors.core.admission import check_message
    from handoff_actors.errors import RemoteProtocolError
    from handoff_actors.wire.codec import FROM_NODE, ON_BUS, TO_NODE, decode, encode


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


if __name__ == "__main__":
    atheris.Setup(sys.argv, fuzz_one)
    atheris.Fuzz()
