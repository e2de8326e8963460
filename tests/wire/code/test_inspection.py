"""The code of functions and classes is found through what wraps it."""

import functools

from handoff_actors.wire.code.inspection import codes_of, names_in


def plain(number: int) -> int:
    return abs(number)


@functools.lru_cache
def cached(number: int) -> int:
    return abs(number)


class Owner:
    class Inner:
        def unseen(self) -> None: ...

    @property
    def value(self) -> int:
        return 1

    @staticmethod
    def fixed() -> list[int]:
        return sorted([1])


def test_code_is_found_within_wrappers_and_classes() -> None:
    assert set(codes_of(plain)) == {plain.__code__}
    assert [code.co_name for code in codes_of(cached)] == ["cached"]
    assert sorted(code.co_name for code in codes_of(Owner)) == ["fixed", "value"]
    assert list(codes_of(3)) == []


def test_function_that_wraps_itself_has_an_end() -> None:
    def circular() -> None: ...

    vars(circular)["__wrapped__"] = circular

    assert set(codes_of(circular)) == {circular.__code__}


def test_names_include_those_of_inner_functions() -> None:
    code = compile("import a.b\ndef f():\n    return c.d\n", "source", "exec")

    assert {"a.b", "c", "d"} <= set(names_in(code))
