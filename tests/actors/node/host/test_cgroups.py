"""Tests of the limits of control groups, by what container engines and systemd show to a process."""

import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from handoff_actors.actors.node.host.cgroups import (
    GroupMemory,
    count_group_kills,
    directories,
    tightest_memory,
    tightest_quota,
)
from tests.control_groups import container

DOCKER_V1 = (
    "12:cpu,cpuacct:/docker/4f2a\n5:memory:/docker/4f2a\n1:name=systemd:/docker/4f2a\n0::/docker/4f2a\n",
    (
        "612 600 0:52 / /sys rw,nosuid - sysfs sysfs rw\n"
        "620 612 0:29 /docker/4f2a /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:11 - cgroup cgroup rw,cpu,cpuacct\n"
        "626 612 0:35 /docker/4f2a /sys/fs/cgroup/memory ro,nosuid master:17 - cgroup cgroup rw,memory\n"
    ),
)
DOCKER_V2 = (
    "0::/\n",
    "745 744 0:31 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n",
)
KUBERNETES_V1 = (
    "5:memory:/kubepods/burstable/pod7/c1\n4:cpu,cpuacct:/kubepods/burstable/pod7/c1\n",
    (
        "1 0 0:35 /kubepods/burstable/pod7/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "2 0 0:29 /kubepods/burstable/pod7/c1 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
    ),
)
KUBERNETES_V2_OF_THE_HOST = (
    "0::/kubepods.slice/kubepods-pod7.slice/cri-containerd-c1.scope\n",
    "1 0 0:31 / /host/cgroups\\040v2 rw shared:9 - cgroup2 cgroup2 rw\n",
)
SYSTEMD_SLICE = (
    "0::/system.slice/handoff.service\n",
    "34 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
)
SYSTEMD_HYBRID = (
    "8:memory:/system.slice/handoff.service\n0::/system.slice/handoff.service\n",
    (
        "34 24 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "41 24 0:37 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    ),
)
LXC = (
    "6:memory:/lxc/web/init.scope\n2:cpu,cpuacct:/lxc/web/init.scope\n",
    (
        "1 0 0:37 /lxc/web /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "2 0 0:29 /lxc/web /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    ),
)
OUTSIDE_OF_THE_NAMESPACE = ("0::/../../other\n", "745 744 0:31 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n")
MOUNTED_FROM_ABOVE = ("0::/../b\n", "745 744 0:31 /.. /sys/fs/cgroup ro - cgroup2 cgroup rw\n")
TWO_MOUNTS = (
    "5:memory:/docker/4f2a\n",
    "1 0 0:35 /docker/4f2a /inner ro - cgroup cgroup rw,memory\n2 0 0:35 / /outer rw - cgroup cgroup rw,memory\n",
)
NOT_MOUNTED = ("0::/a\n", "612 600 0:52 / /sys rw,nosuid - sysfs sysfs rw\n")
NO_SUCH_CONTROLLER = ("5:cpu:/a\n", "1 0 0:35 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n")


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        pytest.param(DOCKER_V1, ["/sys/fs/cgroup/memory"], id="docker, version 1"),
        pytest.param(DOCKER_V2, ["/sys/fs/cgroup"], id="docker, version 2"),
        pytest.param(KUBERNETES_V1, ["/sys/fs/cgroup/memory"], id="kubernetes, version 1"),
        pytest.param(
            KUBERNETES_V2_OF_THE_HOST,
            [
                "/host/cgroups v2/kubepods.slice/kubepods-pod7.slice/cri-containerd-c1.scope",
                "/host/cgroups v2/kubepods.slice/kubepods-pod7.slice",
                "/host/cgroups v2/kubepods.slice",
                "/host/cgroups v2",
            ],
            id="kubernetes, version 2, the host's mount",
        ),
        pytest.param(
            SYSTEMD_SLICE,
            ["/sys/fs/cgroup/system.slice/handoff.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup"],
            id="systemd",
        ),
        pytest.param(
            SYSTEMD_HYBRID,
            [
                "/sys/fs/cgroup/memory/system.slice/handoff.service",
                "/sys/fs/cgroup/memory/system.slice",
                "/sys/fs/cgroup/memory",
            ],
            id="systemd, both versions",
        ),
        pytest.param(LXC, ["/sys/fs/cgroup/memory/init.scope", "/sys/fs/cgroup/memory"], id="lxc"),
        pytest.param(OUTSIDE_OF_THE_NAMESPACE, ["/sys/fs/cgroup"], id="outside of the namespace"),
        pytest.param(MOUNTED_FROM_ABOVE, ["/sys/fs/cgroup/b", "/sys/fs/cgroup"], id="mounted from above"),
        pytest.param(TWO_MOUNTS, ["/outer/docker/4f2a", "/outer/docker", "/outer"], id="two mounts"),
        pytest.param(NOT_MOUNTED, [], id="not mounted"),
        pytest.param(NO_SUCH_CONTROLLER, [], id="no such controller"),
        pytest.param(("", ""), [], id="no groups"),
        pytest.param(("garbage\n:::\n", "1 2 - \n- cgroup\n\n"), [], id="garbage"),
    ],
)
def test_the_groups_that_limit_a_process_are_found(texts: tuple[str, str], found: list[str]) -> None:
    assert directories(*texts, "memory") == [Path(path) for path in found]


def test_a_controller_may_be_mounted_with_others() -> None:
    assert directories(*DOCKER_V1, "cpu") == [Path("/sys/fs/cgroup/cpu,cpuacct")]


@pytest.mark.parametrize(
    ("path", "root", "pattern"),
    [
        ("/", "/../..", "*/*"),
        ("/", "/..", "*"),
        ("/inner", "/../..", "*/*/inner"),
        ("/../b", "/../..", "*/b"),
    ],
)
def test_names_that_a_namespace_hides_are_looked_for(path: str, root: str, pattern: str) -> None:
    mounts = f"1 0 0:31 {root} /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
    asked: list[tuple[Path, str]] = []

    def find(point: Path, pattern: str) -> PurePosixPath:
        asked.append((point, pattern))
        return PurePosixPath("own/group")

    found = directories(f"0::{path}\n", mounts, "cpu", find)

    assert asked == [(Path("/sys/fs/cgroup"), pattern)]
    assert found == [Path("/sys/fs/cgroup/own/group"), Path("/sys/fs/cgroup/own"), Path("/sys/fs/cgroup")]


def group(directory: Path, **files: str) -> Path:
    """Make a group; of the names of files underscores that are doubled are dots."""
    directory.mkdir()
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(f"{text}\n")
    return directory


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu__max": "50000 100000"}, 0.5),
        ({"cpu__max": "max 100000"}, None),
        ({"cpu__cfs_quota_us": "250000", "cpu__cfs_period_us": "100000"}, 2.5),
        ({"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}, None),
        ({"cpu__max": "50000"}, None),
        ({}, None),
    ],
)
def test_quota_of_a_group(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert tightest_quota([group(tmp_path / "a", **files)]) == quota


def test_tightest_quota_of_all_groups_counts(tmp_path: Path) -> None:
    own, above = group(tmp_path / "own", cpu__max="max 100000"), group(tmp_path / "top", cpu__max="1000 2000")

    assert tightest_quota([own, above, tmp_path / "gone"]) == 0.5


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        ({"memory__max": "1000", "memory__current": "300", "memory__stat": "anon 200"}, (700, 1000)),
        ({"memory__max": "max", "memory__high": "900", "memory__current": "300"}, (600, 900)),
        ({"memory__max": "max", "memory__high": "max", "memory__current": "300"}, None),
        # Shared memory counts as used: unlike files, the kernel can't take it back.
        (
            {
                "memory__max": "1000",
                "memory__current": "800",
                "memory__stat": "file 500\nshmem 100\ninactive_file 300\nactive_file 100\nslab_reclaimable 50",
            },
            (650, 1000),
        ),
        (
            {
                "memory__limit_in_bytes": "1000",
                "memory__usage_in_bytes": "800",
                "memory__stat": "inactive_file 1\ntotal_inactive_file 300\nhierarchical_memory_limit 1000",
            },
            (500, 1000),
        ),
        (
            {
                "memory__limit_in_bytes": "9223372036854771712",
                "memory__usage_in_bytes": "100",
                "memory__stat": "hierarchical_memory_limit 700",
            },
            (600, 700),
        ),
        ({"memory__max": "100", "memory__current": "300"}, (0, 100)),
        ({"memory__max": "100"}, None),
        ({}, None),
    ],
)
def test_memory_of_a_group(tmp_path: Path, files: dict[str, str], memory: tuple[int, int] | None) -> None:
    found = tightest_memory([group(tmp_path / "a", **files)])

    assert found == (None if memory is None else GroupMemory(*memory))


def test_the_group_with_the_least_left_counts(tmp_path: Path) -> None:
    own = group(tmp_path / "own", memory__max="1000", memory__current="100")
    above = group(tmp_path / "above", memory__max="2000", memory__current="1950")

    assert tightest_memory([own, above]) == GroupMemory(50, 1000)


SHOW = (
    "from handoff_actors.actors.node.host.capabilities import own_capabilities;"
    "from handoff_actors.actors.node.limits import MemoryOptions;"
    "print(own_capabilities(), MemoryOptions().limits().store_nbytes)"
)


@pytest.mark.parametrize("also", [[], ["unshare", "--cgroup"]], ids=["", "in a namespace"])
def test_a_node_in_a_container_offers_what_that_has(also: list[str]) -> None:
    with container(200, cores=0.5) as within:
        shown = subprocess.run(
            [*within, *also, sys.executable, "-c", SHOW], check=True, capture_output=True, text=True
        )

    capabilities, _, limit = shown.stdout.rpartition(" ")
    # Functions claim one core each, so a node with half of one offers one.
    assert capabilities == "{'cpu': 1.0, 'memory': 200.0}"
    assert 50_000_000 < int(limit) < 100_000_000


def test_the_kernels_count_of_its_kills_is_read() -> None:
    kills = count_group_kills()

    assert kills is None or kills >= 0
