"""The environment of a function, beyond its node's own: variables, and a directory to work in."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Final, Self

from msgspec import Struct

#: Characters of all variables of one environment, names included: more can't be passed to a process.
MOST_OF_VARIABLES: Final = 2 * 2**20
#: Characters of a path; the kernel takes no longer one.
MOST_OF_PATH: Final = 4096


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
    """True if these can be environment variables: strings by name, of which no process could have more."""
    return (
        isinstance(value, Mapping)
        and all(map(_is_variable, value.items()))
        and sum(len(name) + len(text) for name, text in value.items()) <= MOST_OF_VARIABLES
    )


def is_directory_name(value: object) -> bool:
    """True if this can be the path of a directory, existing or not."""
    if isinstance(value, PurePath):
        value = str(value)
    return (
        isinstance(value, str) and 0 < len(value) <= MOST_OF_PATH and "\0" not in value and _is_os_text(value)
    )


def os_bytes(text: str) -> bytes:
    """Return the bytes of a variable or a path: bytes that are not UTF-8 are lone surrogates in text, as in `os.environ`."""
    return text.encode(errors="surrogateescape")


def _is_variable(item: tuple[object, object]) -> bool:
    name, value = item
    if not (isinstance(name, str) and isinstance(value, str)):
        return False
    return name != "" and "=" not in name and "\0" not in name + value and _is_os_text(name + value)


def _is_os_text(text: str) -> bool:
    try:
        os_bytes(text)
    except UnicodeEncodeError:
        return False
    return True
