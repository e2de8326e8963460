from collections.abc import Iterable

import pytest
from hypothesis import given, strategies as st

from handoff_actors.lru import LruCache


def kept(cache: LruCache[str, int], keys: Iterable[str]) -> str:
    return "".join(key for key in keys if key in cache)


def filled(
    capacity: int, keys: str, most_nbytes: float = float("inf"), nbytes: int = 0
) -> LruCache[str, int]:
    cache = LruCache[str, int](capacity, most_nbytes)
    for number, key in enumerate(keys):
        cache.put(key, number, nbytes)
    return cache


def test_the_entry_not_used_for_longest_makes_room() -> None:
    cache = filled(3, "abcd")

    assert kept(cache, "abcd") == "bcd"


def test_getting_an_entry_counts_as_use() -> None:
    cache = filled(3, "abc")

    assert cache.get("a") == 0
    cache.put("d", 3)

    assert kept(cache, "abcd") == "acd"


def test_looking_at_an_entry_does_not() -> None:
    cache = filled(3, "abc")

    assert cache.peek("a") == 0
    assert "a" in cache
    cache.put("d", 3)

    assert kept(cache, "abcd") == "bcd"


def test_putting_an_entry_again_replaces_it_and_counts_as_use() -> None:
    cache = filled(3, "abca")
    cache.put("d", 4)

    assert kept(cache, "abcd") == "acd"
    assert cache.peek("a") == 3


def test_an_entry_that_is_gone_is_none() -> None:
    cache = filled(1, "ab")

    assert cache.get("a") is cache.peek("a") is None


def test_bytes_count_too() -> None:
    cache = filled(9, "abc", most_nbytes=10, nbytes=4)

    assert kept(cache, "abc") == "bc"


def test_an_entry_that_is_too_large_is_not_kept() -> None:
    cache = filled(9, "ab", most_nbytes=10, nbytes=4)

    cache.put("c", 2, 11)

    assert kept(cache, "abc") == ""


@pytest.mark.parametrize(("nbytes", "left"), [(6, "ab"), (7, "b")])
def test_a_replaced_entry_gives_its_bytes_back(nbytes: int, left: str) -> None:
    cache = filled(9, "ab", most_nbytes=10, nbytes=4)

    cache.put("b", 2, nbytes)

    assert kept(cache, "ab") == left


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef"), st.integers(0, 6))))
def test_it_keeps_what_a_list_in_the_order_of_use_would(uses: list[tuple[bool, str, int]]) -> None:
    cache = LruCache[str, int](4, 10)
    model: list[tuple[str, int]] = []
    for is_put, key, nbytes in uses:
        entry = next((entry for entry in model if entry[0] == key), None)
        if is_put:
            cache.put(key, nbytes, nbytes)
            model = [*(each for each in model if each is not entry), (key, nbytes)]
            while len(model) > 4 or sum(size for _, size in model) > 10:
                model.pop(0)
        else:
            assert cache.get(key) == (None if entry is None else entry[1])
            model.sort(key=lambda each: each is entry)

    assert kept(cache, "abcdef") == "".join(sorted(key for key, _ in model))


def test_putting_tells_how_many_bytes_made_room() -> None:
    cache: LruCache[str, int] = LruCache(2, 100)

    assert (cache.put("a", 1, 60), cache.put("b", 2, 30), cache.put("c", 3, 50)) == (0, 0, 60)
    assert cache.put("d", 4, 200) == 280
