"""Sessions of a run and workers of a sweep, in processes that can be killed; forked from a server that has loaded PyTorch."""

import ctypes
import importlib
import json
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import threading
from multiprocessing import connection

PRELOADED = ["crash", "sessions", "darts_cli.cli", "darts_cli.sweeps.worker", "darts_cli.sweeps.probe"]
PRELOADED += ["torch._inductor.config", "torchvision.transforms.v2"]
PRELOADED += [f"darts_cli.{domain}.{stage}" for domain in ("cnn", "rnn") for stage in ("search", "train")]

# The exit code of a process can be read once. To start one looks at those of all others, so no other thread may read meanwhile.
READING = threading.Lock()
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(PRELOADED)


def work(args, output, program, variables, crash_at, max_file_bytes, without_privileges):
    """Run the command, or `main` of another module, with its output in a file."""
    import crash
    import torch

    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    torch.set_num_threads(1)
    os.environ.update(variables)
    sys.argv = ["darts", *args]
    if crash_at is not None:
        crash.at(crash_at)
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    if without_privileges:
        drop_privileges()
    importlib.import_module(program).main(args)


def drop_privileges():
    """Give up root's right to ignore permissions (CAP_DAC_OVERRIDE, the second bit)."""
    libc, header, sets = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] &= ~2  # effective
    assert libc.capset(header, sets) == 0


def start(
    args, output, *, program="darts_cli.cli", variables=None, crash_at=None, max_file_bytes=None, without_privileges=False
):
    """Start a session; returns a Process whose exit code is the command's, or minus the number of the signal that killed it.

    program              a module whose `main` gets the arguments
    variables            of its environment, besides those of the tests
    crash_at             a point of crash.py
    max_file_bytes       no file can grow larger
    without_privileges   permissions bind root too
    """
    arguments = (
        [str(arg) for arg in args],
        str(output),
        program,
        variables or {},
        crash_at,
        max_file_bytes,
        without_privileges,
    )
    process = context.Process(target=work, args=arguments)
    with READING:
        process.start()
    return process


def run(*args, **options):
    """The exit code of a complete session."""
    return ended(start(*args, **options))


def ended(process):
    process.join(280)
    assert process.exitcode is not None, "the session does not end"
    return process.exitcode


def ranks(count):
    """The variables of each process of a job, as torchrun sets them on one machine."""
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    job = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    return [{key: str(value) for key, value in {**job, "RANK": i, "LOCAL_RANK": i}.items()} for i in range(count)]


class Worker:
    """In place of `engine.process_of`: a process forked from the server, with what the program uses of a Popen."""

    def __init__(self, module, job, threads, *, stdout, stderr, cwd=None, start_new_session=False):
        theirs, ours = context.Pipe(duplex=False)
        self.stdin = os.fdopen(os.dup(ours.fileno()), "wb")
        streams = [theirs, self._stream("stdout", stdout), self._stream("stderr", stderr)]
        threads = threads or int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))
        place = dict(os.environ), os.path.abspath(cwd or "."), start_new_session
        self.process = context.Process(target=work_as, args=(module, streams, threads, *place))
        with READING:
            self.process.start()
        self.pid = self.process.pid
        for stream in (ours, *streams):
            stream.close()
        self.stdin.write(json.dumps(job).encode() + b"\n")
        self.stdin.flush()

    def _stream(self, name, where):
        """The end of the process; ours, where it is a pipe, becomes an attribute."""
        if where == subprocess.PIPE:
            ours, theirs = context.Pipe(duplex=False)
            setattr(self, name, os.fdopen(os.dup(ours.fileno()), "rb"))
            ours.close()
            return theirs
        return connection.Connection(
            os.open(os.devnull, os.O_WRONLY) if where == subprocess.DEVNULL else os.dup(where.fileno()), readable=False
        )

    def wait(self):
        connection.wait([self.process.sentinel])
        with READING:
            self.process.join()
            return self.process.exitcode

    def send_signal(self, number):
        with READING:
            if self.process.exitcode is None:
                os.kill(self.pid, number)

    def kill(self):
        self.process.kill()


def work_as(module, streams, threads, variables, folder, session):
    """Call `main` of the module as a process with those streams, threads, variables and working folder."""
    import torch

    for i, stream in enumerate(streams):
        os.dup2(stream.fileno(), i)
        stream.close()
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(i, "w", buffering=1, closefd=False) for i in (1, 2))
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    if session:
        os.setsid()
    torch.set_num_threads(threads)
    importlib.import_module(module).main()
