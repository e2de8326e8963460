"""Memoryviews as bytes, and memoryviews of the same format and shape of these bytes.

`memoryview.cast` makes those of a native format that are not empty. All others, such as views of records or of numbers in
another byte order, come from libraries; numpy understands their formats, and makes the same again.
"""

import pickle
from math import prod
from struct import calcsize
from typing import Any, Final

#: Formats that `cast` takes.
_NATIVE: Final = frozenset("?cbBhHiIlLqQnNfdP")
_WAYS: Final = "pass the object that it is a view of, or view.tobytes()"


def reduce_memoryview(view: memoryview) -> tuple[Any, ...]:
    """Reduce a view to its bytes, in the order of C. Raises TypeError for one that can't be made again."""
    flat = view if view.c_contiguous else memoryview(view.tobytes())
    shape = view.shape or ()
    if view.format in _NATIVE and 0 not in shape[1:]:
        return _cast_view, (pickle.PickleBuffer(flat), view.format, shape)
    return _view_by_numpy, (pickle.PickleBuffer(flat), _dtype_of(view), shape)


def _dtype_of(view: memoryview) -> Any:
    try:
        import numpy as np  # noqa: PLC0415 - few programs have such views
    except ImportError as error:
        raise TypeError(
            f"a memoryview of format {view.format!r} and shape {view.shape} can't be sent without numpy: {_WAYS}"
        ) from error
    try:
        dtype = np.asarray(view).dtype
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise TypeError(f"a memoryview of format {view.format!r} can't be made elsewhere: {_WAYS}") from error
    if dtype.hasobject:
        raise TypeError("a memoryview of Python objects has only their addresses: pass a list of them")
    return dtype


def _cast_view(buffer: Any, form: str, shape: tuple[int, ...]) -> memoryview:
    flat = memoryview(buffer).cast("B")
    if (form, len(shape)) == ("B", 1):
        return flat
    if shape[:1] == (0,):
        # An empty one can't be cast, but a part of one that is not can be empty.
        rest = shape[1:]
        return memoryview(bytes(calcsize(form) * prod(rest))).cast("B").cast(form, (1, *rest))[:0]  # type: ignore[call-overload, no-any-return]
    return flat.cast(form, shape)  # type: ignore[call-overload, no-any-return]


def _view_by_numpy(buffer: Any, dtype: Any, shape: tuple[int, ...]) -> memoryview:
    import numpy as np  # noqa: PLC0415 - see above

    array: Any = np.ndarray(shape, dtype, buffer)
    return memoryview(array)
