"""How many operators a step dispatches: on a GPU each of them is a launch, for whose time a small tensor does not make up.

python -m benchmarks operators    a table, within two minutes

The networks are the paper's in everything but the numbers that an operator computes at a time: channels, images and streams.
They are counted on the CPU, in the forms that other devices get: the node of few large kernels, optimisers that update all
tensors at once, also of the plain network.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from unittest import mock

import click
import torch
from torch.optim import optimizer
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.rows import search_cnn, search_rnn
from darts_cli.cnn import step as cnn
from darts_cli.cnn.fused import depthwise, node
from darts_cli.rnn import step as rnn
from darts_cli.rnn.fused import mixture

CPU = torch.device("cpu")
SMALL = {"cnn": {"batch": 2, "channels": 4}, "rnn": {"batch": 2, "dim": 4, "vocab": 20}}
ROWS = {
    f"{domain}, {order} order": (search, {"unrolled": order == "second", **SMALL[domain]})
    for domain, search in (("cnn", search_cnn), ("rnn", search_rnn))
    for order in ("first", "second")
}
PHASES = ("forward", "backward", "SGD", "Adam")
HEADER = (
    "| search step | network | forward | backward | step of the weights | step of alpha | all | of plain |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


class Operators(TorchDispatchMode):
    """Counts the operators inside by phase and name, but for those that only look at a tensor in another way."""

    def __init__(self):
        super().__init__()
        self.counts: dict[str, Counter[str]] = {phase: Counter() for phase in PHASES}
        self._optimiser: str | None = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **kwargs or {})
        phase = self._optimiser or ("backward" if torch._C._current_autograd_node() is not None else "forward")
        name = func.name().removeprefix("aten::")
        if not (is_view(func) or name.startswith(("profiler::", "empty", "new_empty", "_unsafe_view"))):
            self.counts[phase][name] += 1
        return found

    def __enter__(self):
        self._hooks = [
            optimizer.register_optimizer_step_pre_hook(lambda each, *_: self._enter(type(each).__name__)),
            optimizer.register_optimizer_step_post_hook(lambda *_: self._enter(None)),
        ]
        return super().__enter__()

    def __exit__(self, *error):
        for hook in self._hooks:
            hook.remove()
        return super().__exit__(*error)

    def _enter(self, name: str | None) -> None:
        self._optimiser = name

    def by_phase(self) -> list[int]:
        return [sum(self.counts[phase].values()) for phase in PHASES]


def is_view(func) -> bool:
    """Whether an operator returns a view of its argument, which launches nothing."""
    returns = func._schema.returns
    return bool(returns) and all(each.alias_info is not None and not each.alias_info.is_write for each in returns)


@contextlib.contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Inside, networks and optimisers on the CPU take the forms that they have on a GPU."""
    devices = [*_foreach_utils._get_foreach_kernels_supported_devices(), "cpu"]
    with contextlib.ExitStack() as stack:
        for module, name, value in (
            (node, "large_kernels", True),
            (depthwise, "large_kernels", True),
            (mixture, "large_kernels", True),
            (cnn, "fused", True),
            (rnn, "fused", True),
            (_foreach_utils, "_get_foreach_kernels_supported_devices", devices),
            (optimizer, "_get_foreach_kernels_supported_devices", devices),
        ):
            stack.enter_context(mock.patch.object(module, name, lambda *_, value=value: value))
        yield


def count(row: str, side: str) -> Operators:
    """The operators of the second step of a search: its optimisers have begun."""
    search, arguments = ROWS[row]
    with as_on_a_gpu():
        step = search(side, CPU, "fp32", **arguments)
        step()
        with Operators() as operators:
            step()
    return operators


def table(rows: list[str]) -> Iterator[str]:
    """The lines of a table in Markdown."""
    yield HEADER
    for row in rows:
        plain, ours = (count(row, side).by_phase() for side in ("plain", "ours"))
        for name, numbers, ratio in (("plain", plain, ""), ("ours", ours, f"{sum(ours) / sum(plain):.2f}")):
            yield f"| {row} | {name} | " + " | ".join(f"{n:,}" for n in [*numbers, sum(numbers)]) + f" | {ratio} |"


@click.command()
@click.argument("rows", nargs=-1, type=click.Choice(list(ROWS)))
def main(rows):
    """Count the operators of a search step, of the plain network and of ours, as a GPU gets them.

    ROWS: all, if none is given.
    """
    for line in table(list(rows or ROWS)):
        click.echo(line)
