"""Makes a Python on Linux lack what the one on another system lacks, for programs that tests run in processes of their own.

The names follow the availability notes of the standard library's documentation. The modules are changed in place, before
anything of ours is imported.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

ONLY_ON_LINUX: dict[ModuleType, str] = {
    fcntl: "DN_ F_ADD_SEALS F_GETLEASE F_GETPIPE_SZ F_GETSIG F_GET_SEALS F_NOTIFY F_OFD_ F_SEAL_ F_SETLEASE F_SETPIPE_SZ F_SETSIG",
    mmap: "MADV_COLD MADV_DODUMP MADV_DOFORK MADV_DONTDUMP MADV_DONTFORK MADV_HUGEPAGE MADV_HWPOISON MADV_MERGEABLE MADV_NOHUGEPAGE MADV_REMOVE"
    " MADV_UNMERGEABLE MAP_DENYWRITE MAP_EXECUTABLE MAP_NORESERVE MAP_POPULATE MAP_STACK",
    os: "CLONE_ EFD_ GRND_ MFD_ O_DIRECT O_LARGEFILE O_NOATIME O_PATH O_RSYNC O_TMPFILE P_PIDFD POSIX_FADV_ RWF_ SCHED_BATCH"
    " SCHED_IDLE SCHED_RESET_ON_FORK SPLICE_ TFD_ XATTR_ copy_file_range eventfd fdatasync getrandom getresgid getresuid getxattr"
    " listxattr memfd_create pidfd_open pipe2 posix_fadvise posix_fallocate removexattr sched_getaffinity sched_getparam"
    " sched_getscheduler sched_param sched_rr_get_interval sched_setaffinity sched_setparam sched_setscheduler setns setresgid"
    " setresuid setxattr splice timerfd_ unshare waitid",
    resource: "RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING RUSAGE_THREAD prlimit",
    select: "EPOLL epoll",
    signal: "SIGCLD SIGPOLL SIGPWR SIGRTMAX SIGRTMIN SIGSTKFLT pidfd_send_signal sigtimedwait sigwaitinfo",
    socket: "AF_ALG AF_CAN AF_NETLINK AF_PACKET AF_QIPCRTR AF_RDS AF_TIPC AF_VSOCK MSG_CMSG_CLOEXEC MSG_CONFIRM MSG_ERRQUEUE"
    " MSG_FASTOPEN MSG_MORE SOCK_CLOEXEC SOCK_NONBLOCK SO_BINDTODEVICE SO_DOMAIN SO_MARK SO_PASSCRED SO_PASSSEC SO_PEERCRED"
    " SO_PEERSEC SO_PRIORITY SO_PROTOCOL TCP_CORK TCP_DEFER_ACCEPT TCP_LINGER2 TCP_QUICKACK TCP_SYNCNT TCP_USER_TIMEOUT",
    time: "CLOCK_BOOTTIME CLOCK_TAI",
}
ONLY_ON_POSIX: dict[ModuleType, str] = {
    mmap: "MADV_ MAP_ PROT_",
    os: "O_CLOEXEC O_DIRECTORY O_DSYNC O_NDELAY O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC WNOHANG chroot ctermid fchmod fchown fork"
    " getegid geteuid getgid getgroups getpgid getpriority getresuid getsid getuid initgroups killpg lchown lockf major mkfifo mknod"
    " nice openpty pread preadv pwrite pwritev posix_spawn readv register_at_fork sched_ sendfile set_blocking setegid seteuid"
    " setgid setgroups setpgid setpriority setregid setreuid setsid setuid statvfs sync sysconf tcgetpgrp tcsetpgrp ttyname uname"
    " wait3 wait4 writev",
    select: "PIPE_BUF poll",
    signal: "ITIMER_ SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGSYS SIGTSTP SIGTTIN SIGURG SIGUSR"
    " SIGWINCH alarm getitimer pause pthread_ setitimer siginterrupt sigpending sigwait",
    socket: "AF_UNIX CMSG_ SCM_RIGHTS recv_fds send_fds socketpair",
}
POSIX_MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty", "uvloop")
OF_GLIBC = ("mallopt", "malloc_trim", "prctl", "syscall")
MOUNTS = ("/proc", "/dev/shm", "/sys")


def become_macos() -> None:
    """Lack what macOS lacks."""
    remove(ONLY_ON_LINUX)
    hide_mounts()
    hide_functions_of_glibc()
    refuse_socket_pairs()
    call_it("darwin", "Darwin")


def become_windows() -> None:
    """Lack what Windows lacks."""
    # These have other parts there, which are missing here.
    import asyncio  # noqa: F401, PLC0415
    import subprocess  # noqa: F401, PLC0415

    import click  # noqa: F401, PLC0415

    become_a_bare_windows()


def become_a_bare_windows() -> None:
    """Lack what Windows lacks, and the Windows parts of asyncio, subprocess and click, which import nothing then."""
    hide_mounts()
    remove(ONLY_ON_LINUX)
    remove(ONLY_ON_POSIX)
    for name in POSIX_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # so that importing it raises
    call_it("win32", "Windows")


def remove(names: dict[ModuleType, str]) -> None:
    """Remove attributes from modules; a name that ends with "_" is a prefix."""
    for module, listed in names.items():
        for name in listed.split():
            found = [
                there
                for there in dir(module)
                if there == name or (name[-1] == "_" and there.startswith(name))
            ]
            for there in found:
                delattr(module, there)


def call_it(name: str, system: str) -> None:
    """Let the system have another name."""
    sys.platform = name
    platform.system = lambda: system


def hide_mounts() -> None:
    """Have no file systems that only Linux has."""
    for name in ("access", "listdir", "lstat", "mkdir", "open", "readlink", "scandir", "stat", "statvfs"):
        setattr(os, name, without_mounts(getattr(os, name), name))
    sys.addaudithook(refuse_to_open_mounts)


def without_mounts(call: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Wrap a function that takes a path."""

    def wrapped(path: Any = ".", *arguments: Any, **options: Any) -> Any:
        if is_mount(path):
            if name == "access":
                return False
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return call(path, *arguments, **options)

    return wrapped


def refuse_to_open_mounts(event: str, arguments: tuple[Any, ...]) -> None:
    """Do so for `open` itself."""
    if event == "open" and is_mount(arguments[0]):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments[0])


def is_mount(path: object) -> bool:
    """True if a path leads into one of them."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    return isinstance(text, str) and any(text == place or text.startswith(f"{place}/") for place in MOUNTS)


def hide_functions_of_glibc() -> None:
    """Have another C library."""

    class CDLL(ctypes.CDLL):
        def __getattr__(self, name: str) -> Any:
            if name in OF_GLIBC:
                raise AttributeError(name)
            return super().__getattr__(name)

    ctypes.CDLL = CDLL  # type: ignore[misc]


def refuse_socket_pairs() -> None:
    """Have no sequenced packets between processes: macOS has the constant alone."""
    pair = socket.socketpair

    def socketpair(*arguments: Any) -> Any:
        if socket.SOCK_SEQPACKET in arguments:
            raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))
        return pair(*arguments)

    socket.socketpair = socketpair  # type: ignore[assignment]
