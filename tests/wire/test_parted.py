"""Lists of which some items are encoded by themselves."""

import numpy as np

from handoff_actors.wire.parted import joined
from handoff_actors.wire.payload import decode, encode


def test_list_is_put_together_of_its_parts() -> None:
    frame = np.arange(1000)
    items = encode(
        ["small", frame, "other"], position_of=lambda item: 0 if item is frame else None
    ).to_bytes()

    whole = joined(items, [memoryview(encode(frame).to_bytes())])

    first, second, third = decode(whole)
    assert (first, third) == ("small", "other")
    assert np.array_equal(second, frame)
