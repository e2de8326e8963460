import pytest

from handoff_actors.errors import VersionMismatch
from handoff_actors.wire.interpreter import PYTHON
from handoff_actors.wire.messages import PROTOCOL
from handoff_actors.wire.versions import VERSION, check_versions


def test_members_of_one_protocol_and_one_python_work_together_whatever_their_version() -> None:
    check_versions("n1", PROTOCOL, "0.0.9", PYTHON)


@pytest.mark.parametrize(("protocol", "python"), [(PROTOCOL + 1, PYTHON), (PROTOCOL, "3.99")])
def test_a_mismatch_names_both_sides(protocol: int, python: str) -> None:
    with pytest.raises(VersionMismatch) as caught:
        check_versions("n1", protocol, "9.9.9", python)

    text = str(caught.value)
    assert f"n1 runs handoff_actors 9.9.9 (protocol {protocol}) on Python {python}" in text
    assert f"this side runs {VERSION} (protocol {PROTOCOL}) on Python {PYTHON}" in text
