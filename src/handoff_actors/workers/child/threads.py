"""How many threads numerical libraries start: as many as the cores that their function claims, one where it claims none.

By themselves they start one for each core of the machine, and a node has a worker for each core: on two cores, products
of matrices on two workers then take two to four times as long. Dask and joblib limit them for the same reason. Whoever
sets one of the variables for the node has said what is to hold, and nothing is changed.
"""

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

#: Libraries read them when they are loaded.
VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Threads:
    """What libraries of this process are told."""

    def __init__(self) -> None:
        #: 0: nothing yet.
        self.most = 0
        self._is_left_to_us = not any(name in os.environ for name in VARIABLES)
        self._loaded: ThreadpoolController | None = None
        self._modules = 0

    def limit(self, most: int) -> None:
        """Let libraries start so many, those that are loaded already only where threadpoolctl is installed."""
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
        # To look for libraries takes a millisecond, to tell those that are known some microseconds.
        if self._loaded is None or len(sys.modules) != self._modules:
            self._loaded, self._modules = ThreadpoolController(), len(sys.modules)
        self._loaded.limit(limits=most)
