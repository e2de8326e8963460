"""The installation that `up --install` makes where a machine has no handoff_actors: an environment of its own.

It is made of what the command has sent. Packages for another Python than the command's are got by the machine's own pip.
"""

import base64
import io
import subprocess
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from handoff_actors.deploy.ssh.remote.channel import AgentRefused, CommandLink
from handoff_actors.deploy.ssh.remote.interpreters import Interpreter, asked
from handoff_actors.deploy.ssh.remote.places import install_place, is_whole, mark, remove, remove_installation

_LOOKS_EVERY_S = 0.2
#: For an index and a network that are slow.
_PIP_S = 600.0
_VENV_S = 120.0
_SENT_S = 600.0


class SentPackages(NamedTuple):
    """The packages that the command has sent."""

    #: The name of its wheel, and its content.
    wheel: str
    content: bytes
    #: A zip of its dependencies' files; None where they would not work with the machine's Python.
    dependencies: bytes | None


def installed(digest: str) -> Path | None:
    """The interpreter of the installation of this digest, if there is a whole one."""
    directory = install_place() / digest
    return directory / "bin" / "python" if is_whole(directory) else None


def received(link: CommandLink, within_s: float = _SENT_S) -> SentPackages:
    """Take the packages. Raises CommandGone."""
    message = link.hear(within_s)
    dependencies: Any = message["dependencies"]
    return SentPackages(
        message["wheel"],
        base64.b64decode(message["content"]),
        None if dependencies is None else base64.b64decode(dependencies),
    )


def install(link: CommandLink, base: Interpreter, digest: str, sent: SentPackages) -> Interpreter:
    """Make an installation. Raises AgentRefused, CommandGone, OSError, leaving what there is by then to `remove_all`."""
    directory = install_place() / digest
    if directory.exists() and not remove_installation(directory):
        raise AgentRefused(
            f"{directory} is in the way there, and was not made by `handoff up`: remove it yourself"
        )
    directory.mkdir(mode=0o700)
    mark(directory, whole=False)
    python = directory / "bin" / "python"
    own_packages = sent.dependencies is not None
    pip = () if own_packages else ("pip",)
    made = _run(
        link, [base.path, "-m", "venv", *(() if pip else ("--without-pip",)), str(directory)], _VENV_S
    )
    if made.code != 0:
        raise AgentRefused(
            f"Python {base.python} ({base.path}) can't make an environment: {made.last}. "
            "Install its module venv (on Debian: python3-venv), or name another Python with --python"
        )
    if sent.dependencies is not None:
        site = _site(link, python)
        for content in (sent.dependencies, sent.content):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                archive.extractall(site)
    else:
        _with_pip(link, directory, python, sent, base)
    _let_see_packages(base, _site(link, python))
    found = asked(link, str(python), to_load=True)
    if found is None or found.protocol is None:
        about = "it does not start" if found is None else found.about
        raise AgentRefused(f"what was installed does not work there: {about}")
    mark(directory, whole=True)
    return found


def remove_all() -> list[str]:
    """Remove this machine's installations; return the paths of what is not ours to remove, or can't be."""
    place = install_place()
    left = (
        [path for path in sorted(place.iterdir()) if not remove_installation(path)] if place.is_dir() else []
    )
    remove(place)
    return [str(path) for path in left]


class _Done(NamedTuple):
    code: int
    output: str

    @property
    def last(self) -> str:
        """The last line that says something."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")]
        return (errors or lines or [f"it ended with status {self.code}"])[-1]


def _with_pip(
    link: CommandLink, directory: Path, python: Path, sent: SentPackages, base: Interpreter
) -> None:
    wheel = directory / sent.wheel
    wheel.write_bytes(sent.content)
    words = [
        str(python),
        "-m",
        "pip",
        "install",
        "--no-input",
        "--retries",
        "1",
        "--disable-pip-version-check",
        "--quiet",
    ]
    done = _run(link, [*words, str(wheel)], _PIP_S)
    if done.code != 0:
        raise AgentRefused(
            f"its pip could not get the dependencies for Python {base.python}: {done.last}. Where a machine reaches no "
            "index of packages, --install needs a Python of the same minor version and build as here: "
            "name one with --python"
        )
    wheel.unlink()


def _let_see_packages(base: Interpreter, site: str) -> None:
    """Let functions import what the machine's own Python has; packages of the installation go first."""
    lines = [f"import site; site.addsitedir({path!r})\n" for path in base.packages]
    Path(site, "handoff_base.pth").write_text("".join(lines), encoding="utf-8")


def _site(link: CommandLink, python: Path) -> str:
    done = _run(link, [str(python), "-c", "import sysconfig; print(sysconfig.get_path('platlib'))"], _VENV_S)
    if done.code != 0:
        raise AgentRefused(f"the environment that was made there does not work: {done.last}")
    return done.output.strip()


def _run(link: CommandLink, command: list[str], within_s: float) -> _Done:
    """Run a command to its end. Raises CommandGone, ending it."""
    process = subprocess.Popen(  # noqa: S603 - this user's own programs
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    left_s = within_s
    try:
        while left_s > 0:
            try:
                output, _ = process.communicate(timeout=_LOOKS_EVERY_S)
            except subprocess.TimeoutExpired:
                link.pause(0.001)
                left_s -= _LOOKS_EVERY_S
            else:
                return _Done(process.returncode, output)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    return _Done(1, f"it was not done within {within_s:g} s")
