"""A further Ctrl-C does not keep an interrupted program from cleaning up, whenever it comes."""

import signal

import pytest

from handoff_actors.client.process.interrupts import FirstInterrupt, after_interrupt


def test_further_interrupts_during_the_cleanup_do_nothing() -> None:
    steps = []
    with after_interrupt():
        signal.raise_signal(signal.SIGINT)
        steps.append("cleaned up")
    assert steps == ["cleaned up"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_further_interrupt_just_before_the_cleanup_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    enter, left = FirstInterrupt.__enter__, [signal.SIGINT, signal.SIGINT]

    def interrupted(self: FirstInterrupt) -> FirstInterrupt:
        if left:
            signal.raise_signal(left.pop())
        return enter(self)

    monkeypatch.setattr(FirstInterrupt, "__enter__", interrupted)
    test_further_interrupts_during_the_cleanup_do_nothing()
    assert left == []
