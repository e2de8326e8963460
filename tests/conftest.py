import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# What helpers assert is shown as that of tests is. `tests` itself has been imported before.
pytest.register_assert_rewrite(*(f"tests.{path.stem}" for path in Path(__file__).parent.glob("[a-z]*")))

from tests.daemons import Daemons  # noqa: E402

# Before anything of ours is imported: every machine asserts its invariants after each event.
os.environ["HANDOFF_CHECK"] = "1"
# A shell has what it starts in the background ignore Ctrl-C, and so would all that tests start and then interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The user who runs the tests keeps the key that they have, and those of pytest-xdist's workers are one user.
if "PYTEST_XDIST_WORKER" not in os.environ:
    STATE = tempfile.TemporaryDirectory(prefix="state-")
    os.environ["XDG_STATE_HOME"] = STATE.name

# The time that examples take says more of the machine's other work than of them; tests have their own time limit.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    """Starts daemons, which end with the test."""
    made = Daemons()
    yield made
    made.close()
