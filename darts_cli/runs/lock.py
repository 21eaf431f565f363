"""The lock of a folder: one holder at a time, and none that outlives its process."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from darts_cli import DartsError

LOCK, HOLDER = ".lock", ".holder"


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False, remedy: str = "choose another folder with --run") -> Iterator[None]:
    """Hold the folder, or `wait` until nobody else does. Raises DartsError naming the process that holds it."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    lock, holder = FileLock(folder / LOCK), folder / HOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=wait)
    except Timeout:
        raise DartsError(f"{folder}: is in use by {_read(holder)}; wait, or choose another folder with --run") from None
    except OSError as error:
        raise DartsError(f"{folder}: cannot be written to ({error.strerror}); {remedy}") from None
    try:
        _write(holder)
        yield
    finally:
        with contextlib.suppress(OSError):  # in a folder that has become read-only the files stay; they lock nothing
            holder.unlink(missing_ok=True)
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):
            for path in missing:
                path.rmdir()  # unless it holds something now


def _write(holder: Path) -> None:
    with contextlib.suppress(OSError):
        holder.unlink(missing_ok=True)
        with open(holder, "x") as file:  # never through a link
            file.write(f"process {os.getpid()} on {platform.node()}\n")


def _read(holder: Path) -> str:
    with contextlib.suppress(OSError):
        return " ".join(holder.read_text(errors="replace")[:100].split()) or "another process"
    return "another process"
