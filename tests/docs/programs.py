"""Programs that a reader would make of snippets."""

import subprocess
import sys

from tests.daemons import environment


def run_program(program: str) -> subprocess.CompletedProcess[str]:
    """Run it as `python -`; it must end well."""
    done = subprocess.run(
        [sys.executable, "-"],
        input=program,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    return done
