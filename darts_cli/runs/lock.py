"""The lock of a folder: one holder at a time, and none that outlives its process."""

import contextlib
import errno
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from darts_cli import DartsError
from darts_cli.text import hint

LOCK, HOLDER = ".lock", ".holder"
POLL_SECONDS = 0.2
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # of some network file systems


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False, remedy: str = "choose another folder with --run") -> Iterator[None]:
    """Hold the folder; if another process holds it, `wait`, or raise the DartsError that names that process.

    A file system without locks keeps nobody out.
    """
    lock = FileLock(folder / LOCK, fallback_to_soft=False)
    made = _acquire(lock, folder, wait, remedy)
    holder = folder / HOLDER
    try:
        _write(holder)
        yield
    finally:
        with contextlib.suppress(OSError):  # in a folder that has become read-only the files stay; they lock nothing
            holder.unlink(missing_ok=True)
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()  # unless it holds something now


def _acquire(lock: FileLock, folder: Path, wait: bool, remedy: str) -> list[Path]:
    """Take the lock; returns the folders that were made for it."""
    waiting = False
    while True:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
            return made
        except Timeout:
            user = _read(folder / HOLDER)
            if not wait:
                raise DartsError(f"{folder}: is in use by {user}; wait, or choose another folder with --run") from None
            if not waiting:
                hint(f"{folder}: waiting for {user}")
            waiting = True
            time.sleep(POLL_SECONDS)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return made
            if not (waiting and isinstance(error, FileNotFoundError)):  # the last holder has just removed the folder
                raise DartsError(f"{folder}: cannot be written to ({error.strerror}); {remedy}") from None


def _write(holder: Path) -> None:
    with contextlib.suppress(OSError):
        holder.unlink(missing_ok=True)
        with open(holder, "x") as file:  # never through a link
            file.write(f"process {os.getpid()} on {platform.node()}\n")


def _read(holder: Path) -> str:
    with contextlib.suppress(OSError):
        return " ".join(holder.read_text(errors="replace")[:100].split()) or "another process"
    return "another process"
