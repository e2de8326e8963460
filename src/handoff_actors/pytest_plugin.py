"""The fixture `handoff_cluster`, for tests of code that uses a cluster. pytest finds it by itself."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handoff_actors.client.local_cluster import LocalCluster


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini options `handoff_nodes` and `handoff_cpu`, see pytest."""
    parser.addini("handoff_nodes", "The number of nodes that handoff_cluster has.", default="2")
    parser.addini("handoff_cpu", "The number of cores that each of its nodes offers.", default="1")


@pytest.fixture(scope="session")
def handoff_cluster(request: pytest.FixtureRequest) -> "Iterator[LocalCluster]":
    """A `LocalCluster` for all tests of the session, and of each worker of pytest-xdist.

    Parametrized indirectly, the fixture takes options of `LocalCluster`, which win over those of the ini file.
    """
    from handoff_actors.client.local_cluster import LocalCluster  # noqa: PLC0415 - only those who use it should wait for it

    options: dict[str, Any] = {
        "nodes": _number(request.config, "handoff_nodes", int),
        "cpu": _number(request.config, "handoff_cpu", float),
        **getattr(request, "param", {}),
    }
    with LocalCluster(**options) as cluster:
        yield cluster


def _number(config: pytest.Config, name: str, kind: type[int] | type[float]) -> float:
    text = config.getini(name)
    try:
        return kind(text)
    except ValueError as error:
        raise pytest.UsageError(f"{name} = {text}: it must be a number") from error
