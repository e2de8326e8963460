"""When a node needs the definitions of an app's modules, and how long it keeps them."""

import asyncio
from pathlib import Path

import pytest

from handoff_actors.actors.node import module_definitions
from handoff_actors.actors.node.module_definitions import ModuleDefinitions
from handoff_actors.ids import RunId
from handoff_actors.wire.code.sources import digest_of_source
from handoff_actors.wire.messages.jobs import OwnModules, Ref


def modules_with(key: bytes, **sources: bytes) -> OwnModules:
    digests = {name: digest_of_source(source) for name, source in sources.items()}
    return OwnModules(key, digests, Ref(0, 0, [""]))


async def are_needed(definitions: ModuleDefinitions, modules: OwnModules, run: int = 1) -> bool:
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def then(*, are_needed: bool, are_importable: bool) -> None:
        del are_importable
        answer.set_result(are_needed)

    definitions.need(RunId(run), modules, then)
    return await answer


@pytest.fixture
def definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleDefinitions:
    """Those of a node with one module, which compares anew each time."""
    (tmp_path / "there.py").write_bytes(b"x = 1")
    monkeypatch.setattr(module_definitions, "_HOLDS_S", 0.0)
    return ModuleDefinitions(lambda: [str(tmp_path)])


async def test_definitions_are_needed_unless_every_source_is_the_same(
    definitions: ModuleDefinitions, tmp_path: Path
) -> None:
    same, other = modules_with(b"1", there=b"x = 1"), modules_with(b"2", there=b"x = 2")

    assert not await are_needed(definitions, same)
    assert await are_needed(definitions, other)
    assert await are_needed(definitions, modules_with(b"3", there=b"x = 1", missing=b""))
    (tmp_path / "there.py").write_bytes(b"x = 22")
    assert await are_needed(definitions, same)
    (tmp_path / "there.py").unlink()
    assert await are_needed(definitions, same)


async def test_package_without_a_source_is_no_reason_for_definitions(definitions: ModuleDefinitions) -> None:
    modules = OwnModules(b"1", {"there": digest_of_source(b"x = 1"), "package": b""}, Ref(0, 0, [""]))

    assert not await are_needed(definitions, modules)


async def test_definitions_are_brought_once(definitions: ModuleDefinitions, tmp_path: Path) -> None:
    other = modules_with(b"2", there=b"x = 2")
    assert await are_needed(definitions, other)
    definitions.keep(b"2", b"definitions")

    assert not await are_needed(definitions, other)
    assert definitions.kept == {b"2": b"definitions"}
    (tmp_path / "there.py").write_bytes(b"x = 2")
    assert not await are_needed(definitions, other)
    assert definitions.kept == {}


async def test_comparison_holds_for_a_moment(
    definitions: ModuleDefinitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = modules_with(b"1", there=b"x = 1")
    assert not await are_needed(definitions, same)
    monkeypatch.setattr(module_definitions, "_HOLDS_S", 100.0)
    monkeypatch.setattr(module_definitions, "file_state", None)

    assert not await are_needed(definitions, same)


async def test_finder_that_raises_makes_definitions_needed(
    definitions: ModuleDefinitions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a finder of some tool")

    monkeypatch.setattr(module_definitions, "find_spec", broken)

    assert await are_needed(definitions, modules_with(b"1", there=b"x = 1"))
    assert "can't be compared" in caplog.text


async def test_what_no_run_uses_is_dropped_when_it_is_much(definitions: ModuleDefinitions) -> None:
    keys = [bytes([number]) for number in range(2 + module_definitions._UNUSED_KEPT)]
    for number, key in enumerate(keys):
        await are_needed(definitions, modules_with(key, missing=key), number)
        definitions.keep(key, key)

    for number in range(1, len(keys)):
        definitions.forget(RunId(number))
    definitions.forget(RunId(99))

    assert list(definitions.kept) == [keys[0], *keys[3:]]


async def test_what_a_run_that_goes_on_uses_no_more_is_dropped_when_it_is_much(
    definitions: ModuleDefinitions,
) -> None:
    keys = [bytes([number]) for number in range(2 + module_definitions._UNUSED_KEPT)]
    for key in keys:
        await are_needed(definitions, modules_with(key, missing=key), 1)
        definitions.keep(key, key)

    definitions.forget(RunId(1), keys[1:])

    assert list(definitions.kept) == [keys[0], *keys[3:]]
