"""The parameters of a function's code, and whether a call fits them.

They are read from code objects, which is exact and takes a microsecond. `inspect.signature` takes twenty, and follows
`__wrapped__` to parameters that a decorator may well supply by itself.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, Self

from msgspec import Struct
from msgspec.structs import replace

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph.function import Function, FunctionOptions
from handoff_actors.graph.placing import Skeleton
from handoff_actors.ids import FunctionId
from handoff_actors.text import near, repr_of

OPTIONS: Final = frozenset(FunctionOptions.__annotations__)


class Parameters(Struct, frozen=True):
    """The parameters of one function."""

    #: Those that can be given by position, in order.
    positional: tuple[str, ...]
    #: So many of them can't be given by name.
    only_positional: int
    only_keyword: frozenset[str]
    #: Those without a default.
    required: frozenset[str]
    takes_more_positional: bool
    takes_more_keywords: bool

    @classmethod
    def of(cls, code: object) -> Self | None:
        """Read the parameters of a callable; None where no code object tells, as for most that are written in C."""
        if isinstance(code, FunctionType):
            return cls._of_function(code)
        if isinstance(code, partial):
            parameters = cls.of(code.func)
            return None if parameters is None else parameters._bound(code.args, code.keywords)  # noqa: SLF001 - its own class
        if isinstance(code, MethodType):
            method: object = code.__func__
        elif type(code) is type:
            method = vars(code).get("__init__") if getattr(code, "__new__", None) is object.__new__ else None
        else:
            method = getattr(type(code), "__call__", None)  # noqa: B004 - the type's own is what is called
        return cls._of_function(method)._bound([None], {}) if isinstance(method, FunctionType) else None  # noqa: SLF001

    @classmethod
    def _of_function(cls, function: FunctionType) -> Self:
        code = function.__code__
        names, count = code.co_varnames, code.co_argcount
        only_keyword = frozenset(names[count : count + code.co_kwonlyargcount])
        with_default = names[count - len(function.__defaults__ or ()) : count]
        required = frozenset(names[:count]) - frozenset(with_default)
        return cls(
            names[:count],
            code.co_posonlyargcount,
            only_keyword,
            required | (only_keyword - frozenset(function.__kwdefaults__ or ())),
            bool(code.co_flags & _TAKES_MORE_POSITIONAL),
            bool(code.co_flags & _TAKES_MORE_KEYWORDS),
        )

    def _bound(self, args: Collection[object], keywords: Mapping[str, object]) -> Self:
        """Return what is left to give once these arguments are bound."""
        positional, only_keyword = self.positional[len(args) :], self.only_keyword
        bound_at = next((place for place, name in enumerate(positional) if name in keywords), None)
        if bound_at is not None:
            # The parameters behind it can't be given by position without giving it twice.
            only_keyword |= frozenset(positional[bound_at:])
            positional = positional[:bound_at]
        return replace(
            self,
            positional=positional,
            only_positional=max(0, self.only_positional - len(args)),
            only_keyword=only_keyword,
            required=self.required - frozenset(self.positional[: len(args)]) - frozenset(keywords),
            takes_more_positional=self.takes_more_positional and bound_at is None,
        )

    def by_name(self, count: int) -> frozenset[str]:
        """Return those that can be given by name, where `count` are given by position."""
        return self.only_keyword | frozenset(self.positional[max(count, self.only_positional) :])

    def counts(self) -> range:
        """Return the numbers of arguments by position with which it can be called without any by name."""
        if not self.required <= frozenset(self.positional):
            return range(0)
        least = max(
            (place + 1 for place, name in enumerate(self.positional) if name in self.required), default=0
        )
        return range(least, sys.maxsize if self.takes_more_positional else len(self.positional) + 1)

    def misfit(self, count: int, keywords: Collection[str]) -> str | None:
        """Return why a call with `count` arguments by position, and these by name, must fail; None if it need not."""
        if count > len(self.positional) and not self.takes_more_positional:
            return f"it takes {len(self.positional)} argument(s) by position, and is given {count}"
        by_name = self.by_name(count)
        unknown = () if self.takes_more_keywords else [name for name in keywords if name not in by_name]
        for name in unknown:
            if name in self.positional[:count]:
                return f"it is given {name!r} twice, by position and by name"
            if name in self.positional:
                return f"it is given {name!r} by name, and takes it by position alone"
            return f"it has no parameter {name!r}{_meant(name, by_name)}"
        missing = self.required - frozenset(self.positional[:count]) - frozenset(keywords)
        if missing:
            ordered = [name for name in (*self.positional, *sorted(self.only_keyword)) if name in missing]
            return f"it is given no {' and no '.join(map(repr, ordered))}"
        return None


#: As in `inspect`, which takes long to import and is not needed here for anything else.
_TAKES_MORE_POSITIONAL: Final = 0x04
_TAKES_MORE_KEYWORDS: Final = 0x08


def parameter_names(fn: Callable[..., object] | None) -> frozenset[str]:
    """Return the names of all parameters that can be given by name, as far as they are known."""
    parameters = Parameters.of(fn)
    return frozenset() if parameters is None else parameters.by_name(0)


def options_of(
    function_id: FunctionId, fn: Callable[..., object] | None, count: int, keywords: dict[str, Any]
) -> dict[str, Any]:
    """Split the keywords of a call: return the options of `Function`, with all others in `kwargs`.

    `count` arguments are given by position. Raises InvalidFunctionError where a name is both an option and a parameter.
    """
    others = () if OPTIONS.issuperset(keywords) else keywords.keys() - OPTIONS
    _check_options_are_no_parameters(function_id, fn, count, keywords)
    if not others:
        return keywords
    options = {name: value for name, value in keywords.items() if name not in others}
    given = options.get("kwargs", {})
    if not isinstance(given, Mapping):
        raise InvalidFunctionError(function_id, f"kwargs must map names to values, not {repr_of(given)}")
    twice = sorted(others & given.keys())
    if twice:
        raise InvalidFunctionError(function_id, f"{twice[0]} is given twice, by itself and in kwargs")
    # In the order in which they were given.
    options["kwargs"] = {**given, **{name: value for name, value in keywords.items() if name in others}}
    return options


def _check_options_are_no_parameters(
    function_id: FunctionId,
    fn: Callable[..., object] | None,
    count: int,
    keywords: Mapping[str, Any],
) -> None:
    parameters = Parameters.of(fn)
    if parameters is None:
        return
    in_kwargs = keywords.get("kwargs", ())
    for name in sorted((parameters.by_name(count) & keywords.keys() & OPTIONS) - {"kwargs"}):
        if name not in in_kwargs:
            raise InvalidFunctionError(
                function_id,
                f"{name} is a parameter of the function and an option of the run, too: pass kwargs={{{name!r}: ...}} for the"
                f" function's, and give the option with @handoff.task({name}=...), or beside kwargs",
            )


def check_calls(functions: Iterable[Function]) -> None:
    """Raise InvalidFunctionError for the first function whose arguments can't be those that its code takes."""
    known: dict[int, tuple[Parameters | None, range]] = {}
    latest: object = None
    parameters, counts = None, range(0)
    for function in functions:
        # This is done for each function of a graph, and nearly all calls are plain ones of the code that was called before.
        if function.code is not latest:
            latest, key = function.code, id(function.code)
            if key not in known:
                known[key] = _parameters_of(latest)
            parameters, counts = known[key]
        if parameters is None or (
            not function.kwargs
            and function.argument_inclusion == "variadic"
            and len(function.args) + len(function.extra_args) in counts
        ):
            continue
        _check_call(function, parameters)


def counts_of(code: object) -> range | None:
    """Return the numbers of plain arguments that a function takes; None where that is not known."""
    parameters, counts = _parameters_of(code)
    return None if parameters is None else counts


def _parameters_of(code: object) -> tuple[Parameters | None, range]:
    """Give the parameters of a function's code, and the numbers of plain arguments that fit them."""
    if not isinstance(code, FunctionType):
        return _read(code)
    # A service runs graphs of the same few functions again and again.
    key = id(code.__code__), len(code.__defaults__ or ()), tuple(code.__kwdefaults__ or ())
    recent = _recent.get(key)
    if recent is None:
        if len(_recent) >= _MOST_RECENT:
            _recent.clear()
        recent = _recent[key] = _Recent(code.__code__, *_read(code))
    return recent.parameters, recent.counts


def _read(code: object) -> tuple[Parameters | None, range]:
    parameters = Parameters.of(code)
    return parameters, range(0) if parameters is None else parameters.counts()


class _Recent(Struct, frozen=True):
    #: Kept, so that no other has the same identity.
    code: CodeType
    parameters: Parameters | None
    counts: range


_MOST_RECENT: Final = 256
#: By the identity of the code and its defaults. Graphs are compiled in several threads, one entry at a time.
_recent: Final[dict[tuple[int, int, tuple[str, ...]], _Recent]] = {}


def _check_call(function: Function, parameters: Parameters) -> None:
    # In a stream, code gets its state, or a batch: see `check_stage_call`.
    if function.init is None and function.batch_size is None and function.batch_timeout is None:
        reason = parameters.misfit(*_shape(function))
        if reason is not None:
            raise InvalidFunctionError(function.id, f"can't be called with its arguments: {reason}")


def check_stage_call(
    function_id: FunctionId, name: str, code: object, count: int, keywords: Collection[str] = ()
) -> None:
    """Raise InvalidFunctionError if code of a stage can't be called with so many arguments by position, and these by name."""
    parameters, _ = _parameters_of(code)
    reason = None if parameters is None else parameters.misfit(count, keywords)
    if reason is not None:
        called = "can't be called with its arguments" if name == "code" else f"its {name} can't be called so"
        raise InvalidFunctionError(function_id, f"{called}: {reason}")


def _shape(function: Function) -> tuple[int, Collection[str]]:
    inclusion = function.argument_inclusion
    if isinstance(inclusion, Skeleton):
        count = len(inclusion.args) + len(function.extra_args)
        return count, [*inclusion.kwargs, *function.kwargs] if inclusion.kwargs else function.kwargs
    from_args = 1 if inclusion == "as_list" else len(function.args)
    return from_args + len(function.extra_args), function.kwargs


def _meant(name: str, parameters: Iterable[str]) -> str:
    found = near(name, parameters)
    if found:
        return f"; did you mean {' or '.join(found)}?"
    options = near(name, OPTIONS)
    return f"; did you mean the option {' or '.join(options)}?" if options else ""
