"""Hyper-parameters: one frozen dataclass per domain and stage; default, help and range of each on one line.

The command line is made from these classes (options.py), the run folder keeps them (run.py).
"""

import dataclasses
import operator
from dataclasses import dataclass, field

from darts_cli import DartsError

_BOUNDS = {
    "ge": (operator.ge, "at least {}"),
    "gt": (operator.gt, "more than {}"),
    "lt": (operator.lt, "less than {}"),
    "multiple_of": (lambda value, factor: value % factor == 0, "a multiple of {}"),
}


def setting(default, help, *, also=(), choices=None, changes_result=True, metavar=None, **bounds):
    """A dataclass field. `also`: further spellings of its option; `bounds`: ge, gt, lt, multiple_of."""
    metadata = {"help": help, "also": also, "choices": choices, "changes_result": changes_result, "metavar": metavar}
    return field(default=default, metadata=metadata | {"bounds": bounds})


class Config:
    """What the configurations share: the check of every value, and the comparison of two runs."""

    def __post_init__(self):
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            for number in value if isinstance(value, tuple) else (value,):
                _check(each, number)

    def to_dict(self) -> dict:
        """The values as plain data, as config.yaml holds them."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def compared(self) -> dict:
        """The values that change the result; two runs with the same ones are the same run."""
        values = self.to_dict()
        return {each.name: values[each.name] for each in dataclasses.fields(self) if each.metadata["changes_result"]}

    def hash(self) -> str:
        """Eight hexadecimal digits of what changes the result."""
        import hashlib
        import json

        return hashlib.sha256(json.dumps(self.compared(), sort_keys=True).encode()).hexdigest()[:8]


def option_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check(each: dataclasses.Field, value) -> None:
    choices = each.metadata["choices"]
    if choices and value not in choices:
        raise DartsError(f"{option_name(each.name)} {value}: must be one of {', '.join(choices)}", exit_code=2)
    for name, bound in each.metadata["bounds"].items():
        holds, words = _BOUNDS[name]
        if value is not None and not holds(value, bound):  # NaN holds nowhere
            raise DartsError(f"{option_name(each.name)} {value}: must be {words.format(bound)}", exit_code=2)


@dataclass(frozen=True)
class SearchCNN(Config):
    """The search of a convolutional cell; the defaults are the paper's for CIFAR-10."""

    dataset: str = setting(
        "cifar10", "Images to search on.", choices=("cifar10", "cifar100", "svhn", "fashion-mnist", "digits", "folder")
    )
    unrolled: bool = setting(False, "Second order: alpha's gradient sees one step of the weights ahead.")
    epochs: int = setting(50, "Passes over the training half.", ge=1)
    batch_size: int = setting(64, "Images in a step, of each half.", also=("--batch",), ge=1)
    layers: int = setting(8, "Cells of the search network.", ge=3)
    channels: int = setting(16, "Channels of its first cells.", also=("--init-channels",), ge=2, multiple_of=2)
    lr: float = setting(0.025, "Learning rate of the weights at the start.", also=("--learning-rate",), gt=0, lt=float("inf"))
    lr_min: float = setting(
        0.001, "Learning rate that the cosine schedule ends at.", also=("--learning-rate-min",), ge=0, lt=float("inf")
    )
    momentum: float = setting(0.9, "Momentum of the weights.", ge=0, lt=1)
    weight_decay: float = setting(3e-4, "Weight decay of the weights.", ge=0, lt=float("inf"))
    grad_clip: float = setting(5.0, "Largest norm of the weights' gradient.", gt=0)
    alpha_lr: float = setting(3e-4, "Learning rate of alpha (Adam).", also=("--arch-learning-rate",), gt=0, lt=float("inf"))
    alpha_betas: tuple[float, float] = setting((0.5, 0.999), "Betas of alpha's Adam.", ge=0, lt=1)
    alpha_weight_decay: float = setting(1e-3, "Weight decay of alpha.", also=("--arch-weight-decay",), ge=0, lt=float("inf"))
    alpha_scale: float = setting(1e-3, "Deviation of alpha at the start.", ge=0, lt=float("inf"))
    train_portion: float = setting(0.5, "Share of the training set for the weights; the rest is for alpha.", gt=0, lt=1)
    cutout: int = setting(0, "Side in pixels of the square cut out of every image; 0 is none.", ge=0, multiple_of=2)
    precision: str = setting("fp32", "Arithmetic of the network; bf16 is autocast.", choices=("fp32", "bf16"))
    seed: int = setting(2, "Seed of weights, alpha, order and augmentation.", ge=0, lt=2**63)
    split_seed: int = setting(0, "Seed of the split into the two halves.", ge=0, lt=2**63)
    data: str | None = setting(
        None, "Folder that holds the data set. [default: download to ./data]", changes_result=False, metavar="DIR"
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps.", changes_result=False, metavar="DEVICE")
    checkpoint_minutes: float = setting(10.0, "Minutes between checkpoints inside an epoch.", changes_result=False, ge=0)
    log_every: int = setting(50, "Steps between readings of the metrics.", also=("--report-freq",), changes_result=False, ge=1)

    def __post_init__(self):
        super().__post_init__()
        if self.lr_min > self.lr:
            raise DartsError(f"--lr-min {self.lr_min}: must be at most the first learning rate, --lr {self.lr}", exit_code=2)
