"""The command that installs the packages of an extra, for errors about missing ones.

It takes the library from where this installation of it came: a folder, a Git address, an archive, or an index (PEP 610).
So it stays right when the library is released.
"""

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

_NAME: Final = "handoff-actors"


def how_to_install(extra: str) -> str:
    """Return the command, for people."""
    try:
        recorded = distribution(_NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        # The source itself is imported.
        return _from_folder(Path(__file__).parents[2], extra, is_editable=False)
    return command(extra, None if recorded is None else json.loads(recorded))


def command(extra: str, origin: dict[str, Any] | None) -> str:
    """Return the command for a record of the origin, see PEP 610; None: an index."""
    requirement = f"{_NAME}[{extra}]"
    match origin:
        case {"url": str(url), "dir_info": dict(facts)}:
            from urllib.request import url2pathname  # noqa: PLC0415 - it takes long, and most programs lack nothing

            folder = Path(url2pathname(urlsplit(url).path))
            return _from_folder(folder, extra, is_editable=bool(facts.get("editable")))
        case {"url": str(url), "vcs_info": {"vcs": str(kind), "commit_id": str(commit)}}:
            requirement = f"{requirement} @ {kind}+{url}@{commit}"
        case {"url": str(url)}:
            requirement = f"{requirement} @ {url}"
        case _:
            pass
    return f"pip install {shlex.quote(requirement)}"


def _from_folder(folder: Path, extra: str, *, is_editable: bool) -> str:
    option = "-e " if is_editable else ""
    return f"pip install {option}{shlex.quote(f'{folder}[{extra}]')}"
