import pytest

from handoff_actors.time_spans import is_time_span, seconds_in


@pytest.mark.parametrize(
    ("span", "seconds"),
    [(5, 5.0), (0.5, 0.5), ("30s", 30.0), ("1.5m", 90.0), ("12h", 43200.0), ("7d", 604800.0)],
)
def test_spans_are_numbers_of_seconds_or_text_with_a_unit(span: object, seconds: float) -> None:
    assert seconds_in("ttl", span) == seconds


@pytest.mark.parametrize("span", [0, -1, "", "7", "d", "7w", "-7d", True, None, float("inf"), "nans"])
def test_anything_else_is_refused(span: object) -> None:
    with pytest.raises(ValueError, match=r"ttl=.*: it is a number of seconds, or text such as"):
        seconds_in("ttl", span)


def test_a_span_can_be_checked_without_an_error() -> None:
    assert is_time_span("30d")
    assert not is_time_span("soon")
