"""Memory that runs out in the middle of a run."""

import random

import pytest
import torch
from conftest import assert_same_run, darts

SMALL = ["--dataset", "digits", "--channels", 2, "--batch-size", 300, "--epochs", 1]
WORDS = ["--dim", 4, "--batch-size", 4, "--eval-batch-size", 2, "--bptt", 10]
RUNS = {
    "search cnn": [*SMALL, "--layers", 3, "--nodes", 1],
    "train cnn": [*SMALL, "--layers", 3],
    "search rnn": [*WORDS, "--epochs", 1, "--nodes", 2],
    "train rnn": [*WORDS, "--epochs", 1],
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder, g = tmp_path_factory.mktemp("text"), random.Random(0)
    for part, lines in (("train", 20), ("valid", 20), ("test", 2)):
        (folder / f"{part}.txt").write_text("\n".join(" ".join(g.choices("abcde", k=9)) for _ in range(lines)))
    return folder


@pytest.mark.parametrize(("command", "passes"), [("search cnn", 2), ("search cnn", 4), *((name, 2) for name in [*RUNS][1:])])
def test_out_of_memory_saves_and_the_run_goes_on(tmp_path, text, command, passes):
    """After so many passes PyTorch is asked for more than there is: in the first step, behind the step of alpha, and later.
    The state before is saved, the message says what helps, and the run ends with the bits of one that was not disturbed."""
    more = ["--dataset", "text", "--data", text] if command.endswith("rnn") else []
    args = [*command.split(), *RUNS[command], *more]
    assert darts(*args, "--run", tmp_path / "undisturbed").exit_code == 0
    left = passes

    def demand(module, _inputs, _output):
        nonlocal left
        if type(module).__name__ in ("SearchNetwork", "Network", "Embedding") and module.training:  # one of them a pass
            left -= 1
            if left == 0:
                torch.empty(2**55, dtype=torch.uint8)

    hook = torch.nn.modules.module.register_module_forward_hook(demand)
    try:
        done = darts(*args, "--run", tmp_path / "disturbed")
    finally:
        hook.remove()
    assert done.exit_code == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith("error: out of memory"), done.stderr
    for part in ("--fit-memory", "--batch-size", "--recompute", "is saved", f"darts {command} "):
        assert part in message
    saved = torch.load(tmp_path / "disturbed" / "checkpoint.pt", weights_only=True)
    assert (saved["epoch"], saved["step"]) == (0, passes // 2 - 1 if command.startswith("search") else passes - 1)
    assert darts(*args, "--run", tmp_path / "disturbed").exit_code == 0
    assert_same_run(tmp_path / "undisturbed", tmp_path / "disturbed")


@pytest.mark.parametrize("command", ["search cnn", "search rnn"])
def test_out_of_memory_in_the_hessian_saves_the_epoch(tmp_path, text, command):
    """Its pass is the last one that keeps a graph. All steps of the epoch are saved before."""
    more = ["--dataset", "text", "--data", text] if command.endswith("rnn") else []
    args = [*command.split(), *RUNS[command], *more, "--eigenvalue-every", 1]
    passes, last = 0, None

    def demand(module, _inputs, _output):
        nonlocal passes
        if type(module).__name__ in ("SearchNetwork", "Embedding") and torch.is_grad_enabled():
            passes += 1
            if passes == last:
                torch.empty(2**55, dtype=torch.uint8)

    hook = torch.nn.modules.module.register_module_forward_hook(demand)
    try:
        assert darts(*args, "--run", tmp_path / "undisturbed").exit_code == 0
        passes, last = 0, passes
        done = darts(*args, "--run", tmp_path / "disturbed")
    finally:
        hook.remove()
    assert (done.exit_code, "is saved" in done.stderr) == (1, True), done.stderr
    saved = torch.load(tmp_path / "disturbed" / "checkpoint.pt", weights_only=True)
    assert (saved["epoch"], saved["step"]) == (0, last // 2)
    assert darts(*args, "--run", tmp_path / "disturbed").exit_code == 0
    assert_same_run(tmp_path / "undisturbed", tmp_path / "disturbed")
