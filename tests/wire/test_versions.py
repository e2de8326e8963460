import pytest

from handoff_actors.errors import VersionMismatch
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.versions import VERSION, check_versions


@pytest.mark.parametrize("python", [PYTHON, "3.99"])
def test_members_of_one_protocol_work_together_whatever_else_they_run(python: str) -> None:
    check_versions("n1", PROTOCOL, "0.0.9", python)


def test_a_mismatch_names_both_sides() -> None:
    protocol, python = PROTOCOL + 1, "3.99"

    with pytest.raises(VersionMismatch) as caught:
        check_versions("n1", protocol, "9.9.9", python)

    text = str(caught.value)
    assert f"n1 runs handoff_actors 9.9.9 (protocol {protocol}) on Python {python}" in text
    assert f"this side runs {VERSION} (protocol {PROTOCOL}) on Python {PYTHON}" in text
