"""Slices of Arrow's arrays: pickled with the bytes that they show, not with those of all that they are slices of.

Tables, batches and columns pickle as their arrays, and frames built on Arrow as their tables, so arrays are all there is to
teach. A slice becomes an array of its own on its way through Arrow's format for streams; its pickle is Arrow's.

Nothing here imports pyarrow: a program that has not done so has no arrays.
"""

import copyreg
import sys
from contextlib import suppress
from typing import Any, Final

#: An array is copied if its buffers have so many bytes that it does not show, and so large a part of them.
_SPARED_NBYTES: Final = 1024
_SPARED_PART: Final = 0.2
#: The module of pyarrow that is imported last of those that are needed here: once it is there, values may be slices.
LAST_MODULE: Final = "pyarrow.ipc"


class _Taught:
    is_done = False


def teach_pickle() -> None:
    """Have each pickle of this process contain slices alone, once there may be some. Types that others have taught it stay so."""
    if _Taught.is_done or LAST_MODULE not in sys.modules:
        return
    library: Any = sys.modules["pyarrow.lib"]
    for kind in vars(library).values():
        if isinstance(kind, type) and issubclass(kind, library.Array):
            copyreg.dispatch_table.setdefault(kind, _reduce_array)
    _Taught.is_done = True


def _reduce_array(array: Any) -> Any:
    """Reduce an array as Arrow does; a copy of it, where it is a part of its buffers that is not most of them."""
    import pyarrow as pa  # noqa: PLC0415 - it is there

    # Not every type knows its size, or has a form in streams.
    with suppress(pa.ArrowException):
        whole, shown = array.get_total_buffer_size(), array.nbytes
        if whole - shown > max(_SPARED_NBYTES, _SPARED_PART * whole):
            copied = _copied(pa, array)
            # A type of a user's that is not registered comes back as its storage.
            array = copied if copied.type == array.type else array
    return array.__reduce__()


def _copied(pa: Any, array: Any) -> Any:
    if not len(array) and not pa.types.is_dictionary(array.type):
        # Streams would have all offsets of texts and lists.
        return pa.array([], array.type)
    batch = pa.record_batch([array], ["values"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return pa.ipc.open_stream(sink.getvalue()).read_next_batch().column(0)
