"""Hyper-parameters: one frozen dataclass per domain and stage; default, help and range of each on one line.

The command line is made from these classes (options.py), the run folder keeps them (run.py).
"""

from dataclasses import dataclass

from darts_cli import DartsError
from darts_cli.schema import Config, setting

IMAGES = ("cifar10", "cifar100", "svhn", "fashion-mnist", "digits", "folder")  # data sets that memory holds
TEXTS = ("ptb", "wt2", "text", "pydoc")


# ---- what all four have


def _data(help: str):
    return setting(None, help, changes_result=False, metavar="DIR")


def _precision():
    return setting("fp32", "Arithmetic of the network; bf16 is autocast.", choices=("fp32", "bf16"))


def _device():
    return setting("auto", "auto, cpu, cuda, cuda:N or mps.", changes_result=False, metavar="DEVICE")


def _checkpoint_minutes():
    return setting(10.0, "Minutes between checkpoints inside an epoch.", changes_result=False, ge=0)


def _log_every(original: str):
    return setting(50, "Steps between readings of the metrics.", also=(original,), changes_result=False, ge=1)


def _detect_anomaly():
    return setting(False, "Find where a number stops being finite; takes several times longer.", changes_result=False)


# ---- the four


@dataclass(frozen=True)
class SearchCNN(Config):
    """The search of a convolutional cell; the defaults are the paper's for CIFAR-10."""

    dataset: str = setting("cifar10", "Images to search on.", choices=IMAGES)
    unrolled: bool = setting(False, "Second order: alpha's gradient sees one step of the weights ahead.")
    epochs: int = setting(50, "Passes over the training half.", recipes={"digits": 5}, ge=1)
    batch_size: int = setting(64, "Images in a step, of each half.", also=("--batch",), ge=1)
    layers: int = setting(8, "Cells of the search network.", recipes={"digits": 3}, ge=3)
    channels: int = setting(
        16, "Channels of its first cells.", also=("--init-channels",), recipes={"digits": 8}, ge=2, multiple_of=2
    )
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
    cutout: int = setting(
        0,
        "Side in pixels of the square cut out of every image, 16 without a value; 0 is none.",
        also=("--cutout-length",),
        alone=16,
        ge=0,
        multiple_of=2,
    )
    recompute: bool = setting(False, "Compute some tensors once more for the gradient, to save memory.", changes_result=False)
    precision: str = _precision()
    seed: int = setting(2, "Seed of weights, alpha, order and augmentation.", ge=0, lt=2**63)
    split_seed: int = setting(0, "Seed of the split into the two halves.", ge=0, lt=2**63)
    data: str | None = _data("Folder that holds the data set. [default: download to ./data]")
    device: str = _device()
    checkpoint_minutes: float = _checkpoint_minutes()
    log_every: int = _log_every("--report-freq")
    detect_anomaly: bool = _detect_anomaly()

    def __post_init__(self):
        super().__post_init__()
        if self.lr_min > self.lr:
            raise DartsError(f"--lr-min {self.lr_min}: must be at most the first learning rate, --lr {self.lr}", exit_code=2)


@dataclass(frozen=True)
class TrainCNN(Config):
    """The training of a convolutional cell at full size; the defaults are the paper's for CIFAR-10 and for ImageNet."""

    decisive = ("dataset", "schedule")

    dataset: str = setting(
        "cifar10",
        "Images to train on.",
        choices=(*IMAGES, "imagenet"),
    )
    epochs: int = setting(600, "Passes over the training set.", recipes={"imagenet": 250, "digits": 30}, ge=1)
    batch_size: int = setting(96, "Images in a step.", also=("--batch",), recipes={"imagenet": 128}, ge=2)
    accumulate: int = setting(
        1, "Parts a batch is computed in, one after another, to save memory; BatchNorm then sees a part at a time.", ge=1
    )
    layers: int = setting(20, "Cells of the network.", recipes={"imagenet": 14, "digits": 5}, ge=1)
    channels: int = setting(
        36,
        "Channels of its first cells.",
        also=("--init-channels",),
        recipes={"imagenet": 48, "digits": 8},
        ge=2,
        multiple_of=2,
    )
    lr: float = setting(
        0.025, "Highest learning rate.", also=("--learning-rate",), recipes={"imagenet": 0.1}, gt=0, lt=float("inf")
    )
    schedule: str = setting(
        "cosine",
        "Learning rate over the epochs: half a cosine, or a constant factor an epoch.",
        choices=("cosine", "exponential"),
        recipes={"imagenet": "exponential"},
    )
    lr_min: float = setting(
        0.0, "Learning rate that the cosine schedule ends at.", also=("--learning-rate-min",), ge=0, lt=float("inf")
    )
    lr_decay: float = setting(0.97, "Factor of the exponential schedule.", also=("--gamma",), gt=0, le=1)
    warmup: int | None = setting(
        None, "Epochs in which the learning rate rises to its highest. [default: 0; imagenet with cosine: 5]", ge=0
    )
    momentum: float = setting(0.9, "Momentum.", ge=0, lt=1)
    weight_decay: float = setting(3e-4, "Weight decay.", recipes={"imagenet": 3e-5}, ge=0, lt=float("inf"))
    grad_clip: float = setting(5.0, "Largest norm of the gradient.", gt=0)
    label_smoothing: float = setting(
        0.0, "Share of a label spread over all classes.", also=("--label-smooth",), recipes={"imagenet": 0.1}, ge=0, lt=1
    )
    auxiliary: bool | None = setting(
        True,
        "A second classifier in the middle of the network, while training; for images of 32x32, or of ImageNet.",
        recipes={"digits": False, "folder": None},
    )
    auxiliary_weight: float = setting(0.4, "Weight of its loss.", ge=0, lt=float("inf"))
    drop_path: float = setting(
        0.2,
        "Probability that an edge is dropped at the end; it rises from 0, epoch by epoch.",
        also=("--drop-path-prob",),
        recipes={"imagenet": 0.0},
        ge=0,
        lt=1,
    )
    cutout: int = setting(
        16,
        "Side in pixels of the square cut out of every image, 16 without a value; 0 is none.",
        also=("--cutout-length",),
        alone=16,
        recipes={"digits": 0, "folder": 0, "imagenet": 0},
        ge=0,
        multiple_of=2,
    )
    color_jitter: tuple[float, float, float, float] = setting(
        (0.0, 0.0, 0.0, 0.0),
        "Random change of brightness, contrast, saturation and hue; ImageNet only.",
        recipes={"imagenet": (0.4, 0.4, 0.4, 0.2)},
        ge=0,
        lt=float("inf"),
    )
    train_portion: float = setting(
        1.0, "Share of the training set to train on; by the rest the best epoch is chosen.", gt=0, le=1
    )
    init_from: str | None = setting(None, "Checkpoint, also of the original, that the weights start from.", metavar="RUN|FILE")
    precision: str = _precision()
    seed: int = setting(0, "Seed of weights, order, augmentation and drop-path.", ge=0, lt=2**63)
    split_seed: int = setting(0, "Seed of the split by --train-portion.", ge=0, lt=2**63)
    data: str | None = _data("Folder that holds the data set. [default: download to ./data]")
    device: str = _device()
    workers: int | None = setting(
        None,
        "Processes that read the images of ImageNet; 0 is none. [default: one a CPU, at most 8]",
        changes_result=False,
        ge=0,
    )
    checkpoint_minutes: float = _checkpoint_minutes()
    log_every: int = _log_every("--report-freq")
    detect_anomaly: bool = _detect_anomaly()

    def __post_init__(self):
        super().__post_init__()
        if self.warmup is None:
            modern = self.dataset == "imagenet" and self.schedule == "cosine"
            object.__setattr__(self, "warmup", 5 if modern else 0)
        if self.lr_min > self.lr:
            raise DartsError(f"--lr-min {self.lr_min}: must be at most the highest learning rate, --lr {self.lr}", exit_code=2)
        if self.warmup >= self.epochs:
            raise DartsError(f"--warmup {self.warmup}: must be less than --epochs {self.epochs}", exit_code=2)
        if any(self.color_jitter) and self.dataset != "imagenet":
            raise DartsError(f"--color-jitter: only for --dataset imagenet, not {self.dataset}", exit_code=2)
        if self.color_jitter[3] > 0.5:
            raise DartsError(f"--color-jitter: hue {self.color_jitter[3]} must be at most 0.5", exit_code=2)


@dataclass(frozen=True)
class SearchRNN(Config):
    """The search of a recurrent cell; the defaults are the paper's for the Penn Treebank."""

    dataset: str = setting("ptb", "Text to search on.", choices=TEXTS)
    unrolled: bool = setting(False, "Second order: alpha's gradient sees one step of the weights ahead.")
    epochs: int = setting(50, "Passes over the training text.", recipes={"pydoc": 2}, ge=1)
    batch_size: int = setting(256, "Streams that the text is cut into.", also=("--batch",), recipes={"pydoc": 32}, ge=2)
    eval_batch_size: int = setting(10, "Streams when evaluating.", also=("--eval-batch",), ge=2)
    bptt: int = setting(35, "Words of a stream in a step; one step in twenty takes half.", recipes={"pydoc": 10}, ge=2)
    dim: int = setting(
        300, "Size of embedding and hidden state.", also=("--emsize", "--nhid", "--nhidlast"), recipes={"pydoc": 64}, ge=1
    )
    lr: float = setting(20.0, "Learning rate of the weights, for a step of --bptt words.", gt=0, lt=1e9)
    weight_decay: float = setting(5e-7, "Weight decay of the weights.", also=("--wdecay",), ge=0, lt=float("inf"))
    grad_clip: float = setting(0.25, "Largest norm of each gradient.", also=("--clip",), gt=0)
    alpha_lr: float = setting(3e-3, "Learning rate of alpha (Adam).", also=("--arch-lr",), gt=0, lt=float("inf"))
    alpha_betas: tuple[float, float] = setting((0.9, 0.999), "Betas of alpha's Adam.", ge=0, lt=1)
    alpha_weight_decay: float = setting(1e-3, "Weight decay of alpha.", also=("--arch-wdecay",), ge=0, lt=float("inf"))
    alpha_scale: float = setting(1e-3, "Deviation of alpha at the start.", ge=0, lt=float("inf"))
    dropout: float = setting(0.75, "Dropout of the output.", recipes={"pydoc": 0.1}, ge=0, lt=1)
    dropouth: float = setting(0.25, "Dropout of hidden state and nodes.", recipes={"pydoc": 0.0}, ge=0, lt=1)
    dropoutx: float = setting(0.75, "Dropout of the cell's input.", recipes={"pydoc": 0.1}, ge=0, lt=1)
    dropouti: float = setting(0.2, "Dropout of the embedded words.", recipes={"pydoc": 0.0}, ge=0, lt=1)
    dropoute: float = setting(0.0, "Dropout of whole words.", ge=0, lt=1)
    ar: float = setting(0.0, "Weight of the mean square of the output in the weights' loss.", also=("--alpha",), ge=0, lt=1e9)
    tar: float = setting(1e-3, "Weight of that of its change over time.", also=("--beta",), ge=0, lt=1e9)
    precision: str = _precision()
    seed: int = setting(3, "Seed of weights, alpha, lengths and masks.", ge=0, lt=2**63)
    data: str | None = _data("Folder with train.txt, valid.txt and test.txt.")
    device: str = _device()
    checkpoint_minutes: float = _checkpoint_minutes()
    log_every: int = _log_every("--log-interval")
    detect_anomaly: bool = _detect_anomaly()


@dataclass(frozen=True)
class TrainRNN(Config):
    """The training of a recurrent cell; the defaults are the paper's for the Penn Treebank and for WikiText-2."""

    dataset: str = setting("ptb", "Text to train on.", choices=TEXTS)
    epochs: int = setting(8000, "Passes over the training text at most.", recipes={"pydoc": 20}, ge=1)
    patience: int | None = setting(None, "Stop after so many epochs without a better validation. [default: never]", ge=1)
    batch_size: int = setting(64, "Streams that the text is cut into.", also=("--batch",), recipes={"pydoc": 32}, ge=1)
    batch_chunks: int = setting(1, "Parts a batch is computed in, one after another, to save memory.", ge=1)
    eval_batch_size: int = setting(
        10, "Streams when evaluating on the validation text; one on the test text.", also=("--eval-batch",), ge=1
    )
    bptt: int = setting(35, "Mean number of words of a stream in a step; one step in twenty takes half.", ge=2)
    dim: int = setting(
        850,
        "Size of embedding and hidden state.",
        also=("--emsize", "--nhid", "--nhidlast"),
        recipes={"wt2": 700, "pydoc": 64},
        ge=1,
    )
    init_op: str = setting("tanh", "Activation of the cell's first state.", choices=("tanh", "relu", "sigmoid", "identity"))
    lr: float = setting(20.0, "Learning rate, for a step of --bptt words.", recipes={"pydoc": 10.0}, gt=0, lt=1e9)
    weight_decay: float = setting(
        8e-7, "Weight decay.", also=("--wdecay",), recipes={"wt2": 5e-7, "pydoc": 5e-7}, ge=0, lt=float("inf")
    )
    grad_clip: float = setting(0.25, "Largest norm of the gradient.", also=("--clip",), gt=0)
    dropout: float = setting(0.75, "Dropout of the output.", recipes={"pydoc": 0.2}, ge=0, lt=1)
    dropouth: float = setting(0.25, "Dropout of hidden state and nodes.", recipes={"wt2": 0.15, "pydoc": 0.1}, ge=0, lt=1)
    dropoutx: float = setting(0.75, "Dropout of the cell's input.", recipes={"pydoc": 0.2}, ge=0, lt=1)
    dropouti: float = setting(0.2, "Dropout of the embedded words.", recipes={"pydoc": 0.1}, ge=0, lt=1)
    dropoute: float = setting(0.1, "Dropout of whole words.", recipes={"pydoc": 0.0}, ge=0, lt=1)
    ar: float = setting(0.0, "Weight of the mean square of the output in the loss.", also=("--alpha",), ge=0, lt=1e9)
    tar: float = setting(1e-3, "Weight of that of its change over time.", also=("--beta",), ge=0, lt=1e9)
    asgd_after: int = setting(
        5, "SGD becomes averaged SGD when the validation is not better than before so many epochs.", also=("--nonmono",), ge=1
    )
    asgd_below: float | None = setting(None, "... and only when its perplexity is below this.", recipes={"ptb": 78.0}, gt=1)
    roll_backs: int = setting(3, "Times that a loss which is not finite sends the training back to its best epoch.", ge=0)
    init_from: str | None = setting(None, "Checkpoint, also of the original, that the weights start from.", metavar="RUN|FILE")
    precision: str = _precision()
    seed: int = setting(1267, "Seed of weights, lengths and masks.", ge=0, lt=2**63)
    data: str | None = _data("Folder with train.txt, valid.txt and test.txt.")
    device: str = _device()
    checkpoint_minutes: float = _checkpoint_minutes()
    log_every: int = _log_every("--log-interval")
    detect_anomaly: bool = _detect_anomaly()

    def __post_init__(self):
        super().__post_init__()
        if self.batch_chunks > self.batch_size:
            raise DartsError(f"--batch-chunks {self.batch_chunks}: must be at most --batch-size {self.batch_size}", exit_code=2)
