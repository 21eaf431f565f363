"""What search methods are made of, in words: parts, their parameters, and the methods of papers.

A method of a paper is a sum of parts with a recipe. Plain data: no torch. `spec.py` reads what people write, `method.py` makes
functions of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

INPUTS = {"normal": 2, "reduce": 2, "recurrent": 1}  # of a node, that `uniform` draws, by kind of cell; all in others


@dataclass(frozen=True)
class Parameter:
    """A number that a part takes: its name, default, range and meaning."""

    name: str
    default: float
    low: float
    high: float
    help: str

    @property
    def whole(self) -> bool:
        return isinstance(self.default, int)


@dataclass(frozen=True)
class Part:
    """One idea of a paper.

    axis       what it decides; a method has at most one part of each axis
    formula    what it computes, in words
    needs      the part that must be there too
    """

    axis: str
    formula: str
    paper: str
    parameters: tuple[Parameter, ...] = ()
    needs: str | None = None
    domains: tuple[str, ...] = ("cnn", "rnn")


@dataclass(frozen=True)
class Named:
    """The method of a paper: parts, and the settings that it changes in a search of images.

    without_none    whether the paper searches without the operation `none`
    optional        parts that are left out in a domain where they have no meaning
    """

    parts: str
    paper: str
    idea: str
    recipe: Mapping[str, object] = field(default_factory=dict)
    without_none: bool = False
    optional: tuple[str, ...] = ()


# What methods add to the display, the records, the report and the pictures of a search.
METHOD_NUMBERS = ("temperature", "radius", "penalty_weight", "auxiliary_skip", "skip_dropout", "stage", "undecided_edges")

_DARTS = "Liu et al., arXiv 1806.09055"
_PC_DARTS = "Xu et al., PC-DARTS, arXiv 1907.05737"
_FAIR_DARTS = "Chu et al., FairDARTS, arXiv 1911.12126"
_GDAS = "Dong and Yang, GDAS, arXiv 1910.04465"
_DRNAS = "Chen et al., DrNAS, arXiv 2006.10355"
_SDARTS = "Chen and Hsieh, SDARTS, arXiv 2002.05283"
_BETA = "Ye et al., beta-DARTS, arXiv 2203.01665"
_MINUS = "Chu et al., DARTS-, arXiv 2009.01027"
_SHARING = "Li and Talwalkar, random search, arXiv 1902.07638"
_PT = "Wang et al., DARTS-PT, arXiv 2108.04392"
_P_DARTS = "Chen et al., P-DARTS, arXiv 1904.12760"

_RADIUS = (
    Parameter("radius_start", 0.03, 0, 1, "radius in the first epoch"),
    Parameter("radius_end", 0.3, 0, 1, "radius after the last epoch; linear between"),
)

PARTS = {
    "softmax": Part("mixture", "operation weights are the softmax of alpha over the operations of an edge", _DARTS),
    "sigmoid": Part("mixture", "operation weights are the sigmoid of alpha: operations do not compete", _FAIR_DARTS),
    "gumbel": Part(
        "mixture",
        "every step draws one operation per edge: the argmax of (log softmax alpha + Gumbel noise) / tau, computed alone; its "
        "gradient is that of the softmax of the same",
        _GDAS,
        (
            Parameter("tau_start", 10.0, 1e-3, 1e3, "temperature in the first epoch"),
            Parameter("tau_end", 0.1, 1e-3, 1e3, "temperature in the last epoch; linear between"),
        ),
    ),
    "dirichlet": Part(
        "mixture",
        "every step draws the weights of an edge from a Dirichlet distribution with concentration elu(alpha) + 1",
        _DRNAS,
    ),
    "uniform": Part(
        "mixture",
        "every step draws an architecture, each with the same chance; alpha stays as it is, and the best of random "
        "architectures is found with the shared weights",
        _SHARING,
        (
            Parameter("candidates", 1000, 1, 1_000_000, "random architectures after the last epoch; 10 after the others"),
            Parameter("batches", 10, 1, 1_000_000, "batches of the validation part that rank them"),
            Parameter("finalists", 10, 1, 1000, "of which the best on all of it is found"),
        ),
    ),
    "partial": Part(
        "channels",
        "operations see one of K parts of the channels; the rest passes by, pooled 2x2 at stride 2, and is shuffled in",
        _PC_DARTS,
        (Parameter("k", 4, 2, 64, "K; twice K must divide the channels"),),
        domains=("cnn",),
    ),
    "edge-weights": Part("edges", "every edge of a node is weighted by a softmax over the edges of the node", _PC_DARTS),
    "alpha-warmup": Part(
        "warm-up",
        "alpha stays as it is in the first epochs, while the weights learn",
        _PC_DARTS,
        (Parameter("warmup", 15, 0, 100_000, "epochs"),),
    ),
    "beta-decay": Part(
        "penalty",
        "adds lambda times the mean over edges of log sum exp alpha, of each kind of cell; lambda rises linearly from 0",
        _BETA,
        (Parameter("beta", 50.0, 0, 1e6, "lambda after the last epoch"),),
        needs="softmax",
    ),
    "zero-one": Part(
        "penalty",
        "subtracts w times the mean over all operations of all edges of (sigmoid alpha - 1/2)^2",
        _FAIR_DARTS,
        (Parameter("zero_one", 10.0, 0, 1e6, "w; the mean makes it depend on the number of operations"),),
        needs="sigmoid",
    ),
    "dirichlet-kl": Part(
        "penalty",
        "adds w times the sum over edges of the Kullback-Leibler divergence from the Dirichlet distribution of concentration 1",
        _DRNAS,
        (Parameter("kl", 1e-3, 0, 1e3, "w"),),
        needs="dirichlet",
    ),
    "perturb-random": Part(
        "perturbation",
        "the step of the weights sees operation weights moved by uniform noise of a radius, back on the simplex",
        _SDARTS,
        _RADIUS,
        needs="softmax",
    ),
    "perturb-adversarial": Part(
        "perturbation",
        "the step of the weights sees the operation weights within a radius that are worst for the training batch",
        _SDARTS,
        (*_RADIUS, Parameter("ascents", 7, 1, 100, "steps of the search for the worst")),
        needs="softmax",
    ),
    "auxiliary-skip": Part(
        "auxiliary skip",
        "adds d times a skip connection to every edge; d falls linearly to 0, and nothing is derived from it",
        _MINUS,
        (Parameter("skip_start", 1.0, 0, 100, "d in the first epoch"),),
    ),
    "narrow": Part(
        "stages",
        "two or three stages of equal length; every edge keeps its strongest operations for the next one",
        _P_DARTS,
        (
            Parameter("second", 5, 2, 64, "operations that an edge keeps in the second stage"),
            Parameter("third", 3, 0, 64, "and in the third; 0: there is none"),
        ),
    ),
    "deepen": Part(
        "depth",
        "every stage starts a new network, with new alphas and more cells",
        _P_DARTS,
        (Parameter("cells", 6, 0, 1000, "cells that a stage adds"),),
        needs="narrow",
        domains=("cnn",),
    ),
    "widen": Part(
        "width",
        "after the first stage operations see more channels, whose weights copy random ones",
        _DRNAS,
        (Parameter("wide_k", 4, 1, 64, "operations see one of so many parts of the channels, instead of one of k"),),
        needs="partial",
        domains=("cnn",),
    ),
    "skip-dropout": Part(
        "skip dropout",
        "drops elements after skip connections of stride 1; the rate falls, and is small after the warm-up of alpha",
        _P_DARTS,
        (
            Parameter("rate", 0.4, 0, 0.99, "rate before the first epoch"),
            Parameter("rate2", 0.4, 0, 0.99, "rate before the second stage, where there are stages"),
            Parameter("rate3", 0.7, 0, 0.99, "rate before the third stage"),
        ),
        domains=("cnn",),
    ),
    "perturbation-selection": Part(
        "derivation",
        "the last epochs decide one edge after the other: the operation without which the validation accuracy is lowest stays, "
        "and then the inputs of each node likewise",
        _PT,
        (Parameter("share", 0.615, 0, 0.99, "share of the epochs that decide; the paper's is 80 of 130"),),
    ),
    "threshold": Part(
        "derivation",
        "leaves out edges whose best operation weight is below a threshold, and nodes without edges",
        _FAIR_DARTS,
        (Parameter("threshold", 0.85, 0, 1, "the threshold"),),
        needs="sigmoid",
        domains=("cnn",),
    ),
    "max-skips": Part(
        "skip rule",
        "derives the normal cell again without its weakest skip connection, while it has more than M",
        _P_DARTS,
        (Parameter("skips", 2, 0, 100, "M"),),
        domains=("cnn",),
    ),
}

METHODS = {
    "darts": Named("softmax", _DARTS, "mix all operations, by the softmax of alpha"),
    "pc-darts": Named(
        "partial+edge-weights+alpha-warmup",
        _PC_DARTS,
        "mix on a quarter of the channels, with larger batches, and learn the edges too",
        {"batch_size": 256, "lr": 0.1, "lr_min": 0.0, "alpha_lr": 6e-4, "recompute": True},
    ),
    "fair-darts": Named(
        "sigmoid+zero-one+threshold",
        _FAIR_DARTS,
        "let operations not compete, and push each towards 0 or 1",
        {"batch_size": 128, "lr": 5e-3, "alpha_lr": 3e-3, "alpha_betas": (0.9, 0.999), "alpha_scale": 0.0},
        without_none=True,
        optional=("threshold",),
    ),
    "gdas": Named(
        "gumbel", _GDAS, "draw one operation per edge and step, and compute it alone", {"epochs": 250, "weight_decay": 5e-4}
    ),
    "drnas": Named(
        "dirichlet+alpha-warmup:10",
        _DRNAS,
        "learn a distribution over mixtures",
        {"lr": 0.1, "lr_min": 0.0, "alpha_lr": 6e-4},
        without_none=True,
    ),
    "sdarts-rs": Named("softmax+perturb-random", _SDARTS, "make the weights good around alpha, too", without_none=True),
    "sdarts-adv": Named(
        "softmax+perturb-adversarial", _SDARTS, "make the weights good in the worst place around alpha", without_none=True
    ),
    "beta-darts": Named("softmax+beta-decay", _BETA, "keep alphas from growing, ever more"),
    "darts-minus": Named(
        "softmax+auxiliary-skip", _MINUS, "give every edge a skip connection that fades, so that none is needed"
    ),
    "p-darts": Named(
        "softmax+alpha-warmup:10+narrow+deepen+skip-dropout:rate=0.1+max-skips",
        _P_DARTS,
        "search in deeper and deeper networks, among fewer and fewer operations",
        {"epochs": 75, "batch_size": 96, "layers": 5, "lr_min": 0.0, "alpha_lr": 6e-4, "alpha_clip": 5.0},
    ),
    "darts-pt": Named(
        "softmax+perturbation-selection",
        _PT,
        "keep what the trained network misses most, whatever alpha says",
        {"epochs": 130},
        without_none=True,
    ),
    "random-sharing": Named(
        "uniform",
        _SHARING,
        "share weights among random architectures, and take the best of them",
        {"epochs": 150, "channels": 24, "grad_clip": 1.0},
    ),
}
