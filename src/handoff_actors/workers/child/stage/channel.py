"""A worker's offer to the stage that it runs: rows from the node and back, the store, and the marks around user code."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from handoff_actors.errors import HandoffError
from handoff_actors.ids import Index
from handoff_actors.store.mappings import Mappings
from handoff_actors.workers.child.evaluation import UserRaised
from handoff_actors.workers.child.outbox import WorkerOutbox
from handoff_actors.workers.child.process.forks import ForkGuard, end_fork
from handoff_actors.workers.child.process.interrupts import UserCode
from handoff_actors.workers.child.running_job import worker_jobs
from handoff_actors.workers.child.store import WorkerStore
from handoff_actors.workers.protocol import JobKey

#: Reads what has arrived; True: waits for something first.
Receive = Callable[[bool], None]
NOTHING: Final[Mapping[str, Any]] = {}


class StageChannel:
    """The channel of one sync worker, for one stage after the other."""

    #: The attempt that runs the stage.
    key: JobKey

    def __init__(
        self,
        receive: Receive,
        descriptors: Sequence[int],
        outbox: WorkerOutbox,
        store: WorkerStore,
        inline_limit: int,
        user_code: UserCode,
        forks: ForkGuard,
    ) -> None:
        """`descriptors` are readable when there is something to receive."""
        self._receive = receive
        self.descriptors = descriptors
        self._outbox = outbox
        self.store = store
        self.inline_limit = inline_limit
        self._user_code = user_code
        self._forks = forks
        #: Rows that have arrived, each with the attempt that they are for.
        self.arrived: deque[tuple[JobKey, bytes]] = deque()

    def open(self) -> None:
        """Serve the stage that the worker runs now. Raises HandoffError outside of any function."""
        jobs = worker_jobs()
        key = None if jobs is None else jobs.running()
        if key is None:
            raise HandoffError("a stage of a stream runs in a worker, as a function of a run")
        self.key = key
        self.leave_user_code()

    def close(self) -> None:
        """Drop what has arrived, and run on as the user's code that the stage is to its worker."""
        self.arrived.clear()
        self._user_code.is_interruptible = self._user_code.is_running = True

    def take(self, *, waits: bool) -> list[bytes]:
        """Give the rows that have arrived; `waits`: if there are none, once there are some."""
        while True:
            self._receive(waits and not self.arrived)
            contents = [content for key, content in self.arrived if key == self.key]
            self.arrived.clear()
            if contents or not waits:
                return contents

    def send(self, content: bytes, stored: Sequence[tuple[Index, int]]) -> None:
        """Send rows, with the values that have been stored for them."""
        self._outbox.answered(self.key, content, stored)
        self._outbox.flush()

    @property
    def mappings(self) -> Mappings:
        """The mappings of stored values."""
        return self.store.mappings

    # --- User code ----------------------------------------------------------------------------------------------

    def call(self, code: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] = NOTHING) -> Any:
        """Call user code. Recalls are answered meanwhile, and SIGINT interrupts it. Raises UserRaised."""
        user_code = self._user_code
        try:
            user_code.is_running = user_code.is_interruptible = True
            result = code(*args, **kwargs)
            user_code.is_interruptible = user_code.is_running = False
        except BaseException as error:  # noqa: BLE001 - not even sys.exit() in a user's code ends the worker
            user_code.is_interruptible = user_code.is_running = False
            raise self.raised(error) from None
        if self._forks.is_fork:
            end_fork()
        return result

    def raised(self, error: BaseException) -> UserRaised:
        """Wrap an error of user code. Ends the process if it is a fork that the code has made."""
        if self._forks.is_fork:
            end_fork(error)
        return UserRaised(error)

    def check_fork(self) -> None:
        """End the process if it is a fork that user code has made, and come back from."""
        if self._forks.is_fork:
            end_fork()

    def leave_user_code(self) -> None:
        """Answer recalls only between items from now on, and drop interrupts."""
        self._user_code.is_interruptible = self._user_code.is_running = False


class _Offered:
    channel: StageChannel | None = None


def offer(channel: StageChannel) -> None:
    """Let stages that run in this process use a channel."""
    _Offered.channel = channel


def stage_channel() -> StageChannel:
    """Open the channel of this worker for the function that runs. Raises HandoffError where there is none."""
    channel = _Offered.channel
    if channel is None:
        raise HandoffError("a stage of a stream runs in a worker, as a function of a run")
    channel.open()
    return channel
