from pathlib import Path

import pytest

from handoff_actors.deploy.ssh.hosts import InvalidHostError, name_of, read_hosts


def test_file_stands_for_its_hosts_and_each_host_counts_once(tmp_path: Path) -> None:
    file = tmp_path / "hosts.txt"
    file.write_bytes(b"# the lab\r\na\r\n\r\nuser@b # the new one\nssh://c:2222\n[fd00::1]\na\n")

    assert read_hosts(["z", str(file), "z", "a"]) == ("z", "a", "user@b", "ssh://c:2222", "fd00::1")


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "", "a b", "a\nb", "no/such/file", "a:22"])
def test_words_that_are_no_hosts_are_refused(host: str) -> None:
    with pytest.raises(InvalidHostError):
        read_hosts([host])


@pytest.mark.parametrize("line", ["a cpu=3", "-oProxyCommand=x"])
def test_lines_that_are_no_hosts_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "hosts.txt").write_text(line)

    with pytest.raises(InvalidHostError):
        read_hosts([str(tmp_path / "hosts.txt")])


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a", "a"),
        ("user@a.example", "a.example"),
        ("ssh://user@a:22", "a"),
        ("ssh://[fd00::1]:22", "fd00::1"),
        ("u@fd00::1", "fd00::1"),
    ],
)
def test_name_of_a_host_has_neither_user_nor_port(host: str, name: str) -> None:
    assert name_of(host) == name
