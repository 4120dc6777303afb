"""Run marfetch in a Python that lacks what Windows lacks: `python -m tests.world.elsewhere WORD…`.

Everything is hidden before the first module of marfetch is imported. As on Windows, renaming or deleting an open file fails, and so does
opening a directory. Paths, locks and the console are not simulated; they can be tested only on the real system.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

MODULES = ("fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty")
NAMES = (
    *("O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_PATH", "O_TMPFILE", "RWF_NOWAIT"),
    *(
        "chown",
        "chroot",
        "copy_file_range",
        "fchdir",
        "fchmod",
        "fchown",
        "fork",
        "forkpty",
        "fstatvfs",
        "lchown",
        "link",
        "mkfifo",
        "mknod",
    ),
    *("getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getsid", "getuid", "killpg", "setsid", "setuid", "uname"),
    *("getpgrp", "getpriority", "getxattr", "lockf", "nice", "pipe2", "setpgid", "tcgetpgrp", "tcsetpgrp"),
    *("posix_fadvise", "posix_fallocate", "pread", "preadv", "pwrite", "pwritev", "sched_getaffinity", "sendfile", "statvfs", "symlink"),
)
SIGNALS = ("SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH")
CALLS = ("setitimer", "getitimer", "alarm", "pause", "pthread_kill", "pthread_sigmask", "sigpending", "sigwait", "siginterrupt")


def open_files() -> set[str]:
    """The paths of all files that this process has open."""
    found = set()
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{number}"))  # noqa: PTH115
    return found


def _no_descriptor(call: Callable[..., Any]) -> Callable[..., Any]:
    def checked(path: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(path, int) or any(value is not None for name, value in options.items() if name.endswith("dir_fd")):
            raise NotImplementedError(f"{call.__name__}: descriptors are unavailable on this platform")
        return call(path, *rest, **{name: value for name, value in options.items() if not name.endswith("dir_fd")})

    return checked


def _not_open(call: Callable[..., Any], *, is_free: bool = False) -> Callable[..., Any]:
    def checked(*paths: Any, **options: Any) -> Any:
        held = open_files()
        for path in paths:
            real = os.path.realpath(path)
            if any(one == real or one.startswith(f"{real}/") for one in held):
                raise PermissionError(errno.EACCES, "The process cannot access the file because it is being used by another process", path)
        if is_free and os.path.lexists(paths[1]):
            raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", paths[1])
        return call(*paths, **options)

    return _no_descriptor(checked)


def _no_directory(call: Callable[..., int]) -> Callable[..., int]:
    def checked(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if os.path.isdir(path):  # noqa: PTH112
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return call(path, flags, *rest, **options)

    return _no_descriptor(checked)


def hide() -> None:
    """Remove everything that Windows lacks from this process."""
    import platformdirs  # like filelock below, it loads another module on each system
    from filelock import lock_descriptor

    assert all((lock_descriptor, platformdirs.user_state_path))
    whole = SimpleNamespace(**vars(os))  # filelock has its own way to lock on each system, so it keeps what it has here
    for name, module in list(sys.modules.items()):
        if name.startswith("filelock") and hasattr(module, "os"):
            module.os = whole  # type: ignore[attr-defined]
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for where, names in ((os, NAMES), (signal, (*SIGNALS, *CALLS)), (select, ("poll", "epoll"))):
        for name in names:
            if hasattr(where, name):
                delattr(where, name)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    os.supports_dir_fd, os.supports_fd = set(), {os.truncate}
    for name in ("stat", "mkdir", "listdir", "utime"):
        setattr(os, name, _no_descriptor(getattr(os, name)))
    for name in ("replace", "unlink", "remove", "rmdir", "rename"):
        setattr(os, name, _not_open(getattr(os, name), is_free=name == "rename"))
    os.open = _no_directory(os.open)


if __name__ == "__main__":
    hide()
    from marfetch.__main__ import program

    sys.argv = ["marfetch", *sys.argv[1:]]
    program()
