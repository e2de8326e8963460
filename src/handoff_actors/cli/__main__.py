"""Makes `python -m handoff_actors.cli` the same as `handoff`."""

from handoff_actors.cli import main

if __name__ == "__main__":
    main(prog_name="handoff")
