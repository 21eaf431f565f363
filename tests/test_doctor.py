"""How exact the hypergradient of a search is: darts doctor."""

import json
import math

import pytest
import torch
from conftest import darts
from test_rnn_search import SMALL

from darts_cli.guard.angles import EXACT, FORMS, angle
from darts_cli.runs import checkpoint
from darts_cli.runs.checkpoint import NEWEST


@pytest.mark.parametrize("degrees", [0, 1e-7, 30, 90, 179.999])
def test_angles_small_and_large(degrees):
    a = torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)
    b = 0.1 * torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0.0], dtype=torch.float64)
    assert angle(a, b) == pytest.approx(degrees, rel=1e-6, abs=1e-12)


def examined(folder, *options):
    done = darts("doctor", folder, "--json", *options)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_a_search_of_images(tiny, tmp_path):
    """Of a search of either order; nothing in the run changes."""
    folder = tmp_path / "run"
    assert darts(*tiny, "--channels", "4", "--epochs", "2", "--run", folder).exit_code == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = examined(folder, "--steps", "2")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert (found["epoch"], [step["step"] for step in found["steps"]]) == (2, [1, 2])
    for step in found["steps"]:
        assert list(step["compared"]) == list(FORMS)
        assert step["compared"][EXACT] == [0.0, 1.0]
        assert all(0 < step["compared"][name][0] < 180 for name in FORMS if name != EXACT)
    shown = darts("doctor", folder, "--steps", "1")
    assert shown.stdout.splitlines()[0] == f"{folder} after epoch 2 of 2, mean of 1 step"
    assert "second order, eq. 8" in shown.stdout
    few = darts("doctor", folder, "--steps", "3", "--batch-size", "1000")
    assert "only 1 step of 1000 is left in the epoch" in few.stderr
    path = folder / NEWEST
    checkpoint.write(path, checkpoint.read(path) | {"epoch": 1, "step": 10_000})  # killed in an evaluation
    assert examined(folder, "--steps", "1")["steps"][0]["step"] == 1


def test_a_search_of_text_is_smooth_enough_for_eq_8(text, tmp_path):
    """There are no kinks but those of relu: a shorter perturbation errs less."""
    folder = tmp_path / "run"
    assert darts("search", "rnn", "--dataset", "text", "--data", text, *SMALL, "--run", folder).exit_code == 0
    for step in examined(folder, "--steps", "2", "--precision", "fp64")["steps"]:
        first, second, tenth, _ = (angle for angle, _ in step["compared"].values())
        assert tenth < second < first
        assert tenth < 1


def test_mistakes(tiny, tmp_path, text):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert darts("doctor", empty).stderr == f"error: {empty}: is no run folder; name that of a search\n"
    folder = tmp_path / "run"
    assert darts(*tiny, "--channels", "4", "--epochs", "1", "--run", folder).exit_code == 0
    assert "no such" in darts("doctor", folder, "--data", tmp_path / "nowhere").stderr.lower()
    for name in ("checkpoint.pt", "previous.pt"):
        (folder / name).unlink(missing_ok=True)
    done = darts("doctor", folder)
    assert done.stderr == f"error: {folder}: holds no checkpoint; a search writes one after its first epoch\n"
