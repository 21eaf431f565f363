"""NaN and infinity: noticed on the device in the step in which they appear, reported when the metrics are read."""

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from darts_cli import DartsError

ADVICE = "try a lower --lr or --grad-clip, in another --run"
MAX_STEPS = 2**40  # of an epoch
NEVER = 2**62  # later than any step of any epoch


class NotFinite(DartsError):
    """A number is NaN or infinite."""


class Anomaly(DartsError):
    """Where `--detect-anomaly` saw the first NaN or infinity. It ends the run in any case."""


class Watch:
    """Keeps, on the device, the first step in which each number was not finite; only `first` reads it."""

    def __init__(self):
        self._bad: dict[str, Tensor] = {}  # by the name of a number: its first bad step, epoch * MAX_STEPS + step, or NEVER

    def note(
        self, epoch: int, step: int, loss: Tensor, norm: Tensor, valid_loss: Tensor | None = None, alphas: Sequence[Tensor] = ()
    ) -> None:
        """Look at a step: training loss and norm of the weights' gradient; in a search also alpha, its loss and gradient."""
        numbers = {"the training loss": [loss], "the gradient of the weights": [norm]}
        if valid_loss is not None:
            of_alpha = {
                "the validation loss": [valid_loss],
                "the gradient of alpha": [a.grad for a in alphas if a.grad is not None],
            }
            numbers = {**of_alpha, "alpha": alphas, **numbers}  # in the order in which a step computes them
        for name, tensors in numbers.items():
            if not tensors:  # alpha has no gradient during its warm-up
                continue
            finite = torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).all()
            if name not in self._bad:
                self._bad[name] = torch.full((), NEVER, device=finite.device)
            bad = self._bad[name]
            bad.copy_(torch.where(finite, bad, bad.clamp(max=epoch * MAX_STEPS + step)))

    def first(self) -> tuple[int, int, str] | None:
        """Epoch and step, counted from 0, and name of the first number that was not finite, if any."""
        if not self._bad:
            return None
        steps = torch.stack(list(self._bad.values())).tolist()
        first = min(steps)
        return None if first == NEVER else (*divmod(first, MAX_STEPS), list(self._bad)[steps.index(first)])

    def forget(self) -> None:
        """Start over, after a return to an earlier state."""
        self._bad.clear()


def first_not_finite(state: dict) -> str | None:
    """The name of the first tensor of a state, in nested dicts, that holds NaN or infinity."""
    tensors = {name: tensor for name, tensor in named_tensors("", state) if tensor.is_floating_point()}
    finite = torch.stack([tensor.isfinite().all().cpu() for tensor in tensors.values()])
    return None if finite.all() else list(tensors)[int(finite.int().argmin())]


def named_tensors(name: str, state: object) -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested dicts, by their keys joined with dots."""
    if isinstance(state, Tensor):
        yield name, state
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from named_tensors(f"{name}.{key}" if name else str(key), value)


@contextlib.contextmanager
def detection(network: nn.Module, wanted: bool) -> Iterator[None]:
    """`--detect-anomaly`: the first module output or parameter gradient that is not finite raises Anomaly naming it.

    A NaN inside the backward pass is PyTorch's to find: it warns with the traceback of the operation, and the last line of ours
    in it is named. Everything takes several times longer.
    """
    if not wanted:
        yield
        return
    names = {module: name or "the network" for name, module in network.named_modules()}

    def check_output(module: nn.Module, _inputs, output) -> None:
        tensors = [tensor for tensor in _flat(output) if tensor.is_floating_point()]
        if module in names and not all(tensor.isfinite().all() for tensor in tensors):
            raise Anomaly(f"--detect-anomaly: the output of {names[module]} ({type(module).__name__}) is not finite")

    def gradient_check(name: str) -> Callable[[Tensor], None]:
        def check(gradient: Tensor) -> None:
            if not gradient.isfinite().all():
                raise Anomaly(f"--detect-anomaly: the gradient of {name} is not finite")

        return check

    hooks = [nn.modules.module.register_module_forward_hook(check_output)]
    hooks += [parameter.register_hook(gradient_check(name)) for name, parameter in network.named_parameters()]
    tracebacks, show = [], warnings.showwarning

    def keep(message, *args, **kwargs) -> None:
        if "Error detected in" in str(message):
            tracebacks.append(str(message))
        else:
            show(message, *args, **kwargs)

    try:
        with warnings.catch_warnings(), torch.autograd.set_detect_anomaly(True):
            warnings.filterwarnings("always", message="Error detected in")
            warnings.showwarning = keep
            yield
    except RuntimeError as error:
        operation = re.search(r"Function '(\w+?)(?:Backward\w*)?' returned nan", str(error))
        if operation is None:
            raise
        lines = re.findall(r'File ".*?(darts_cli[^"]*)", line (\d+), in (\w+)', "".join(tracebacks))
        line = " ({}, line {}, in {})".format(*lines[-1]) if lines else ""
        raise Anomaly(f"--detect-anomaly: the gradient of {operation[1]}{line} is NaN") from None
    finally:
        for hook in hooks:
            hook.remove()


def _flat(output: object) -> Iterator[Tensor]:
    """The tensors in an output: a tensor, or nested lists and tuples of tensors."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, list | tuple):
        for inner in output:
            yield from _flat(inner)
