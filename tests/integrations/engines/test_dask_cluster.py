"""The workers of a Dask cluster as its scheduler tells of them."""

import pytest

from handoff_actors.integrations.engines.dask_cluster import DaskWorker


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("tcp://10.0.0.3:40331", "10.0.0.3"),
        ("tls://10.0.0.3:40331", "10.0.0.3"),
        ("tcp://[fd00::3]:40331", "fd00::3"),
        ("ws://worker3.example.org:40331", "worker3.example.org"),
        # A thread of this process.
        ("inproc://10.0.0.3/4711/8", ""),
    ],
)
def test_others_reach_a_worker_at_the_host_of_its_address(address: str, host: str) -> None:
    assert DaskWorker(address, address, {}).host == host


def test_a_worker_is_called_as_its_user_has_named_it() -> None:
    named = DaskWorker("tcp://10.0.0.3:40331", "big-3", {})
    unnamed = DaskWorker("tcp://10.0.0.3:40331", "tcp://10.0.0.3:40331", {})

    assert (named.label, str(named)) == ("big-3", "big-3 (tcp://10.0.0.3:40331)")
    assert (unnamed.label, str(unnamed)) == ("10.0.0.3:40331", "tcp://10.0.0.3:40331")
