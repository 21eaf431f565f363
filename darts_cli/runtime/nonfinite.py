"""Numbers that are no longer finite: noticed on the device in the step in which they appear, said when the metrics are read."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from darts_cli import DartsError

LOWER = "try a lower --lr or --grad-clip, in another --run"  # what to do about it


LONGEST = 2**40  # steps of an epoch
NEVER = 2**62  # later than any step of any epoch


class NotFinite(DartsError):
    """A number that is no longer finite, where it was noticed."""


class Anomaly(DartsError):
    """A number that is no longer finite, where `--detect-anomaly` found it: no run goes back and tries again then."""


class Watch:
    """Keeps on the device, of each number that is noted, the first step in which it was not finite; `first` alone reads it."""

    def __init__(self):
        self._bad: dict[str, Tensor] = {}  # the name of a number: the step, counted over all epochs, or NEVER

    def note(
        self, epoch: int, step: int, loss: Tensor, norm: Tensor, valid_loss: Tensor | None = None, alphas: Sequence[Tensor] = ()
    ) -> None:
        """Look at the numbers of a step: loss and norm of the weights' gradient; in a search alpha, its loss and gradient."""
        numbers = {"the training loss": [loss], "the gradient of the weights": [norm]}
        if valid_loss is not None:
            found = {"the validation loss": [valid_loss], "the gradient of alpha": [alpha.grad for alpha in alphas]}
            numbers = {**found, "alpha": alphas, **numbers}  # in the order in which a step computes them
        place = epoch * LONGEST + step
        for name, tensors in numbers.items():
            finite = torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).all()
            if name not in self._bad:
                self._bad[name] = torch.full((), NEVER, device=finite.device)
            bad = self._bad[name]
            bad.copy_(torch.where(finite, bad, bad.clamp(max=place)))

    def first(self) -> tuple[int, int, str] | None:
        """Epoch and step, counted from 0, and name of the first number that was not finite, if any."""
        if not self._bad:
            return None
        places = torch.stack(list(self._bad.values())).tolist()
        place = min(places)
        return None if place == NEVER else (*divmod(place, LONGEST), list(self._bad)[places.index(place)])

    def forget(self) -> None:
        """Begin anew, after a return to an earlier state."""
        self._bad.clear()


def check_finite(state: dict) -> str | None:
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
