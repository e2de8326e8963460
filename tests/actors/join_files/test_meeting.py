"""What the log says of a process that stops looking into its join directory."""

import asyncio
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from handoff_actors.actors.join_files import meeting as meeting_module
from handoff_actors.actors.join_files.directory import JoinDirectory
from handoff_actors.actors.join_files.meeting import Meeting
from handoff_actors.core.cluster.join_files import JoinEntry

OTHER = JoinEntry("other", "tcp://10.0.0.2:7070", f"{2:024x}", "ours")


class Member:
    """A process without a node, which fails once it is to introduce itself."""

    def join_entry(self) -> JoinEntry | None:
        return None

    def clusters(self) -> Collection[str]:
        return ["ours"]

    def known_members(self) -> Collection[str]:
        return []

    async def ask_for_cluster(self, addresses: Sequence[str]) -> None:
        """Every address answers."""

    def introduce_to(self, address: str) -> None:
        raise ValueError(f"a defect, met at {address}")


async def test_unexpected_end_of_looking_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_pause(looks: int, *, is_alone: bool) -> float:
        return 0.0

    monkeypatch.setattr(meeting_module, "pause_s", no_pause)
    directory = JoinDirectory(tmp_path / "join")
    directory.look(OTHER, frozenset())
    said = asyncio.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.ERROR:
                said.set()

    listener = Listener()
    meeting_module.log.addHandler(listener)
    meeting = Meeting(directory, Member())
    try:
        await meeting.begin(may_be_alone=True)
        async with asyncio.timeout(10):
            await said.wait()
    finally:
        meeting_module.log.removeHandler(listener)
        await meeting.close()
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "directory" in record.message
    assert record.exc_info is not None
    assert "tcp://10.0.0.2:7070" in str(record.exc_info[1])


async def test_usual_end_of_looking_is_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    meeting = Meeting(JoinDirectory(tmp_path / "join"), Member())
    await meeting.begin(may_be_alone=True)
    await meeting.close()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
