import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _daemons_find_our_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]), prepend=os.pathsep)
