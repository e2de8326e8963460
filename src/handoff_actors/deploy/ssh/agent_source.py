"""The agent as text: what is sent to a machine's Python, and the words by which a machine's shell comes to run it.

The words of the first step are read by whatever login shell the user has there, so they have no character that sh, csh and
fish take in different ways within quotes, and are few, as csh has short words. The second step is read by sh alone.
"""

import base64
import zlib
from functools import cache
from importlib.resources import files
from typing import Final

_PACKAGE: Final = "handoff_actors.deploy.ssh.remote"
#: Each after those that it imports.
_MODULES: Final = (
    "channel",
    "processes",
    "places",
    "interpreters",
    "install",
    "sessions",
    "start",
    "own_address",
    "tasks",
    "main",
)
_NAMES: Final = "python3 python3.14 python3.13 python3.12 python3.11 python"
#: Where administrators and users put programs that the PATH of such a connection often lacks.
_MORE_PATHS: Final = "$HOME/.local/bin:/usr/local/bin:/opt/handoff/bin"
#: Reads one line by single bytes, so that what follows it is left for the agent.
_LOADER: Final = (
    "import sys; exec(open(0, sys.argv[2], 0, None, None, None, False).readline())  # handoff's agent"
)


def first_words(marker: str) -> str:
    """The command that ssh runs: says that the machine is reached, and takes the next step from stdin."""
    return f"exec /bin/sh -c 'echo {marker} reached; IFS= read -r step; eval \"$step\"'"


def second_step(marker: str) -> str:
    """A line for sh: finds a Python that is late enough among those given, or the usual ones, and has it run the agent.

    The next line on stdin is the one that was given, or empty.
    """
    return (
        'IFS= read -r given; case "$given" in "~/"*) given="$HOME/${given#??}";; esac; seen=; '
        f'if [ -n "$given" ]; then set -- "$given"; else set -- {_NAMES}; fi; '
        f'path=$PATH; PATH="$PATH:{_MORE_PATHS}"; '
        'for name in "$@"; do python=$(command -v "$name" 2>/dev/null) || continue; '
        "version=$(\"$python\" -c 'import sys; print(sys.version.split()[0]); sys.exit(sys.version_info < (3, 11))' "
        "</dev/null 2>/dev/null); status=$?; "
        'if [ "$status" -eq 0 ] && [ -n "$version" ]; then PATH=$path; '
        f'echo "{marker} python"; exec "$python" -P -c "{_LOADER}" {marker} rb; fi; '
        '[ -z "$version" ] || seen="$seen $version ($python)"; done; '
        f'echo "{marker} none$seen"'
    )


@cache
def agent() -> str:
    """The agent as one line of Python."""
    source = "\n".join(
        (
            f"modules = {[(f'{_PACKAGE}.{name}', _source_of(name)) for name in _MODULES]!r}",
            "import sys, types",
            "for name, source in modules:",
            "    module = sys.modules[name] = types.ModuleType(name)",
            "    exec(compile(source, name, 'exec'), module.__dict__)",
            "module.main(sys.argv[1])",
        )
    )
    packed = base64.b64encode(zlib.compress(source.encode(), 9)).decode("ascii")
    return f'import base64, zlib; exec(zlib.decompress(base64.b64decode("{packed}")))'


def _source_of(name: str) -> str:
    return files(_PACKAGE).joinpath(f"{name}.py").read_text(encoding="utf-8")
