import logging
import os
import pickle
import pwd
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from handoff_actors.errors import InvalidKeyError
from handoff_actors.transport.keys import ClusterKey

KEY = ClusterKey(bytes(range(32)))


@given(st.binary(min_size=32, max_size=32))
def test_key_survives_its_text(secret: bytes) -> None:
    key = ClusterKey(secret)

    assert ClusterKey.from_text(key.text()) == key
    assert ClusterKey.from_text(f"  {key.text()}\n") == key
    assert "\n" not in key.text()


def test_generated_keys_differ() -> None:
    assert ClusterKey.generate() != ClusterKey.generate()


def test_derived_secrets_differ_by_role_and_by_key_and_stay_the_same() -> None:
    derived = {key.derive(role) for key in (KEY, ClusterKey(bytes(32))) for role in ("server", "client")}

    assert len(derived) == 4
    assert KEY.derive("server") == ClusterKey.from_text(KEY.text()).derive("server")


@pytest.mark.parametrize(
    "text",
    ["", "secret", "handoff1-", "handoff2-" + "A" * 43, KEY.text()[:-1], KEY.text() + "A", "handoff1-é"],
)
def test_what_is_no_key_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(InvalidKeyError) as refusal:
        ClusterKey.from_text(text)

    shown = f"{refusal.value} {refusal.value.__cause__}"
    assert len(text) < 10 or text.strip()[9:] not in shown


def test_key_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("test").warning("key %s %r", KEY, KEY, extra={"key": KEY})

    secret = KEY.text().removeprefix("handoff1-")
    assert secret not in f"{KEY} {KEY!r} {caplog.text} {vars(caplog.records[0])}"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


def test_key_file_is_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        KEY.write_to(tmp_path / "key")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert ClusterKey.from_file(tmp_path / "key") == KEY


def test_key_file_is_not_overwritten(tmp_path: Path) -> None:
    KEY.write_to(tmp_path / "key")

    with pytest.raises(FileExistsError):
        ClusterKey.generate().write_to(tmp_path / "key")

    assert ClusterKey.from_file(tmp_path / "key") == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_key_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    KEY.write_to(tmp_path / "key")
    (tmp_path / "key").chmod(mode)

    with pytest.raises(InvalidKeyError, match=f"chmod 600 {tmp_path / 'key'}"):
        ClusterKey.from_file(tmp_path / "key")


def test_key_file_may_be_read_only(tmp_path: Path) -> None:
    KEY.write_to(tmp_path / "key")
    (tmp_path / "key").chmod(0o400)

    assert ClusterKey.from_file(tmp_path / "key") == KEY


@pytest.mark.parametrize("content", [b"", b"\xff" * 5000, b"secret"])
def test_file_without_a_key_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(content)

    with pytest.raises(InvalidKeyError, match=str(tmp_path / "key")):
        ClusterKey.from_file(tmp_path / "key")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidKeyError, match="no-such-file cannot be read"):
        ClusterKey.from_file(tmp_path / "no-such-file")


def test_environment_has_the_key_or_names_its_file(tmp_path: Path) -> None:
    KEY.write_to(tmp_path / "key")

    assert ClusterKey.from_environment({}) is None
    assert ClusterKey.from_environment({"HANDOFF_KEY": ""}) is None
    assert ClusterKey.from_environment({"HANDOFF_KEY": KEY.text()}) == KEY
    assert ClusterKey.from_environment({"HANDOFF_KEY_FILE": str(tmp_path / "key")}) == KEY
    with pytest.raises(InvalidKeyError, match="HANDOFF_KEY: "):
        ClusterKey.from_environment({"HANDOFF_KEY": "secret"})


# --- Files of others --------------------------------------------------------------------------------------------

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    ClusterKey.generate().write_to(file)
    return file


@as_root
def test_file_of_another_user_is_refused(key_file: Path) -> None:
    os.chown(key_file, NOBODY, NOBODY)

    with pytest.raises(InvalidKeyError, match=f"{key_file} belongs to user {NOBODY}"):
        ClusterKey.from_file(key_file)


@as_root
def test_link_of_another_user_is_refused_and_ones_own_is_followed(key_file: Path, tmp_path: Path) -> None:
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    own.symlink_to(key_file)
    theirs.symlink_to(key_file)
    os.lchown(theirs, NOBODY, NOBODY)

    assert ClusterKey.from_file(own) == ClusterKey.from_file(key_file)
    with pytest.raises(InvalidKeyError, match=f"reached through a link of user {NOBODY}, {theirs}"):
        ClusterKey.from_file(theirs)


#: A user and a group that nobody has heard of, as containers have them.
USER, GROUP = 10_234, 20_345


@pytest.fixture
def in_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process believes to be a user of a container, with a group for its files (`fsGroup`)."""
    monkeypatch.setattr(os, "geteuid", lambda: USER)
    monkeypatch.setattr(os, "getegid", lambda: USER)
    monkeypatch.setattr(os, "getgroups", lambda: [GROUP])


@as_root
@pytest.mark.usefixtures("in_container")
def test_secret_of_kubernetes_is_read_by_the_links_that_lead_to_it(tmp_path: Path) -> None:
    (tmp_path / "..2026_11_29").mkdir()
    secret = tmp_path / "..2026_11_29" / "cluster.key"
    KEY.write_to(secret)
    os.chown(secret, 0, GROUP)
    secret.chmod(0o440)
    (tmp_path / "..data").symlink_to("..2026_11_29")
    (tmp_path / "cluster.key").symlink_to("..data/cluster.key")

    assert ClusterKey.from_file(tmp_path / "cluster.key") == KEY


@as_root
@pytest.mark.parametrize(
    ("owner", "group", "mode", "reader"),
    [
        (0, GROUP + 1, 0o440, f"group {GROUP + 1}"),
        (0, GROUP, 0o444, "others"),
        (0, GROUP, 0o644, "others"),
        (0, GROUP, 0o640, "others"),
        (0, GROUP, 0o460, "others"),
        (0, GROUP, 0o450, "others"),
        # Its owner can make it 0400.
        (USER, GROUP, 0o440, "others"),
    ],
)
@pytest.mark.usefixtures("in_container")
def test_secret_that_others_may_read_is_refused_with_the_settings_that_mend_that(
    key_file: Path, owner: int, group: int, mode: int, reader: str
) -> None:
    os.chown(key_file, owner, group)
    key_file.chmod(mode)

    with pytest.raises(InvalidKeyError, match=f"has mode {mode:04o}, so {reader} may read it: ") as caught:
        ClusterKey.from_file(key_file)

    assert "`defaultMode: 0400`" in str(caught.value)
    assert "`fsGroup`" in str(caught.value)


@as_root
def test_secret_for_a_group_that_has_other_users_is_refused(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(user for user in pwd.getpwall() if user.pw_uid != 0 and user.pw_gid != 0)
    monkeypatch.setattr(os, "getgroups", lambda: [other.pw_gid])
    os.chown(key_file, 0, other.pw_gid)
    key_file.chmod(0o440)

    with pytest.raises(InvalidKeyError, match=rf"user \S+, of group {other.pw_gid}, may read it"):
        ClusterKey.from_file(key_file)


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An access control list, of tags, permissions and ids: see acl(5)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NO_ID = 2**32 - 1


@as_root
@pytest.mark.parametrize(("user", "is_refused"), [(USER, False), (USER + 1, True)])
@pytest.mark.usefixtures("in_container")
def test_credential_of_systemd_is_read_by_the_user_it_is_for(
    key_file: Path, user: int, is_refused: bool
) -> None:
    listed = [(0x01, 4, NO_ID), (0x02, 4, user), (0x04, 0, NO_ID), (0x10, 4, NO_ID), (0x20, 0, NO_ID)]
    os.chown(key_file, 0, 0)
    try:
        os.setxattr(key_file, "system.posix_acl_access", acl(*listed))
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")

    if is_refused:
        with pytest.raises(InvalidKeyError, match=f"has mode 0440, so user {user} may read it"):
            ClusterKey.from_file(key_file)
    else:
        ClusterKey.from_file(key_file)


def test_fifo_and_directory_are_no_keys_and_hang_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)

    with pytest.raises(InvalidKeyError, match="not a cluster key"):
        ClusterKey.from_file(tmp_path / "fifo")
    with pytest.raises(InvalidKeyError, match="not a file"):
        ClusterKey.from_file(tmp_path)


def test_pipe_of_ones_own_is_read_as_a_shell_gives_it() -> None:
    key = ClusterKey.generate()
    reading, writing = os.pipe()
    os.write(writing, key.text().encode())
    os.close(writing)

    assert ClusterKey.from_file(f"/dev/fd/{reading}") == key
    os.close(reading)
