"""Hyper-parameters: one frozen dataclass per domain and stage; default, help and range of each setting stand together.

The command line is made from these classes (commands/options.py), and every run folder keeps one (runs/identity.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from darts_cli import DartsError
from darts_cli.guard import rules
from darts_cli.schema import Config, Setting, described, setting
from darts_cli.settings import shared as settings
from darts_cli.settings.search import GuardedSearch, SearchConfig

IMAGES = ("cifar10", "cifar100", "svhn", "fashion-mnist", "digits", "folder")  # image data sets that are held in memory
RECIPES = ("darts", "nas-bench-201")  # of trainings of convolutional cells, by the space of the cells
TEXTS = ("ptb", "wt2", "text", "pydoc")


@described
@dataclass(frozen=True)
class SearchCNN(GuardedSearch):
    """The search of a convolutional cell; the defaults are the paper's for CIFAR-10."""

    domain: ClassVar[str] = "cnn"
    dataset: str = setting("cifar10", "Images to search on.", choices=IMAGES)
    space: str | Mapping | None = settings.space(default_text="darts")
    operations: str | None = settings.operations()
    nodes: int | None = settings.nodes()
    method: str = settings.method()
    recipe: str = settings.recipe()
    unrolled: bool | str = settings.unrolled()
    epochs: int = setting(
        50, "Epochs of the search, over the training half.", recipes={"small": 8, "digits": 5}, ge=1, by_method=True
    )
    batch_size: int = setting(64, "Images per step, from each half.", aliases=("--batch",), ge=1, by_method=True)
    layers: int = settings.layers(
        8, recipes={"small": 3, "digits": 3, "nas-bench-201": 5, "small nas-bench-201": 1}, by_method=True
    )
    channels: int = settings.channels(16, recipes={"small": 8, "digits": 8}, by_method=True)
    lr: float = setting(0.025, "Initial learning rate of the weights.", aliases=("--learning-rate",), gt=0, by_method=True)
    lr_min: float = setting(
        0.001, "Final learning rate of the cosine schedule.", aliases=("--learning-rate-min",), ge=0, by_method=True
    )
    momentum: float = setting(0.9, "Momentum of the weights' SGD.", ge=0, lt=1)
    weight_decay: float = setting(3e-4, "Weight decay of the weights.", ge=0, by_method=True)
    grad_clip: float = settings.clip(5.0, by_method=True)
    alpha_lr: float = setting(3e-4, "Learning rate of alpha (Adam).", aliases=("--arch-learning-rate",), gt=0, by_method=True)
    alpha_betas: tuple[float, float] = setting((0.5, 0.999), "The two betas of alpha's Adam.", ge=0, lt=1, by_method=True)
    alpha_weight_decay: float = setting(1e-3, "Weight decay of alpha.", aliases=("--arch-weight-decay",), ge=0)
    alpha_clip: float = settings.clip(math.inf, help="Maximum norm of alpha's gradient; inf: no clipping.", by_method=True)
    alpha_scale: float = setting(1e-3, "Standard deviation of the initial alphas.", ge=0, by_method=True)
    train_portion: float = setting(0.5, "Share of the training set that trains the weights; the rest trains alpha.", gt=0, lt=1)
    split: str = settings.split()
    max_images: int | None = settings.max_images(recipes={"small": 4000})
    subset: float | None = settings.subset()
    flip: bool = settings.flip()
    pad: int | None = settings.pad()
    image_size: str | None = settings.image_size()
    resize: str = settings.resize()
    cutout: int = settings.cutout(0)
    drop_path: float = settings.drop_path(0.0)
    stop: str = settings.stop()
    then: str = settings.then()
    eigenvalue_every: int | None = settings.eigenvalue_every(None, default_text="2 for --stop eigenvalue, else 0")
    benchmark_data: str | None = settings.benchmark_data()
    accumulate: int = settings.accumulate()
    recompute: bool = setting(
        False, "Recompute some tensors in the backward pass to save memory.", changes_result=False, by_method=True
    )
    precision: str = settings.precision()
    deterministic: bool = settings.deterministic()
    compile: bool = settings.compiled()
    cuda_graphs: bool = settings.cuda_graphs()
    seed: int = setting(2, "Seed of weights, alphas, order and augmentation.", ge=0)
    split_seed: int = setting(0, "Seed of the split into the two halves.", ge=0)
    data: str | None = settings.images()
    device: str = settings.device()
    checkpoint_minutes: float = settings.minutes()
    log_every: int = settings.log_every(aliases=("--report-freq",))
    tensorboard: bool = settings.tensorboard()
    detect_anomaly: bool = settings.anomaly()

    def __post_init__(self):
        super().__post_init__()
        self._set("image_size", settings.check_images(self))
        self._set("stop", str(rules.parse(self.stop)))
        if self.stop.startswith("eigenvalue") and not self.eigenvalue_every:
            raise DartsError("--eigenvalue-every 0: --stop eigenvalue needs eigenvalues", exit_code=2)
        if self.then == "regularise" and self.stop == "never":
            raise DartsError("--then regularise: only together with a rule of --stop, such as eigenvalue", exit_code=2)
        if self.then == "regularise" and "narrow" in self.spec.parts:
            raise DartsError("--then regularise: a method with stages (narrow) cannot go back between them", exit_code=2)
        if self.then == "regularise" and not self._regularises([]):
            given = f"--drop-path {self.drop_path}" if self.drop_path else "--weight-decay 0"
            raise DartsError(f"--then regularise: {given} leaves nothing to strengthen", exit_code=2)
        if self.lr_min > self.lr:
            raise DartsError(f"--lr-min {self.lr_min}: must be at most the initial learning rate, --lr {self.lr}", exit_code=2)
        k, wide_k = (self.spec.parts.get(part, {name: 1})[name] for part, name in (("partial", "k"), ("widen", "wide_k")))
        for name, parts in (("k of partial", k), ("wide_k of widen", wide_k)):
            if self.channels % (2 * parts):
                rule = f"must be a multiple of {2 * parts}, twice the {name}"
                raise DartsError(f"--channels {self.channels}: {rule}", exit_code=2)
        if "widen" in self.spec.parts and wide_k >= k:
            raise DartsError(f"--method: widen: wide_k {wide_k} must be less than k {k}", exit_code=2)
        if self.layers < 3 and self.searched.macro == "darts":
            raise DartsError(f"--layers {self.layers}: must be at least 3, two of which reduce", exit_code=2)

    def default(self, setting: Setting) -> object:
        if setting.name == "eigenvalue_every":
            return 2 if self.stop.strip().lower().startswith("eigenvalue") else 0
        if setting.name == "benchmark_data":
            return self.dataset if self.dataset in setting.choices else setting.choices[0]
        return super().default(setting)


@described
@dataclass(frozen=True)
class TrainCNN(Config):
    """The training of a convolutional cell at full size; the defaults are the paper's for CIFAR-10 and for ImageNet."""

    dataset: str = setting("cifar10", "Images to train on.", choices=(*IMAGES, "imagenet"))
    recipe: str = setting("darts", "Whose defaults to use: those of the space of the cells.", choices=RECIPES, hidden=True)
    epochs: int = setting(600, "Epochs of the training.", recipes={"imagenet": 250, "digits": 30, "nas-bench-201": 200}, ge=1)
    batch_size: int = setting(
        96, "Images per step.", aliases=("--batch",), recipes={"imagenet": 128, "nas-bench-201": 256}, ge=2
    )
    accumulate: int = settings.accumulate()
    layers: int = settings.layers(20, recipes={"imagenet": 14, "digits": 5, "nas-bench-201": 5})
    channels: int = settings.channels(36, recipes={"imagenet": 48, "digits": 8, "nas-bench-201": 16})
    lr: float = setting(
        0.025, "Highest learning rate.", aliases=("--learning-rate",), recipes={"imagenet": 0.1, "nas-bench-201": 0.1}, gt=0
    )
    schedule: str = settings.schedule()
    lr_min: float = setting(0.0, "Final learning rate of the cosine schedule.", aliases=("--learning-rate-min",), ge=0)
    lr_decay: float = setting(0.97, "Per-epoch factor of the exponential schedule.", aliases=("--gamma",), gt=0, le=1)
    warmup: int | None = setting(None, "Epochs of the rise to --lr.", default_text="0 (imagenet with cosine: 5)", ge=0)
    momentum: float = setting(0.9, "Momentum of SGD.", ge=0, lt=1)
    nesterov: bool = setting(False, "Use Nesterov's momentum.", recipes={"nas-bench-201": True})
    weight_decay: float = setting(3e-4, "Weight decay.", recipes={"imagenet": 3e-5, "nas-bench-201": 5e-4}, ge=0)
    grad_clip: float = settings.clip(5.0, recipes={"nas-bench-201": float("inf")})
    label_smoothing: float = settings.label_smoothing()
    auxiliary: bool | None = settings.auxiliary()
    auxiliary_weight: float = setting(0.4, "Weight of the auxiliary head's loss.", ge=0)
    drop_path: float = settings.drop_path(0.2, recipes={"imagenet": 0.0, "nas-bench-201": 0.0})
    flip: bool = settings.flip()
    pad: int | None = settings.pad()
    image_size: str | None = settings.image_size()
    resize: str = settings.resize()
    cutout: int = settings.cutout(16, recipes={"digits": 0, "folder": 0, "imagenet": 0, "nas-bench-201": 0})
    color_jitter: tuple[float, float, float, float] = settings.color_jitter()
    split: str = settings.split()
    max_images: int | None = settings.max_images()
    subset: float | None = settings.subset()
    train_portion: float = setting(1.0, "Share of the training set to train on; the rest chooses the best epoch.", gt=0, le=1)
    init_from: str | None = settings.init_from()
    precision: str = settings.precision()
    deterministic: bool = settings.deterministic()
    compile: bool = settings.compiled()
    cuda_graphs: bool = settings.cuda_graphs()
    seed: int = setting(0, "Seed of weights, order, augmentation and drop-path.", ge=0)
    split_seed: int = setting(0, "Seed of the split that --train-portion makes.", ge=0)
    data: str | None = settings.images()
    device: str = settings.device()
    workers: int | None = settings.workers()
    checkpoint_minutes: float = settings.minutes()
    log_every: int = settings.log_every(aliases=("--report-freq",))
    tensorboard: bool = settings.tensorboard()
    detect_anomaly: bool = settings.anomaly()

    def default(self, setting: Setting) -> object:
        if setting.name == "warmup":
            return 5 if self.dataset == "imagenet" and self.schedule == "cosine" else 0
        return super().default(setting)

    def recipe_names(self) -> list[str]:
        return [self.dataset, self.recipe]

    def __post_init__(self):
        super().__post_init__()
        self._set("image_size", settings.check_images(self))
        if self.lr_min > self.lr:
            raise DartsError(f"--lr-min {self.lr_min}: must be at most the highest learning rate, --lr {self.lr}", exit_code=2)
        if self.warmup >= self.epochs:
            raise DartsError(f"--warmup {self.warmup}: must be less than --epochs {self.epochs}", exit_code=2)
        if any(self.color_jitter) and self.dataset != "imagenet":
            raise DartsError(f"--color-jitter: only for --dataset imagenet, not {self.dataset}", exit_code=2)
        if self.color_jitter[3] > 0.5:
            raise DartsError(f"--color-jitter: hue {self.color_jitter[3]} must be at most 0.5", exit_code=2)


@described
@dataclass(frozen=True)
class SearchRNN(SearchConfig):
    """The search of a recurrent cell; the defaults are the paper's for the Penn Treebank."""

    domain: ClassVar[str] = "rnn"
    dataset: str = setting("ptb", "Text to search on.", choices=TEXTS)
    tokens: str = settings.tokens()
    space: str | Mapping | None = settings.space(default_text="darts-rnn")
    operations: str | None = settings.operations()
    nodes: int | None = settings.nodes()
    method: str = settings.method()
    unrolled: bool | str = settings.unrolled()
    epochs: int = setting(50, "Epochs of the search, over the training text.", recipes={"pydoc": 2}, ge=1)
    batch_size: int = settings.streams(256, ge=2)
    batch_chunks: int = settings.batch_chunks()
    eval_batch_size: int = setting(10, "Streams of the validation text.", aliases=("--eval-batch",), ge=2)
    bptt: int = setting(35, "Words per stream and step; one step in twenty is half as long.", recipes={"pydoc": 10}, ge=2)
    dim: int = settings.dim(300, recipes={"pydoc": 64})
    lr: float = settings.text_lr("Learning rate of the weights, for a step of --bptt words (scaled with the step's length).")
    weight_decay: float = setting(5e-7, "Weight decay of the weights.", aliases=("--wdecay",), ge=0)
    grad_clip: float = settings.clip(0.25, aliases=("--clip",))
    alpha_lr: float = setting(3e-3, "Learning rate of alpha (Adam).", aliases=("--arch-lr",), gt=0)
    alpha_betas: tuple[float, float] = setting((0.9, 0.999), "The two betas of alpha's Adam.", ge=0, lt=1)
    alpha_weight_decay: float = setting(1e-3, "Weight decay of alpha.", aliases=("--arch-wdecay",), ge=0)
    alpha_scale: float = setting(1e-3, "Standard deviation of the initial alphas.", ge=0)
    dropout: float = setting(0.75, "Dropout of the output.", recipes={"pydoc": 0.1}, ge=0, lt=1)
    dropouth: float = setting(0.25, "Dropout of hidden state and nodes.", recipes={"pydoc": 0.0}, ge=0, lt=1)
    dropoutx: float = setting(0.75, "Dropout of the cell's input.", recipes={"pydoc": 0.1}, ge=0, lt=1)
    dropouti: float = setting(0.2, "Dropout of the embedding's output.", recipes={"pydoc": 0.0}, ge=0, lt=1)
    dropoute: float = setting(0.0, "Dropout of whole words.", ge=0, lt=1)
    ar: float = settings.ar()
    tar: float = settings.tar()
    eigenvalue_every: int = settings.eigenvalue_every(0)
    precision: str = settings.precision()
    deterministic: bool = settings.deterministic()
    compile: bool = settings.compiled()
    cuda_graphs: bool = settings.cuda_graphs()
    seed: int = setting(3, "Seed of weights, alphas, sequence lengths and masks.", ge=0)
    data: str | None = settings.texts()
    device: str = settings.device()
    checkpoint_minutes: float = settings.minutes()
    log_every: int = settings.log_every(aliases=("--log-interval",))
    tensorboard: bool = settings.tensorboard()
    detect_anomaly: bool = settings.anomaly()


@described
@dataclass(frozen=True)
class TrainRNN(Config):
    """The training of a recurrent cell; the defaults are the paper's for the Penn Treebank and for WikiText-2."""

    dataset: str = setting("ptb", "Text to train on.", choices=TEXTS)
    tokens: str = settings.tokens()
    epochs: int = setting(8000, "Epochs of the training, at most.", recipes={"pydoc": 20}, ge=1)
    patience: int | None = setting(
        None, "Epochs without a better validation perplexity after which to stop.", default_text="never", ge=1
    )
    batch_size: int = settings.streams(64, ge=1)
    batch_chunks: int = settings.batch_chunks()
    eval_batch_size: int = setting(
        10, "Streams of the validation text; the test text is one stream.", aliases=("--eval-batch",), ge=1
    )
    bptt: int = setting(35, "Mean number of words per stream and step; one step in twenty is about half as long.", ge=2)
    dim: int = settings.dim(850, recipes={"wt2": 700, "pydoc": 64})
    init_op: str = setting("tanh", "Activation of the cell's first state.", choices=("tanh", "relu", "sigmoid", "identity"))
    lr: float = setting(
        20.0,
        "Learning rate, for a step of --bptt words (scaled with the step's length).",
        recipes={"pydoc": 10.0},
        gt=0,
        lt=10**9,
    )
    weight_decay: float = setting(8e-7, "Weight decay.", aliases=("--wdecay",), recipes={"wt2": 5e-7, "pydoc": 5e-7}, ge=0)
    grad_clip: float = settings.clip(0.25, aliases=("--clip",))
    dropout: float = setting(0.75, "Dropout of the output.", recipes={"pydoc": 0.2}, ge=0, lt=1)
    dropouth: float = setting(0.25, "Dropout of hidden state and nodes.", recipes={"wt2": 0.15, "pydoc": 0.1}, ge=0, lt=1)
    dropoutx: float = setting(0.75, "Dropout of the cell's input.", recipes={"pydoc": 0.2}, ge=0, lt=1)
    dropouti: float = setting(0.2, "Dropout of the embedding's output.", recipes={"pydoc": 0.1}, ge=0, lt=1)
    dropoute: float = setting(0.1, "Dropout of whole words.", recipes={"pydoc": 0.0}, ge=0, lt=1)
    ar: float = settings.ar()
    tar: float = settings.tar()
    asgd_after: int = setting(
        5, "Epochs without a better validation perplexity before SGD becomes averaged SGD.", aliases=("--nonmono",), ge=1
    )
    asgd_below: float | None = setting(
        None, "Validation perplexity that must be reached before averaging starts.", recipes={"ptb": 78.0}, infinite=True, gt=1
    )
    roll_backs: int = setting(3, "How often to return to the best epoch after a NaN or infinite loss.", ge=0)
    init_from: str | None = settings.init_from()
    precision: str = settings.precision()
    deterministic: bool = settings.deterministic()
    cuda_graphs: bool = settings.cuda_graphs()
    seed: int = setting(1267, "Seed of weights, sequence lengths and masks.", ge=0)
    data: str | None = settings.texts()
    device: str = settings.device()
    checkpoint_minutes: float = settings.minutes()
    log_every: int = settings.log_every(aliases=("--log-interval",))
    tensorboard: bool = settings.tensorboard()
    detect_anomaly: bool = settings.anomaly()

    def __post_init__(self):
        super().__post_init__()
        settings.check_tokens(self.dataset, self.tokens)
        if self.batch_chunks > self.batch_size:
            raise DartsError(f"--batch-chunks {self.batch_chunks}: must be at most --batch-size {self.batch_size}", exit_code=2)
