"""What the tests share: a small image folder, and the command run for real."""

import os
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from darts_cli.cli import main

TINY = ["--dataset", "folder", "--epochs", "2", "--layers", "3", "--channels", "2", "--batch-size", "8", "--seed", "0"]


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """48 noisy images of 8x8 pixels in two classes: three steps an epoch at batch size 8."""
    root = tmp_path_factory.mktemp("images")
    g = torch.Generator().manual_seed(0)
    for i in range(48):
        pixels = torch.randint(0, 128, (8, 8, 3), generator=g, dtype=torch.uint8) + 127 * (i % 2)
        path = root / ("dark", "light")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.numpy()).save(path)
    return root


@pytest.fixture(scope="session")
def tiny(images):
    """Arguments of a search that takes seconds."""
    return ["search", "cnn", *TINY, "--data", str(images)]


def darts(*args):
    """The command in this process: a click.testing.Result with exit_code, stdout and stderr."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], prog_name="darts")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def start(*args, **options):
    """The command in a process of its own, its output in pipes."""
    command = [sys.executable, "-m", "darts_cli", *(str(arg) for arg in args)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, encoding="utf-8", **options
    )


def finish(process):
    """Wait for a process of `start`; returns its exit code, stdout and stderr."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err
