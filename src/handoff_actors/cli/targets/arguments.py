"""Arguments of a function that makes a DAG: words of the command line, converted as its annotations ask for."""

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Final

import click
import msgspec

from handoff_actors.escaping import escape_name
from handoff_actors.text import repr_of, shortened

#: Characters of a signature in an error.
_MOST_OF_SIGNATURE: Final = 300


class BoundArguments(msgspec.Struct, frozen=True):
    """The arguments of one call."""

    positional: Sequence[Any]
    named: Mapping[str, Any]


def bind(name: str, function: Callable[..., object], words: Sequence[str]) -> BoundArguments:
    """Convert words, each VALUE or NAME=VALUE, to the arguments of a function.

    A value is what the parameter's annotation says; JSON where it asks for lists and the like. Without an annotation
    it is JSON, or else text. Raises click.UsageError, which shows the signature.
    """
    positional, named = _split(words)
    signature = _signature(function)
    if signature is None:
        return BoundArguments(
            list(map(_guess, positional)), {key: _guess(text) for key, text in named.items()}
        )
    try:
        bound = _bound(signature, positional, named)
        for key, given in bound.arguments.items():
            bound.arguments[key] = _converted(signature.parameters[key], given)
    except (TypeError, msgspec.ValidationError) as error:
        shown = f"{name.rpartition(':')[2]}{signature.replace(return_annotation=signature.empty)}"
        shown = escape_name(shortened(shown, _MOST_OF_SIGNATURE))
        raise click.UsageError(
            f"{name}: {error}. The signature is {shown}; arguments follow it, each as VALUE or NAME=VALUE"
            + _example(name, signature)
        ) from None
    return BoundArguments(bound.args, bound.kwargs)


def _split(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    positional: list[str] = []
    named: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (equals and name.isidentifier()):
            positional.append(word)
        elif name in named:
            raise click.UsageError(f"argument {name!r} is given twice")
        else:
            named[name] = text
    return positional, named


def _signature(function: Callable[..., object]) -> inspect.Signature | None:
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:  # noqa: BLE001 - annotations that are strings are users' code, and refer to what only type checkers see
        try:
            return inspect.signature(function)
        except (TypeError, ValueError):
            # Some callables of extension modules have none.
            return None


def _bound(
    signature: inspect.Signature, positional: Sequence[str], named: Mapping[str, str]
) -> inspect.BoundArguments:
    """Bind words to parameters. Raises TypeError."""
    parameters = signature.parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        unknown = next((name for name in named if name not in signature.parameters), None)
        # Python would complain of the missing one first, though it is there and misspelt.
        if unknown is not None:
            raise TypeError(f"there is no parameter {unknown!r}")
    return signature.bind(*positional, **named)


def _example(name: str, signature: inspect.Signature) -> str:
    names = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    return f", as in: {name} {' '.join(f'{name}=...' for name in names)}" if names else ""


def _converted(parameter: inspect.Parameter, given: Any) -> object:
    """Convert the words for one parameter. Raises msgspec.ValidationError."""

    def convert(text: str) -> object:
        try:
            return _value(text, parameter.annotation)
        except msgspec.ValidationError as error:
            kind = inspect.formatannotation(parameter.annotation)
            # It names types of JSON, which the user has not written, unless it is about a part of a list.
            where = f": {error}" if "$" in str(error) else ""
            hint = ", in JSON" if re.search("`(array|object)", str(error)) and not where else ""
            raise msgspec.ValidationError(
                f"{parameter.name}={repr_of(text)} is no {kind}{hint}{where}"
            ) from None

    match parameter.kind:
        case inspect.Parameter.VAR_POSITIONAL:
            return tuple(map(convert, given))
        case inspect.Parameter.VAR_KEYWORD:
            return {key: convert(text) for key, text in given.items()}
        case _:
            return convert(given)


def _value(text: str, annotation: Any) -> object:
    """Convert a word. Raises msgspec.ValidationError."""
    if annotation is str:
        return text
    if annotation is bytes:
        return text.encode()
    if annotation in {inspect.Parameter.empty, Any, object} or isinstance(annotation, str):
        return _guess(text)
    try:
        return _typed(text, annotation)
    except msgspec.ValidationError:
        raise
    except Exception:  # noqa: BLE001 - a class of a user's may be no type that can be made of JSON, and its hooks raise anything
        return _guess(text)


def _typed(text: str, annotation: Any) -> object:
    guessed = _guess(text)
    if not isinstance(guessed, str):
        try:
            return msgspec.convert(guessed, annotation, dec_hook=_path)
        except msgspec.ValidationError:
            if isinstance(guessed, list | dict):
                raise
    # Also what JSON lacks: 1 for true, nan, dates, members of enums, paths.
    return msgspec.convert(text, annotation, strict=False, dec_hook=_path)


def _path(kind: type, value: object) -> object:
    if not issubclass(kind, PurePath):
        raise NotImplementedError
    if not isinstance(value, str):
        raise TypeError(f"a path is text, not {type(value).__name__}")
    return Path(value) if kind is Path else kind(value)


def _guess(text: str) -> Any:
    """Read a word as JSON, or else as the text that it is."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> None:
    raise ValueError(constant)
