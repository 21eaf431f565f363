"""Where the time of a step goes: by phase, and by kind of operator.

python -m benchmarks profile search-cnn-first    on CUDA the time of kernels, elsewhere that of operators
"""

from collections import Counter
from collections.abc import Callable, Iterator

import click
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.rows import ROWS, TINY
from darts_cli.runtime import device as devices

KINDS = {  # the first with a word that an operator's name contains
    "depthwise and other convolutions": "conv",
    "matrix products": "mm matmul linear mv dot",
    "views": "view reshape narrow chunk strided transpose permute select slice split expand squeeze flatten detach unbind",
    "normalisation": "batch_norm",
    "pooling": "pool",
    "optimiser": "fused_sgd fused_adam",
    "copies": "copy cat clone stack contiguous flip pad index gather scatter embedding",
    "sums": "sum mean norm max softmax nll sort",
    "allocation": "empty resize zero fill ones full",
    "element by element": "add mul sub div relu tanh sigmoid threshold lerp sqrt neg exp pow clamp gt square",
}
PHASES = ("forward", "backward", "optimisers")


def where(event) -> str:
    """The phase of an operator, by those that called it."""
    while event is not None:
        if event.name.startswith("Optimizer.step"):
            return "optimisers"
        if event.name.startswith("autograd::engine"):
            return "backward"
        event = event.cpu_parent
    return "forward"


def kind(name: str) -> str:
    """The kind of an operator."""
    if not name.startswith("aten::"):
        return "between operators"
    name = name.removeprefix("aten::").lower()
    if name == "t":
        return "views"
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words.split())), "other")


def measure(step: Callable[[], None], device: torch.device) -> dict[tuple[str, str], tuple[float, int]]:
    """By phase and kind, the seconds of a step and how many operators took them."""
    step()
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])], acc_events=True) as profiled:
        step()
        devices.synchronize()
    seconds, calls = Counter(), Counter()
    for event in profiled.events():
        taken = event.self_device_time_total if cuda else event.self_cpu_time_total
        on_cpu = event.device_type == torch.autograd.DeviceType.CPU  # what launched a kernel, which has the kernel's time too
        if on_cpu and (event.name.startswith("aten::") or taken):
            place = where(event), kind(event.name)
            seconds[place] += taken / 1e6
            calls[place] += event.name.startswith("aten::")
    return {place: (seconds[place], calls[place]) for place in seconds}


def table(found: dict[tuple[str, str], tuple[float, int]]) -> Iterator[str]:
    """The lines of a table in Markdown, the kinds that take longest first."""
    total = sum(seconds for seconds, _ in found.values())
    of_kind = Counter()
    for (_, each), (seconds, _) in found.items():
        of_kind[each] += seconds
    yield "| kind | " + " | ".join(PHASES) + " | all | share | operators |"
    yield "| --- |" + " --- |" * (len(PHASES) + 3)
    for each, seconds in of_kind.most_common():
        by_phase = [found.get((phase, each), (0.0, 0)) for phase in PHASES]
        numbers = " | ".join(f"{1000 * taken:.1f} ms" for taken, _ in by_phase)
        calls = sum(count for _, count in by_phase)
        yield f"| {each} | {numbers} | {1000 * seconds:.1f} ms | {seconds / max(total, 1e-12):.0%} | {calls:,} |"
    phases = [sum(found.get((phase, each), (0.0, 0))[0] for each in of_kind) for phase in PHASES]
    numbers = " | ".join(f"{1000 * taken:.1f} ms" for taken in phases)
    yield f"| all | {numbers} | {1000 * total:.1f} ms | 100% | {sum(count for _, count in found.values()):,} |"


@click.command()
@click.argument("row", type=click.Choice(list(ROWS)))
@click.option("--side", type=click.Choice(["ours", "plain"]), default="ours", show_default=True, help="Which network.")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True, help="cpu or cuda.")
@click.option("--precision", type=click.Choice(["fp32", "tf32", "bf16"]), default="fp32", show_default=True, help="Arithmetic.")
@click.option("--deterministic/--no-deterministic", default=True, show_default=True, help="As for a run.")
@click.option("--quick", is_flag=True, help="Smaller batches.")
@click.option("--tiny", is_flag=True, help="The smallest sizes, to try the command.")
def main(row, side, device, precision, deterministic, quick, tiny):
    """Print where the time of a step goes, by phase and kind of operator, in milliseconds.

    The profiler itself adds a few microseconds to every operator.
    """
    where = devices.chosen(device, deterministic, precision)
    function, arguments, smaller = ROWS[row]
    torch.manual_seed(0)
    sizes = (smaller if quick else {}) | (TINY[function] if tiny else {})
    step = function(side, where, precision, **arguments | sizes)
    for line in table(measure(step, where)):
        click.echo(line)
