"""Options for what commands print."""

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs to read.")
