"""Limit the threads of numerical libraries to the cores that a function claims, and to one where it claims none.

By themselves libraries start one thread for each core of the machine, and a node has a worker for each core: on two cores,
products of matrices on two workers then take two to four times as long. Dask and joblib limit them for the same reason. If
one of the variables is set for the node, that setting holds, and this module changes nothing.
"""

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

#: Libraries read them when they are loaded.
VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Threads:
    """The limit for the libraries of this process."""

    def __init__(self) -> None:
        #: 0: nothing yet.
        self.most = 0
        self._is_left_to_us = not any(name in os.environ for name in VARIABLES)
        self._loaded: ThreadpoolController | None = None
        self._modules = 0

    def limit(self, most: int) -> None:
        """Set the limit; loaded libraries follow it only where threadpoolctl is installed."""
        is_first, self.most = not self.most, most
        if not self._is_left_to_us:
            return
        os.environ.update(dict.fromkeys(VARIABLES, str(most)))
        if not is_first:
            self._limit_loaded(most)

    def _limit_loaded(self, most: int) -> None:
        try:
            from threadpoolctl import ThreadpoolController  # noqa: PLC0415 - few programs have it
        except ImportError:
            return
        # Finding libraries takes a millisecond, limiting known libraries some microseconds.
        if self._loaded is None or len(sys.modules) != self._modules:
            self._loaded, self._modules = ThreadpoolController(), len(sys.modules)
        self._loaded.limit(limits=most)
