import logging

import pytest

from handoff_actors.actors.node.protocol_errors import QUIET_S, ProtocolErrors


def test_each_is_counted_and_few_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    grievances = ProtocolErrors("n1", lambda: now)

    for _ in range(1000):
        grievances.note("stranger refused", "it holds another key")
    grievances.note("malformed message", "nonsense", b"\x01")
    now += QUIET_S
    grievances.note("stranger refused", "it hung up")

    assert grievances.counts == {"stranger refused": 1001, "malformed message": 1}
    assert [(record.message, vars(record)["times"]) for record in caplog.records] == [
        ("stranger refused", 1),
        ("malformed message", 1),
        ("stranger refused", 1000),
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
