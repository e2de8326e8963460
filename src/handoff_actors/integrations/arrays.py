"""Large arrays that many calls take: written once, into memory that all workers of this machine map.

The memory has no name in any file system. Workers find it by this process's descriptor, so that it is freed once this
process has closed that, or has died, and workers have dropped their mappings.
"""

import os
import pickle
import weakref
from collections.abc import Callable
from mmap import ACCESS_COPY, ACCESS_READ, ACCESS_WRITE, mmap
from typing import Any, Final, NamedTuple

import numpy as np
from joblib._memmapping_reducer import _get_backing_memmap, _reduce_memmap_backed
from numpy.typing import NDArray

from handoff_actors.wire.code.by_value_pickler import PROTOCOL
from handoff_actors.wire.pickling import pickled

Array = NDArray[Any]

#: Each file takes a descriptor of this process, which has 1024 by default.
MOST_FILES: Final = 256
_ACCESS: Final = {"r": ACCESS_READ, "c": ACCESS_COPY, "r+": ACCESS_WRITE, "w+": ACCESS_WRITE}


class _File(NamedTuple):
    """The shared memory of an array, which is freed with the array."""

    array: "weakref.ref[Array]"
    descriptor: int
    order: str


class SharedArrays:
    """Shares arrays of more than `more_than_nbytes`; workers map them with `mode`, one of numpy.memmap's."""

    def __init__(self, more_than_nbytes: int, mode: str) -> None:
        self._more_than_nbytes = more_than_nbytes
        self._mode = mode
        #: By id of the array.
        self._files: dict[int, _File] = {}
        self._reducers = {np.ndarray: self._reduce, np.memmap: self._reduce}

    def pickled(self, value: object) -> tuple[bytes, list[pickle.PickleBuffer]]:
        """Pickle `value` without large arrays; return it and its out-of-band buffers. Raises the errors of pickling."""
        pieces, buffers = pickled(value, self._reducers)
        return b"".join(pieces), buffers

    def clear(self) -> None:
        """Stop sharing the current arrays: they may be changed from now on."""
        for number in list(self._files):
            self._forget(number)

    def _reduce(self, array: Array) -> Any:
        backing = _get_backing_memmap(array)
        if isinstance(backing, np.memmap):
            # The array is backed by a file of the user's already.
            return _reduce_memmap_backed(array, backing)
        file = None
        if array.nbytes > self._more_than_nbytes and not array.dtype.hasobject:
            file = self._file_of(array)
        if file is None:
            return array.__reduce_ex__(PROTOCOL)
        path = f"/proc/{os.getpid()}/fd/{file.descriptor}"
        inode = os.fstat(file.descriptor).st_ino
        return _mapped, (path, inode, array.dtype, array.shape, file.order, self._mode)

    def _file_of(self, array: Array) -> _File | None:
        number = id(array)
        file = self._files.get(number)
        if file is not None and file.array() is array:
            return file
        if len(self._files) >= MOST_FILES:
            return None
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        file = _File(weakref.ref(array, lambda _: self._forget(number)), _written(array, order), order)
        self._files[number] = file
        return file

    def _forget(self, number: int) -> None:
        file = self._files.pop(number, None)
        if file is not None:
            os.close(file.descriptor)


def _written(array: Array, order: Any) -> int:
    """Copy an array into new memory, and return its descriptor."""
    descriptor = os.memfd_create("handoff array")
    os.truncate(descriptor, array.nbytes)
    memory = mmap(descriptor, array.nbytes)
    np.copyto(np.ndarray(array.shape, array.dtype, memory, order=order), array)
    return descriptor


def _mapped(path: str, inode: int, dtype: Any, shape: tuple[int, ...], order: Any, mode: str) -> Array:
    """Run in a worker: map the array, without a copy. Raises FileNotFoundError if its call has been given up."""
    with open(path, "rb" if mode in "rc" else "r+b", buffering=0) as file:  # noqa: PTH123 - it is no path to change
        # The descriptor may be another file's by now.
        if os.fstat(file.fileno()).st_ino != inode:
            raise FileNotFoundError(path)
        memory = mmap(file.fileno(), 0, access=_ACCESS[mode])
    return np.ndarray(shape, dtype, memory, order=order)


class ArrayBatch:
    """Calls whose large arrays are not sent along. In a worker, it unpickles as the calls themselves."""

    def __init__(self, calls: Callable[[], Any], arrays: SharedArrays) -> None:
        self._calls = calls
        self._arrays = arrays
        self._pickled: tuple[bytes, list[pickle.PickleBuffer]] | None = None

    def __call__(self) -> Any:
        """Make the calls in this process."""
        return self._calls()

    def __reduce__(self) -> tuple[Any, ...]:
        # pickle asks twice where it finds names of `__main__`.
        if self._pickled is None:
            self._pickled = self._arrays.pickled(self._calls)
        return _unpickled, self._pickled


def _unpickled(core: bytes, buffers: list[Any]) -> Any:
    return pickle.loads(core, buffers=buffers)
