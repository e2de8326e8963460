"""The instructions of the Dockerfile in the root of the repository."""

import json
from dataclasses import dataclass, field

from tests.daemons import ROOT


@dataclass(frozen=True)
class Image:
    """What the last stage says of the containers."""

    command: list[str]
    user: int
    group: int
    variables: dict[str, str]
    ports: list[int]


@dataclass
class Stage:
    """The instructions from one FROM on, with the rest of each line."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        """The texts of all instructions of a kind."""
        return [text for name, text in self.instructions if name == instruction]


def stages() -> list[Stage]:
    """The stages, in order."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append(Stage(rest))
        elif found:
            found[-1].instructions.append((name, " ".join(rest.split())))
    return found


def image() -> Image:
    """What containers of the image have."""
    last = stages()[-1]
    (command,), (user,), (ports,) = last.of("CMD"), last.of("USER"), last.of("EXPOSE")
    user_id, _, group_id = user.partition(":")
    variables = dict(text.split("=", 1) for text in last.of("ENV"))
    return Image(json.loads(command), int(user_id), int(group_id), variables, [*map(int, ports.split())])
