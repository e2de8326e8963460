"""The environment of a function, beyond its node's own: variables, and a directory to work in."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Self

from msgspec import Struct


class Environment(Struct, frozen=True):
    """The environment that a function, or a run, asks for."""

    #: Names and values, sorted.
    env_vars: tuple[tuple[str, str], ...] = ()
    #: Path of a directory; None: the node's own.
    working_dir: str | None = None

    @classmethod
    def of(cls, env_vars: Mapping[str, str] | None, working_dir: str | PurePath | None) -> Self | None:
        """Make an environment of these; None if they ask for nothing."""
        if not env_vars and working_dir is None:
            return None
        directory = None if working_dir is None else str(working_dir)
        return cls(tuple(sorted((env_vars or {}).items())), directory)

    def within(self, outer: "Environment | None") -> "Environment":
        """Merge a function's environment with `outer`, its run's. Where both set something, the function's wins."""
        if outer is None:
            return self
        merged = {**dict(outer.env_vars), **dict(self.env_vars)}
        directory = outer.working_dir if self.working_dir is None else self.working_dir
        return Environment(tuple(sorted(merged.items())), directory)


def is_env_vars(value: object) -> bool:
    """True if these can be environment variables: strings by name."""
    return isinstance(value, Mapping) and all(map(_is_variable, value.items()))


def is_directory_name(value: object) -> bool:
    """True if this can be the path of a directory, existing or not."""
    return isinstance(value, str | PurePath) and value != ""


def _is_variable(item: tuple[object, object]) -> bool:
    name, value = item
    if not (isinstance(name, str) and isinstance(value, str)):
        return False
    return name != "" and "=" not in name and "\0" not in name + value
