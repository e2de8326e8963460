"""`handoff keygen`: make a cluster key."""

from pathlib import Path

import click

from handoff_actors.cli.output.failures import one_line_errors
from handoff_actors.transport.keys import ClusterKey


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the key to this file, which only its owner may read. An existing file is not touched. [default: stdout]",
)
def keygen(output: Path | None) -> None:
    """Make a new cluster key: the one secret that all members of a cluster share.

    Anyone who has the key can run any code on every member. Give it to nodes and apps with --key-file, HANDOFF_KEY,
    HANDOFF_KEY_FILE or Session(key=...).
    """
    key = ClusterKey.generate()
    if output is None:
        click.echo(key.text())
        return
    with one_line_errors():
        try:
            key.write_to(output)
        except FileExistsError as error:
            raise click.ClickException(
                f"{output} exists already; a key that is in use must not be lost, so remove it yourself"
            ) from error
