"""Options that several commands have, and the types of their values."""

from collections.abc import Callable, Sequence
from functools import wraps
from math import isfinite
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from handoff_actors.addresses import check_destination, split_address
from handoff_actors.errors import InvalidAddressError, InvalidKeyError
from handoff_actors.graph.environment import is_env_vars
from handoff_actors.text import MAX_NAME_BYTES, NAME_RULE, is_name
from handoff_actors.transport.credentials import INSECURE_VARIABLE, Credentials
from handoff_actors.transport.keys import (
    ALSO_ACCEPT_VARIABLE,
    KEY_FILE_VARIABLE,
    KEY_VARIABLE,
    ClusterKey,
)

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Address(click.ParamType):  # type: ignore[type-arg]  # generic in late versions of click only
    """The address of a node."""

    name = "address"

    def __init__(self, check: Callable[[str], object]) -> None:
        """Have `check` raise InvalidAddressError for addresses that are none."""
        self._check = check

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click.ParamType."""
        try:
            self._check(value)
        except InvalidAddressError as error:
            self.fail(str(error), param, ctx)
        return value

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Split HANDOFF_SEEDS at commas, as `Session` does."""
        return [address.strip() for address in rv.split(",") if address.strip()]


class Amount(click.ParamType):  # type: ignore[type-arg]  # as above
    """An amount of a resource."""

    name = "amount"

    def convert(
        self, value: str | tuple[str, float], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        resource, _, amount = value.partition("=")
        try:
            return resource, float(amount)
        except ValueError:
            self.fail(f"{value!r} is not an amount of a resource; one looks like gpu=2", param, ctx)


class VariableType(click.ParamType):  # type: ignore[type-arg]  # as above
    """An environment variable."""

    name = "variable"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not (equals and is_env_vars({name: text})):
            self.fail(f"{value!r} is not a variable; one looks like LEVEL=3", param, ctx)
        return name, text


class Seconds(click.FloatRange):
    """A number of seconds: neither infinite nor NaN, which is in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        seconds: float = super().convert(value, param, ctx)
        if not isfinite(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


class Duration(click.ParamType):  # type: ignore[type-arg]  # as above
    """A time span: a number of seconds, or of minutes, hours or days with the unit behind it."""

    name = "duration"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        if isinstance(value, float):
            return value
        text = value.strip()
        number, factor = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
        try:
            seconds = float(number) * factor
        except ValueError:
            seconds = -1.0
        if not (isfinite(seconds) and seconds >= 0):
            self.fail(f"{value!r} is no time span; one looks like 90, 90s, 5m, 1.5h or 2d", param, ctx)
        return seconds


class NodeNameType(click.ParamType):  # type: ignore[type-arg]  # as above
    """The name of a node."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click.ParamType."""
        if not is_name(value):
            self.fail(f"{value[:MAX_NAME_BYTES]!r}: {NAME_RULE}", param, ctx)
        return value


class KeyFile(click.ParamType):  # type: ignore[type-arg]  # as above
    """A file with the cluster key."""

    name = "file"

    def convert(
        self, value: str | ClusterKey, param: click.Parameter | None, ctx: click.Context | None
    ) -> ClusterKey:
        """See click.ParamType."""
        if isinstance(value, ClusterKey):
            return value
        try:
            return ClusterKey.from_file(value)
        except InvalidKeyError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """See click.ParamType."""
        del ctx, param
        return [CompletionItem(incomplete, type="file")]


DURATION = Duration()
ADDRESS = Address(check_destination)
LISTEN_ADDRESS = Address(split_address)
AMOUNT = Amount()
NODE_NAME = NodeNameType()
VARIABLE = VariableType()

_key_option = click.option(
    "--key-file",
    "key",
    metavar="FILE",
    type=KeyFile(),
    help="File with the cluster key, see `handoff keygen`. "
    f"[env vars: {KEY_VARIABLE}, {KEY_FILE_VARIABLE}; default: this user's own key, for this machine only]",
)
_also_accept_option = click.option(
    "--also-accept",
    metavar="FILE",
    type=KeyFile(),
    help="File with another key that members may have, while the cluster's key is replaced. "
    f"[env var: {ALSO_ACCEPT_VARIABLE}]",
)
_insecure_option = click.option(
    "--insecure",
    is_flag=True,
    help="Use no key, as the other side must, too: anyone who can reach a node can run any code on it. "
    f"[env var: {INSECURE_VARIABLE}=1]",
)


def credentials_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for the key; the command gets them as `credentials`."""

    @_key_option
    @_also_accept_option
    @_insecure_option
    @wraps(command)
    def with_credentials(
        *args: Any,
        key: ClusterKey | None,
        also_accept: ClusterKey | None,
        insecure: bool,
        **options: Any,
    ) -> None:
        try:
            credentials = Credentials.chosen(key, also_accept=also_accept, insecure=insecure)
        except InvalidKeyError as error:
            raise click.UsageError(str(error)) from error
        command(*args, credentials=credentials, **options)

    return with_credentials
