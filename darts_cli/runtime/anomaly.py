"""Where a number stops being finite: every module's output and every gradient looked at (`--detect-anomaly`)."""

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from darts_cli.runtime.nonfinite import Anomaly


@contextlib.contextmanager
def detection(network: nn.Module, wanted: bool) -> Iterator[None]:
    """If wanted, the first output of a module or gradient of a parameter that is not finite raises Anomaly naming it.

    Before that PyTorch's own detection tells the line of the operation whose gradient is NaN. It all takes much longer.
    """
    if not wanted:
        yield
        return
    names = {module: name or "the network" for name, module in network.named_modules()}

    def look(module: nn.Module, _inputs, output) -> None:
        if module in names and not all(tensor.isfinite().all() for tensor in _floating(output)):
            raise Anomaly(f"--detect-anomaly: the output of {names[module]} ({type(module).__name__}) is not finite")

    def checked(name: str) -> Callable[[Tensor], None]:
        def look_at(gradient: Tensor) -> None:
            if not gradient.isfinite().all():
                raise Anomaly(f"--detect-anomaly: the gradient of {name} is not finite")

        return look_at

    hooks = [nn.modules.module.register_module_forward_hook(look)]
    hooks += [parameter.register_hook(checked(name)) for name, parameter in network.named_parameters()]
    said, show = [], warnings.showwarning

    def note(message, *about, **more) -> None:
        said.append(str(message)) if "Error detected in" in str(message) else show(message, *about, **more)

    try:
        with warnings.catch_warnings(), torch.autograd.set_detect_anomaly(True):
            warnings.filterwarnings("always", message="Error detected in")
            warnings.showwarning = note
            yield
    except RuntimeError as error:
        found = re.search(r"Function '(\w+?)(?:Backward\w*)?' returned nan", str(error))
        if found is None:
            raise
        lines = re.findall(r'File ".*?(darts_cli[^"]*)", line (\d+), in (\w+)', "".join(said))
        place = f" ({lines[-1][0]}, line {lines[-1][1]}, in {lines[-1][2]})" if lines else ""
        raise Anomaly(f"--detect-anomaly: the gradient of {found[1]}{place} is NaN") from None
    finally:
        for hook in hooks:
            hook.remove()


def _floating(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, list | tuple):
        for each in output:
            yield from _floating(each)
