import os

import pytest

from handoff_actors.workers.child.devices import Devices


@pytest.mark.parametrize(
    ("own", "announced", "seen"),
    [
        ("", "0,2", "0,2"),
        ("2,3,5", "0,2", "2,5"),
        ("GPU-8932f937, GPU-1f2e3d4c", "1", "GPU-1f2e3d4c"),
        ("2,3", "", ""),
        ("2,3", None, "2,3"),
    ],
)
def test_devices_are_those_that_the_node_itself_was_given(
    own: str, announced: str | None, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", own)
    devices = Devices(lambda: None)

    devices.expose("0")
    devices.expose(announced)

    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_without_a_list_devices_are_those_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    devices = Devices(lambda: None)

    devices.expose("0,1")
    shown = os.environ["CUDA_VISIBLE_DEVICES"]
    devices.expose(None)

    assert shown == "0,1"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
