"""One sitting of a run, in a process of its own that can be killed; forked where PyTorch is loaded, so that it starts fast."""

import ctypes
import multiprocessing
import os
import resource
import sys

PROGRAM = ["sitting", "torchvision", "darts_cli.cli"]
PROGRAM += [f"darts_cli.{domain}.{stage}" for domain in ("cnn", "rnn") for stage in ("search", "train")]

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(PROGRAM)


def work(args: list[str], said: str, crash: str | None, largest: int | None, powerless: bool) -> None:
    """The command, with its output in the file `said`; killed at the point `crash`; no file may be larger than `largest`;
    `powerless`: permissions bind root too."""
    import torch

    from darts_cli.cli import main

    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = (os.fdopen(each, "w", buffering=1, closefd=False) for each in (1, 2))
    torch.set_num_threads(1)
    if crash is not None:
        os.environ["DARTS_TEST_CRASH"] = crash
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if powerless:
        drop_power()
    main(args, prog_name="darts")


def drop_power() -> None:
    """Give up root's right to pass over permissions (CAP_DAC_OVERRIDE, the second bit)."""
    libc, header, sets = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] &= ~2  # effective
    assert libc.capset(header, sets) == 0


def sit(args, said, crash=None, largest=None, powerless=False):
    """Begin a sitting; a multiprocessing.Process, whose exit code is that of the command, or minus the signal's number."""
    process = context.Process(target=work, args=([str(arg) for arg in args], str(said), crash, largest, powerless))
    process.start()
    return process


def sat(*args, **options):
    """A whole sitting: its exit code."""
    process = sit(*args, **options)
    process.join(120)
    assert process.exitcode is not None, "the sitting does not end"
    return process.exitcode
