import subprocess
import sys
from pathlib import Path
from typing import get_args

from handoff_actors.wire.messages.directions import AnyMessage

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "protocol.md"


def test_protocol_page_is_what_the_messages_say() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "scripts" / "protocol", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert check.stderr == ""
    assert check.returncode == 0


def test_protocol_page_has_a_section_for_every_message() -> None:
    sections = {line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("### ")}

    assert {f"### {message.__name__}" for message in get_args(AnyMessage)} <= sections
