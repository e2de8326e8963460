"""Objects of multiprocessing within values."""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import process
from multiprocessing.managers import BaseManager, BaseProxy, SyncManager
from typing import Any

import pytest

from handoff_actors.errors import SerializationError
from handoff_actors.wire.code import managers
from handoff_actors.wire.payload import decode, encode, encode_code, load_code


@pytest.fixture(scope="module")
def manager() -> Iterator[SyncManager]:
    # Spawned, as a fork of a process with threads is a warning.
    with SyncManager(ctx=multiprocessing.get_context("spawn"), authkey=b"a key of its own") as manager:
        yield manager


@pytest.fixture
def own_key() -> Iterator[bytes]:
    """The key of this process, which a test may change."""
    before = process.current_process().authkey
    yield bytes(before)
    process.current_process().authkey = before


def test_proxy_travels_with_its_key(manager: SyncManager, own_key: bytes) -> None:
    queue = manager.Queue()

    copy = decode(encode({"deep": [queue]}).to_bytes())["deep"][0]
    copy.put(1)

    assert queue.get() == 1
    assert bytes(process.current_process().authkey) == own_key


def test_proxies_within_a_proxy_are_reached_where_keys_are_adopted(
    manager: SyncManager, own_key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer, inner = manager.dict(), manager.list([1])
    outer["inner"] = inner
    monkeypatch.setattr(managers._Adoption, "is_on", False)
    managers.adopt_keys()

    copy = decode(encode(outer).to_bytes())

    assert list(copy["inner"]) == [1]
    assert bytes(process.current_process().authkey) != own_key


def test_code_captures_proxies(manager: SyncManager) -> None:
    namespace = manager.Namespace()
    namespace.number = 1

    _, by_reference, encoded = encode_code(lambda: namespace.number)

    assert load_code(by_reference, encoded)() == 1


class _Mirror(BaseProxy):
    """A proxy with a way to travel of its own."""

    def __reduce__(self) -> Any:
        return dict, ([("RebuildProxy", 1)],)


def test_proxy_that_reduces_itself_is_asked(manager: SyncManager) -> None:
    kept: Any = manager.list()
    mirror = _Mirror(kept._token, "pickle", authkey=b"a key of its own")

    assert decode(encode(mirror).to_bytes()) == {"RebuildProxy": 1}


def test_proxy_of_an_object_that_is_gone_says_what_to_do(manager: SyncManager) -> None:
    encoded = encode(manager.list()).to_bytes()

    with pytest.raises(SerializationError, match="keep a proxy of it"):
        decode(encoded)


@pytest.mark.parametrize("address", [None, ("127.0.0.1", 0)])
def test_proxy_whose_manager_is_out_of_reach_says_what_to_do(address: Any) -> None:
    with SyncManager(address, ctx=multiprocessing.get_context("spawn")) as manager:
        encoded = encode(manager.Event()).to_bytes()

    with pytest.raises(SerializationError, match="can't be reached from here") as caught:
        decode(encoded)

    advice = "SyncManager(address=(host, port)" if address is None else "is it running"
    assert advice in str(caught.value)


REFUSED: dict[str, Callable[[], Any]] = {
    "queue": multiprocessing.Queue,
    "lock": multiprocessing.Lock,
    "event": multiprocessing.Event,
    "value": lambda: multiprocessing.Value("i"),
    "connection": lambda: multiprocessing.Pipe()[0],
    "manager": BaseManager,
}


@pytest.mark.parametrize("kind", REFUSED)
def test_objects_that_are_inherited_are_refused_with_the_way_to_do_it(kind: str) -> None:
    value = REFUSED[kind]()

    with pytest.raises(SerializationError, match=r"Queue\(\)"):
        encode([value])


def test_programs_without_multiprocessing_do_not_import_it() -> None:
    program = (
        "import sys; from handoff_actors.wire.payload import encode; encode(lambda: 1);"
        " sys.exit('multiprocessing' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
