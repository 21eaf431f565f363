"""A process that dies inside the writing of a file: the calls that the program writes with are wrapped, the program is not.

A point is "NAME MOMENT COUNT", the COUNT-th time that the file NAME reaches a moment:

    half       half of its content is written
    written    its content is complete and flushed, under the temporary name
    kept       the file before it has been renamed, the new one not yet
    renamed    the new file has been renamed

As a program: python crash.py POINT ARGUMENTS... runs darts with these arguments.
"""

import os
import signal
import sys
from pathlib import Path

from darts_cli import files


def at(point):
    """From now on this process dies, as by SIGKILL, at that point."""
    name, moment, count = point.split()
    fsync, replace, append = os.fsync, os.replace, files.append
    left = int(count)

    def reached(path, there):
        nonlocal left
        left -= (Path(path).name.removeprefix(".").removesuffix(".tmp"), there) == (name, moment)
        return left == 0

    def fsync_or_die(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if reached(path, "half"):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            die()
        fsync(descriptor)
        if reached(path, "written"):
            die()

    def replace_and_die(source, target):
        replace(source, target)
        if reached(source, "renamed" if str(source).endswith(".tmp") else "kept"):
            die()

    def append_or_die(path, line):
        append(path, line)
        if reached(path, "half"):
            os.truncate(path, os.path.getsize(path) - len(line.encode()) // 2)
            die()

    os.fsync, os.replace, files.append = fsync_or_die, replace_and_die, append_or_die


def die():
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    from darts_cli.cli import main

    at(sys.argv[1])
    main(sys.argv[2:], prog_name="darts")
