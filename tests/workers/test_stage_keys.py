import os
import subprocess
import sys
from dataclasses import dataclass

from handoff_actors.workers.stage_keys import key_hash

KEYS = ["ann", b"ann", 7, -7, 2**70, 1.5, None, (1, "a"), frozenset({"a", "b", "c"}), "\ud800"]


@dataclass(frozen=True)
class Point:
    x: int
    y: int


def test_hashes_fit_a_signed_integer_and_differ() -> None:
    hashes = [key_hash(key) for key in [*KEYS, Point(1, 2), Point(2, 1)]]

    assert len(set(hashes)) == len(hashes)
    assert all(0 <= each < 2**63 for each in hashes)


def test_equal_keys_have_equal_hashes() -> None:
    assert key_hash(1) == key_hash(True) == key_hash(1.0) == 1
    assert key_hash(Point(1, 2)) == key_hash(Point(1, 2))
    assert key_hash("an" + "n") == key_hash("ann")


def test_every_process_finds_the_same_hashes() -> None:
    program = (
        f"from handoff_actors.workers.stage_keys import key_hash; print([key_hash(key) for key in {KEYS!r}])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )

    assert found.stdout.strip() == repr([key_hash(key) for key in KEYS])
