"""`handoff logs`: the log of a node that `handoff up` has started."""

import asyncio
import codecs
import sys

import click

from handoff_actors.cli.options.ssh import python_option, ssh_option
from handoff_actors.cli.output.failures import one_line_errors
from handoff_actors.deploy.ssh.conversation import SshCommand
from handoff_actors.deploy.ssh.down import ssh_for
from handoff_actors.deploy.ssh.hosts import read_hosts
from handoff_actors.deploy.ssh.logs import show_log
from handoff_actors.deploy.ssh.record import UpRecord
from handoff_actors.escaping import escape_text


@click.command()
@click.argument("host")
@ssh_option
@python_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what the log gets, until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    metavar="N",
    help="Show so many of the last lines.",
)
def logs(host: str, ssh_words: tuple[str, ...], python: str, *, follow: bool, lines: int) -> None:
    """Show the log of the node that `handoff up` has started on HOST, also of one that has ended by itself."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def show(chunk: bytes) -> None:
        text = decoder.decode(chunk)
        # Functions print there, too.
        click.echo(escape_text(text) if sys.stdout.isatty() else text, nl=False)

    with one_line_errors():
        (name,) = read_hosts([host])
        ssh = ssh_for(name, SshCommand(ssh_words, python), UpRecord())
        asyncio.run(show_log(ssh, name, lines, follow=follow, show=show))
