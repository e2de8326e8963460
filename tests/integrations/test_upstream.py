"""A part of what other projects ask of the interfaces that we offer; `scripts/upstream` runs all of it."""

import pytest

from tests.integrations import upstream

#: Each takes less than ten seconds on two cores that nothing else uses.
pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", upstream.SUITES)
def test_a_part_of_the_suite_passes(name: str) -> None:
    try:
        status, output = upstream.SUITES[name](few=True)
    except LookupError as missing:
        pytest.skip(str(missing))

    passed, failed, *_ = upstream.counts(output).split(", ")
    assert status == 0, output
    assert failed == "0 failed", output
    assert int(passed.split()[0]) >= 10, output
