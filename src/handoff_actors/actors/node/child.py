"""A node as the child of an app: a daemon that ends with the app, however that ends."""

import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TextIO

from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.actors.node.daemon import DaemonOptions, serve
from handoff_actors.actors.node.logs.setup import set_up_log
from handoff_actors.errors import HandoffError
from handoff_actors.transport.credentials import Credentials


def main() -> None:
    """Serve as argv says: [descriptor of a pipe to the app, level of logs, options as JSON, *sys.path].

    The app hears, as JSON, where the node serves or why it doesn't, and then the end of the pipe.
    """
    app, level, options = os.fdopen(int(sys.argv[1]), "w"), sys.argv[2], json.loads(sys.argv[3])
    set_up_log(level)

    def ready(node: NodeActor) -> AbstractContextManager[None]:
        _report(app, {"address": node.address, "incarnation": node.incarnation})
        return nullcontext()

    try:
        serve(DaemonOptions(credentials=Credentials.chosen(), **options), ready)
    except (HandoffError, OSError) as error:
        if app.closed:
            raise
        # The app has perhaps ended meanwhile.
        with suppress(BrokenPipeError):
            _report(app, {"error": str(error)})
        sys.exit(1)


def _report(app: TextIO, facts: dict[str, str]) -> None:
    with app:
        json.dump(facts, app)
