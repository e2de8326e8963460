"""The command `handoff` of a version with another protocol."""

from handoff_actors.wire.messages import base

# Before anything else reads it.
base.PROTOCOL += 1

from handoff_actors.cli import main  # noqa: E402

if __name__ == "__main__":
    main(prog_name="handoff")
