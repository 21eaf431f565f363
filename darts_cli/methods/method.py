"""From the words of a method to the functions that it is: each part changes a field of the value."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from darts_cli.methods.derive import at_most_skips, derive_above
from darts_cli.methods.papers import beta_darts, darts_pt, drnas, fair_darts, gdas, p_darts, pc_darts, random_sharing, sdarts
from darts_cli.methods.relaxation import weighted
from darts_cli.methods.spec import read
from darts_cli.methods.value import Average, Loss, Method, Score, Stage, Step, Tables
from darts_cli.spaces.space import Space

__all__ = ["Method", "Step", "parse"]

NEVER = 10**9  # epochs


def parse(text: str, domain: str = "cnn") -> Method:
    """The method that a text names, such as "gdas:tau_start=5" or "pc-darts+beta-decay:30". Raises DartsError."""
    spec = read(text, domain)
    method = Method(str(spec))
    for part in sorted(spec.parts, key=list(_PARTS).index):  # each may build on those before it in the table
        method = _PARTS[part](method, **spec.parts[part])
    return method


def _shows(method: Method, name: str, value: Callable[[Step], float]) -> Callable[[Step], dict[str, float]]:
    """What the method shows, and one number more."""
    return lambda step: method.shown(step) | {name: value(step)}


# ---- mixtures


def _softmax(method: Method) -> Method:
    return method


def _sigmoid(method: Method) -> Method:
    return replace(method, strength=fair_darts.sigmoid, mixture=lambda alphas, step: fair_darts.sigmoid(alphas))


def _gumbel(method: Method, tau_start: float, tau_end: float) -> Method:
    def tau(step: Step) -> float:
        return gdas.tau(step, tau_start, tau_end)

    def mixture(alphas: Tables, step: Step) -> Tables:
        return gdas.gumbel(alphas, step, tau(step))

    return replace(method, mixture=mixture, chance=True, one_hot=True, shown=_shows(method, "temperature", tau))


def _dirichlet(method: Method) -> Method:
    return replace(method, mixture=drnas.dirichlet, mean=drnas.mean, chance=True)


def _uniform(method: Method, candidates: int, batches: int, finalists: int) -> Method:
    def mixture(alphas: Tables, step: Step) -> Tables:
        return random_sharing.architecture(alphas, step.generator("architecture"))

    def conclude(decided: Tables, strength: Tables, step: Step, score: Score, space: Space) -> Tables:
        none = {cell: [ops.index("none") if "none" in ops else None for ops in space.choices(cell)] for cell in space.cells}
        none = None if space.keep is None else none
        return random_sharing.best(strength, none, step, score, candidates, batches, finalists)

    drawn = replace(method, mixture=mixture, chance=True, one_hot=True)
    return replace(drawn, conclude=conclude, decides=False, alpha_warmup=NEVER)


# ---- the perturbed step of the weights


def _radius(start: float, end: float) -> Callable[[Step], float]:
    return lambda step: step.between(start, end)


def _random(method: Method, radius_start: float, radius_end: float) -> Method:
    radius = _radius(radius_start, radius_end)

    def disturbed(p: Tables, step: Step, loss: Loss, average: Average) -> Tables:
        return sdarts.random(p, step, radius(step))

    return replace(method, disturbed=disturbed, chance=True, shown=_shows(method, "radius", radius))


def _adversarial(method: Method, radius_start: float, radius_end: float, ascents: int) -> Method:
    radius = _radius(radius_start, radius_end)

    def disturbed(p: Tables, step: Step, loss: Loss, average: Average) -> Tables:
        return sdarts.climb(p, sdarts.noise(p, step, radius(step)), loss, radius(step), ascents, average)

    return replace(method, disturbed=disturbed, chance=True, shown=_shows(method, "radius", radius))


# ---- edges and channels


def _edge_weights(method: Method) -> Method:
    """The weights of edges multiply the rows of strength and mixture; a perturbation moves the operation weights alone."""

    def times_edges(tables: Tables, alphas: Tables) -> Tables:
        edges = pc_darts.edge_weights(alphas)
        return weighted(tables, edges) | edges

    def strength(alphas: Tables) -> Tables:
        edges = pc_darts.edge_weights(alphas)
        return weighted(method.strength(alphas), edges)

    def mixture(alphas: Tables, step: Step) -> Tables:
        return times_edges(method.mixture(alphas, step), alphas)

    return replace(method, strength=strength, mixture=mixture, edge_weights=True, edges=pc_darts.edge_weights)


def _partial(method: Method, k: int) -> Method:
    return replace(method, partial=k)


def _alpha_warmup(method: Method, warmup: int) -> Method:
    return replace(method, alpha_warmup=warmup)


def _narrow(method: Method, second: int, third: int) -> Method:
    keep = (None, second, third) if third else (None, second)
    return _staged(method, keep)


def _deepen(method: Method, cells: int) -> Method:
    return _staged(method, _kept(method), cells=cells)


def _widen(method: Method, wide_k: int) -> Method:
    return _staged(method, _kept(method), partial=wide_k)


def _staged(method: Method, keep: tuple, cells: int | None = None, partial: int | None = None) -> Method:
    def stages(epochs: int) -> tuple[Stage, ...]:
        return p_darts.stages(epochs, keep, cells, partial)

    def number(step: Step) -> int:
        found = stages(step.epochs)
        return 1 + found.index(next(stage for stage in found if step.epoch < stage.end))

    return replace(method, stages=stages, shown=_shows(method, "stage", number))


def _kept(method: Method) -> tuple[int | None, ...]:
    """The operations that an edge keeps in each stage; two stages where nothing narrows."""
    kept = tuple(stage.keep for stage in method.stages(2))
    return kept if len(kept) > 1 else (None, None)


def _auxiliary_skip(method: Method, skip_start: float) -> Method:
    def weight(step: Step) -> float:
        return step.between(skip_start, 0.0)

    return replace(method, auxiliary_skip=weight, shown=_shows(method, "auxiliary_skip", weight))


def _skip_dropout(method: Method, rate: float, rate2: float, rate3: float) -> Method:
    def dropout(step: Step) -> float:
        stage = method.stage(step.epoch, step.epochs)
        first = (rate, rate2, rate3)[method.stages(step.epochs).index(stage)]
        return p_darts.skip_dropout(first, step.epoch - stage.start, stage.end - stage.start, method.alpha_warmup)

    return replace(method, skip_dropout=dropout, shown=_shows(method, "skip_dropout", dropout))


# ---- penalties


def _beta_decay(method: Method, beta: float) -> Method:
    def weight(step: Step) -> float:
        return step.between(0.0, beta)

    def penalty(alphas: Tables, step: Step) -> Tensor:
        return beta_darts.beta_decay(alphas, weight(step))

    return replace(method, penalty=penalty, shown=_shows(method, "penalty_weight", weight))


def _zero_one(method: Method, zero_one: float) -> Method:
    return replace(method, penalty=lambda alphas, step: fair_darts.zero_one(alphas, zero_one))


def _divergence(method: Method, kl: float) -> Method:
    return replace(method, penalty=lambda alphas, step: drnas.divergence(alphas, kl))


# ---- derivation


def _threshold(method: Method, threshold: float) -> Method:
    """Leaves out edges of the cells that the other rules give."""
    return replace(method, derive=lambda strength, space: derive_above(strength, space, threshold, method.derive))


def _max_skips(method: Method, skips: int) -> Method:
    return replace(method, derive=lambda strength, space: at_most_skips(strength, space, skips, method.derive))


def _selection(method: Method, share: float) -> Method:
    def conclude(decided: Tables, strength: Tables, step: Step, score: Score, space: Space) -> Tables:
        for number in range(darts_pt.done(decided, space), darts_pt.due(step, share, darts_pt.rounds(space))):
            decided = darts_pt.select(strength, decided, step, score, space, number)
        return decided

    def stages(epochs: int) -> tuple[Stage, ...]:
        first = epochs - round(share * epochs)
        return Stage(0, first), Stage(first, epochs, darts_pt.LR_SCALE)

    return replace(method, conclude=conclude, stages=stages)


_PARTS = {
    "softmax": _softmax,
    "sigmoid": _sigmoid,
    "uniform": _uniform,
    "gumbel": _gumbel,
    "dirichlet": _dirichlet,
    "perturb-random": _random,
    "perturb-adversarial": _adversarial,
    "edge-weights": _edge_weights,
    "partial": _partial,
    "alpha-warmup": _alpha_warmup,
    "narrow": _narrow,
    "deepen": _deepen,
    "widen": _widen,
    "auxiliary-skip": _auxiliary_skip,
    "skip-dropout": _skip_dropout,
    "beta-decay": _beta_decay,
    "zero-one": _zero_one,
    "dirichlet-kl": _divergence,
    "max-skips": _max_skips,
    "threshold": _threshold,
    "perturbation-selection": _selection,
}
