"""Pickling of objects of functools that pickle knows by name only, or not at all."""

import functools
from collections.abc import Callable, Mapping
from types import FunctionType, MappingProxyType
from typing import Any, Final

LruCacheWrapper: Final = type(functools.lru_cache(lambda: None))


def reduce_lru_cache(cached: Any) -> tuple[Any, ...]:
    """Reduce a function with a cache; the copy's cache is empty."""
    parameters = cached.cache_parameters()
    return _lru_cache, (cached.__wrapped__, parameters["maxsize"], parameters["typed"])


def _lru_cache(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Callable[..., Any]:
    return functools.lru_cache(maxsize, typed)(function)


def reduce_cached_property(prop: "functools.cached_property[Any]") -> tuple[Any, ...]:
    """Reduce a cached property without the lock that it has up to Python 3.11."""
    return _cached_property, (prop.func, prop.attrname)


def _cached_property(function: Callable[[Any], Any], name: str | None) -> "functools.cached_property[Any]":
    prop = functools.cached_property(function)
    prop.attrname = name
    return prop


def is_single_dispatch(function: FunctionType) -> bool:
    """True for what `functools.singledispatch` returns: a closure with weak references."""
    return function.__globals__ is vars(functools) and isinstance(
        vars(function).get("registry"), MappingProxyType
    )


def reduce_single_dispatch(function: Any) -> tuple[Any, ...]:
    """Reduce a generic function to its implementations by class."""
    return _single_dispatch, (dict(function.registry),)


def _single_dispatch(registry: Mapping[type, Callable[..., Any]]) -> Any:
    generic = functools.singledispatch(registry[object])
    for kind, implementation in registry.items():
        if kind is not object:
            generic.register(kind, implementation)
    return generic
