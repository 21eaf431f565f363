"""One session of a run, in a process that can be killed; it is forked from a server that has loaded PyTorch."""

import ctypes
import multiprocessing
import os
import resource
import socket
import sys

PRELOADED = ["crash", "sessions", "darts_cli.cli", "torch._inductor.config", "torchvision.transforms.v2"]
PRELOADED += [f"darts_cli.{domain}.{stage}" for domain in ("cnn", "rnn") for stage in ("search", "train")]

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(PRELOADED)


def work(args, output, variables, crash_at, max_file_bytes, without_privileges):
    """Run the command with its output in a file."""
    import crash
    import torch

    from darts_cli.cli import main

    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    torch.set_num_threads(1)
    os.environ.update(variables)
    if crash_at is not None:
        crash.at(crash_at)
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    if without_privileges:
        drop_privileges()
    main(args, prog_name="darts")


def drop_privileges():
    """Give up root's right to ignore permissions (CAP_DAC_OVERRIDE, the second bit)."""
    libc, header, sets = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] &= ~2  # effective
    assert libc.capset(header, sets) == 0


def start(args, output, *, variables=None, crash_at=None, max_file_bytes=None, without_privileges=False):
    """Start a session; returns a Process whose exit code is the command's, or minus the number of the signal that killed it.

    variables            of its environment, besides those of the tests
    crash_at             a point of crash.py
    max_file_bytes       no file can grow larger
    without_privileges   permissions bind root too
    """
    arguments = ([str(arg) for arg in args], str(output), variables or {}, crash_at, max_file_bytes, without_privileges)
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def run(*args, **options):
    """The exit code of a complete session."""
    return ended(start(*args, **options))


def ended(process):
    process.join(120)
    assert process.exitcode is not None, "the session does not end"
    return process.exitcode


def ranks(count):
    """The variables of each process of a job, as torchrun sets them on one machine."""
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    job = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    return [{key: str(value) for key, value in {**job, "RANK": i, "LOCAL_RANK": i}.items()} for i in range(count)]
