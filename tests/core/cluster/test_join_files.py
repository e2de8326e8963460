from handoff_actors.core.cluster.join_files import (
    FIRST_PAUSES_S,
    LONELY_PAUSE_S,
    REMOVE_S,
    STALE_S,
    TOUCH_S,
    JoinEntry,
    age_of,
    of_cluster,
    pause_s,
)


def entry(name: str, cluster: str = "ours") -> JoinEntry:
    return JoinEntry(name, f"tcp://{name}:7070", f"{name}-1", cluster)


def test_a_file_is_stale_once_its_member_should_have_touched_it_several_times() -> None:
    assert age_of(1000.0, 1000.0 + 4 * TOUCH_S) == "current"
    assert age_of(1000.0, 1000.0 + STALE_S + 1) == "stale"
    assert age_of(1000.0, 1000.0 + REMOVE_S + 1) == "old"


def test_a_file_from_the_future_is_current() -> None:
    assert age_of(1000.0, 0.0) == "current"


def test_members_with_another_key_are_none_of_this_cluster() -> None:
    entries = [entry("n2"), entry("n1"), entry("other", "theirs"), entry("old", "also ours")]

    assert of_cluster(entries, ["ours", "also ours"]) == [entry("n1"), entry("n2"), entry("old", "also ours")]


def test_members_that_start_together_look_again_soon_and_later_seldom() -> None:
    assert [pause_s(looks, is_alone=False) for looks in (1, 2, 100)] == [*FIRST_PAUSES_S[:2], TOUCH_S]


def test_a_lonely_member_goes_on_looking_often() -> None:
    assert pause_s(1, is_alone=True) == FIRST_PAUSES_S[0]
    assert pause_s(100, is_alone=True) == LONELY_PAUSE_S
