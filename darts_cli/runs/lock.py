"""The lock of a folder: one holder at a time, and none that outlives its processes."""

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from darts_cli import DartsError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None


@contextlib.contextmanager
def locked(
    folder: Path, patient: Callable[[str], bool] = lambda holder: False, remedy: str = "name another with --run"
) -> Iterator[TextIO]:
    """Hold the folder; yields the open lock, which processes that inherit it hold too, until all of them are gone.

    `patient` is asked, with what the lock says of its holder ("process 12 on here"), whether to wait. Raises DartsError naming
    the holder otherwise. Where there are no such locks, on Windows and some storages, nobody is kept out.
    """
    path = folder / ".lock"
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    while True:
        with _opened(path, remedy) as lock:
            if not _free(lock):
                lock.seek(0)
                holder = lock.read(100).strip() or "another process"
                if not patient(holder):
                    raise DartsError(f"{folder}: {holder} is at work here; wait for it, or name another with --run")
                time.sleep(0.2)
                continue
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(lock.fileno())):
                continue  # its holder has taken it away meanwhile
            _held.add(lock)
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {platform.node()}\n")
            lock.flush()
            try:
                yield lock
            finally:
                _held.discard(lock)
                with contextlib.suppress(OSError):  # left in a folder that can no longer be written to, it is no lock
                    path.unlink(missing_ok=True)
                    for each in made:
                        each.rmdir()  # unless something has been written there
            return


_held: set[TextIO] = set()
if fcntl is not None:  # a copy of this process, such as one that reads images, must not keep them when this one is killed
    os.register_at_fork(after_in_child=lambda: [lock.close() for lock in _held])


def alive(holder: str) -> bool:
    """Whether the process that a lock names is still there, as far as one can tell."""
    words = holder.split()
    if len(words) != 4 or words[3] != platform.node() or not words[1].isdigit():
        return True
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _opened(path: Path, remedy: str) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644), "r+")
    except OSError as error:
        raise DartsError(f"{path.parent}: cannot be written to ({error.strerror}); {remedy}") from None


def _free(lock: TextIO) -> bool:
    """Take the lock, if nobody has it."""
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a storage without locks
        pass
    return True
