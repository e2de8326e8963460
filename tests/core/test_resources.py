import pytest

from handoff_actors.core.resources import ResourceLedger, summed


def test_ten_claims_of_a_tenth_fit_and_an_eleventh_does_not() -> None:
    ledger = ResourceLedger({"cpu": 1})

    for _ in range(10):
        ledger.claim({"cpu": 0.1})

    assert not ledger.fits({"cpu": 0.1})
    ledger.check()


def test_claim_that_does_not_fit_raises_and_takes_nothing() -> None:
    ledger = ResourceLedger({"cpu": 1, "memory": 10})

    with pytest.raises(AssertionError, match="does not fit"):
        ledger.claim({"cpu": 1, "memory": 11})

    assert ledger.spare() == {"cpu": 1, "memory": 10}


def test_releasing_twice_raises() -> None:
    ledger = ResourceLedger({"cpu": 1})
    claim = ledger.claim({"cpu": 1})
    ledger.release(claim)

    with pytest.raises(AssertionError, match="is not claimed"):
        ledger.release(claim)


def test_whole_devices_are_exclusive_and_shares_fill_up_one_that_is_shared() -> None:
    ledger = ResourceLedger({"gpu": 3})

    claims = [ledger.claim({"gpu": amount}) for amount in (0.5, 0.5, 2)]

    assert [claim.devices for claim in claims] == [(0,), (0,), (1, 2)]


def test_whole_device_waits_where_every_device_is_shared() -> None:
    ledger = ResourceLedger({"gpu": 2})
    ledger.claim({"gpu": 0.6})
    ledger.claim({"gpu": 0.6})

    assert ledger.devices_for({"gpu": 0.6}) is None
    assert not ledger.fits({"gpu": 0.5 + 0.1})
    assert ledger.could_ever_hold({"gpu": 2})


def test_no_devices_are_given_for_a_claim_of_none() -> None:
    ledger = ResourceLedger({"gpu": 1})

    assert ledger.claim({"gpu": 0}).devices == ()
    assert ledger.how_many_fit({"gpu": 0}, at_most=9) == 9


def test_device_that_was_redeclared_away_and_back_is_still_taken() -> None:
    ledger = ResourceLedger({"gpu": 3})
    claims = [ledger.claim({"gpu": 1}) for _ in range(3)]

    ledger.redeclare({"gpu": 1})
    ledger.release(claims[0])
    ledger.redeclare({"gpu": 3, "cpu": 1})

    assert ledger.devices_for({"gpu": 1}) == (0,)
    assert ledger.spare() == {"gpu": 1, "cpu": 1}
    ledger.check()


def test_claims_beyond_redeclared_totals_keep_everything_else_out() -> None:
    ledger = ResourceLedger({"cpu": 4})
    claim = ledger.claim({"cpu": 3})

    ledger.redeclare({"cpu": 2})

    assert not ledger.fits({"cpu": 1})
    assert ledger.spare() == {"cpu": 0}
    ledger.release(claim)
    assert ledger.spare() == {"cpu": 2}


def test_claims_are_made_all_or_none() -> None:
    ledger = ResourceLedger({"cpu": 2.0, "gpu": 1.0})

    assert ledger.claim_all([{"cpu": 1.0}, {"gpu": 1.0}, {"cpu": 2.0}]) is None
    assert len(ledger) == 0
    claims = ledger.claim_all([{"cpu": 1.0}, {"gpu": 1.0}])
    assert claims is not None
    assert [claim.devices for claim in claims] == [(), (0,)]
    ledger.check()


def test_what_would_fit_is_told_without_a_change() -> None:
    ledger = ResourceLedger({"cpu": 2.0, "gpu": 2.0})
    first, second = ledger.claim({"gpu": 1.0}), ledger.claim({"gpu": 1.0, "cpu": 1.0})

    assert not ledger.would_fit([{"gpu": 1.0}], [])
    assert ledger.would_fit([{"gpu": 1.0}, {"cpu": 1.0}], [first])
    assert not ledger.would_fit([{"gpu": 1.0}, {"cpu": 2.0}], [first])
    assert ledger.would_fit([{"gpu": 2.0}, {"cpu": 2.0}], [first, second])
    assert ledger.claimed == {"cpu": 1.0, "gpu": 2.0}
    ledger.check()


def test_amounts_are_summed_by_resource() -> None:
    assert summed({"cpu": 1.0}, {}, {"gpu": 1.0, "cpu": 0.5}) == {"cpu": 1.5, "gpu": 1.0}
    assert summed() == {}
