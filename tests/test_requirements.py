"""The packages that scripts/setup installs are pinned, with hashes, and satisfy pyproject.toml."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
GROUPS = PYPROJECT["dependency-groups"]
FOR_PROJECT = [
    *PYPROJECT["project"]["dependencies"],
    *PYPROJECT["build-system"]["requires"],
    *GROUPS["build"],
]
#: By file in requirements/.
REQUIRED = {"project": FOR_PROJECT, "everything": [*FOR_PROJECT, *GROUPS["dev"]]}
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
LINE = re.compile(r"#.*|[a-z0-9-]+==[^ /:]+( ; [^/:]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")

each_lock = pytest.mark.parametrize("name", REQUIRED)
each_environment = pytest.mark.parametrize(
    "environment",
    [
        {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{python}.6",
            "python_version": python,
            "sys_platform": "linux",
        }
        for python in ("3.11", "3.12", "3.13", "3.14")
        for machine in ("x86_64", "aarch64")
    ],
    ids=lambda environment: f"{environment['python_version']}-{environment['platform_machine']}",
)


class Pin(NamedTuple):
    """One version that is locked, where its marker holds."""

    requirement: Requirement
    version: str
    hashes: tuple[str, ...]


def text_of(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def pins(name: str) -> Iterator[Pin]:
    for line in text_of(name).replace("\\\n", " ").splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line.partition(" --hash=")[0])
            [specifier] = requirement.specifier
            yield Pin(requirement, specifier.version, tuple(HASH.findall(line)))


def applies(requirement: Requirement, environment: Mapping[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(dict(environment))


@each_environment
@each_lock
def test_every_requirement_is_locked_in_a_version_that_it_allows(
    name: str, environment: Mapping[str, str]
) -> None:
    locked = [pin for pin in pins(name) if applies(pin.requirement, environment)]
    versions = {pin.requirement.name: pin.version for pin in locked}
    assert len(versions) == len(locked)

    wrong = {
        text: versions.get(canonicalize_name(requirement.name))
        for text in REQUIRED[name]
        if applies(requirement := Requirement(text), environment)
        and not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), "0"))
    }

    assert wrong == {}, "scripts/lock brings requirements/ up to date"


@each_lock
def test_every_pin_has_hashes(name: str) -> None:
    assert [pin for pin in pins(name) if not pin.hashes] == []


@each_lock
def test_a_lock_names_no_place_to_download_from(name: str) -> None:
    assert [line for line in text_of(name).splitlines() if not LINE.fullmatch(line)] == []


def test_the_project_is_locked_as_its_development_is() -> None:
    assert set(map(str, pins("project"))) <= set(map(str, pins("everything")))
