"""The options of the commands that reach machines over SSH."""

import shlex

import click


class SshWords(click.ParamType):  # type: ignore[type-arg]  # generic in late versions of click only
    """The ssh to use, with options of its own."""

    name = "command"

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        try:
            words = tuple(shlex.split(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if not words:
            self.fail("it names no program", param, ctx)
        return words


ssh_option = click.option(
    "--ssh",
    "ssh_words",
    type=SshWords(),
    default=(),
    metavar="COMMAND",
    help='The ssh to use, with options, for example "ssh -F my_config". [default: ssh; for a host that is up, as it was reached]',
)
python_option = click.option(
    "--python",
    default="",
    metavar="PATH",
    help="The Python to use on the hosts. [default: one in the PATH there that has handoff_actors]",
)
parallel_option = click.option(
    "--parallel",
    type=click.IntRange(min=1),
    # SSH servers, such as a jump host, let ten strangers in at once unless told otherwise (MaxStartups).
    default=8,
    show_default=True,
    metavar="N",
    help="Work on so many hosts at once.",
)
