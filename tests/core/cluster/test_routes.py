from handoff_actors.core.cluster.routes import FORGET_S, RETRY_S, Routes


def test_address_is_asked_until_a_try_fails() -> None:
    routes = Routes()

    before = routes.is_cut_off("a")
    routes.failed("a", now=1.0)

    assert not before
    assert routes.is_cut_off("a")
    assert not routes.is_cut_off("b")


def test_address_that_is_cut_off_is_tried_again_once_after_a_while() -> None:
    routes = Routes()
    routes.failed("a", now=1.0)

    tries = [
        routes.begin_retry("a", 1.0 + passed_s) for passed_s in (0.0, RETRY_S - 0.1, RETRY_S, RETRY_S + 99)
    ]

    assert tries == [False, False, True, False]
    assert routes.is_cut_off("a")


def test_address_that_answers_is_asked_again() -> None:
    routes = Routes()
    routes.begin_in_background("a")
    during = routes.is_cut_off("a"), routes.begin_retry("a", 1e9)

    routes.connected("a")

    assert during == (True, False)
    assert not routes.is_cut_off("a")
    assert not routes.begin_retry("a", 1e9)


def test_addresses_that_nothing_is_asked_of_are_forgotten() -> None:
    routes = Routes()
    routes.failed("a", now=0.0)

    routes.failed("b", now=RETRY_S + FORGET_S)

    assert not routes.is_cut_off("a")
    assert routes.is_cut_off("b")
