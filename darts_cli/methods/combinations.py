"""Parts of search methods that have no meaning together, with the reason. Plain data: no torch."""

_SAMPLED = "a drawn mixture is noise already"
_UNTRAINED = "alpha is never trained there"
_DECIDED = "every edge is decided, and no weights are left to derive again from"
_SIMPLEX = "the perturbed weights are put back on the simplex, which sigmoids do not live on"
# Pairs that have no meaning together, with the reason.
REFUSED = {
    frozenset({"perturb-random", "sigmoid"}): _SIMPLEX,
    frozenset({"perturb-adversarial", "sigmoid"}): _SIMPLEX,
    frozenset({"perturb-random", "gumbel"}): _SAMPLED,
    frozenset({"perturb-adversarial", "gumbel"}): _SAMPLED,
    frozenset({"perturb-random", "dirichlet"}): _SAMPLED,
    frozenset({"perturb-adversarial", "dirichlet"}): _SAMPLED,
    frozenset({"beta-decay", "sigmoid"}): "log sum exp is what the softmax divides by, and sigmoids have no such sum",
    frozenset({"beta-decay", "gumbel"}): "it was made for the softmax itself",
    frozenset({"beta-decay", "dirichlet"}): "alpha is a concentration there, which the penalty would only shrink",
    frozenset({"zero-one", "softmax"}): "softmax weights add up to 1, so they cannot each go to 0 or 1",
    frozenset({"zero-one", "gumbel"}): "drawn weights are 0 or 1 already",
    frozenset({"zero-one", "dirichlet"}): "drawn weights add up to 1, so they cannot each go to 0 or 1",
    frozenset({"dirichlet-kl", "softmax"}): "there is no distribution whose divergence it could be",
    frozenset({"dirichlet-kl", "sigmoid"}): "there is no distribution whose divergence it could be",
    frozenset({"dirichlet-kl", "gumbel"}): "there is no Dirichlet distribution whose divergence it could be",
    frozenset({"threshold", "softmax"}): "softmax weights of many operations are all below it",
    frozenset({"threshold", "gumbel"}): "softmax weights of many operations are all below it",
    frozenset({"threshold", "dirichlet"}): "softmax weights of many operations are all below it",
    frozenset({"uniform", "alpha-warmup"}): _UNTRAINED,
    frozenset({"uniform", "edge-weights"}): _UNTRAINED,
    frozenset({"uniform", "beta-decay"}): _UNTRAINED,
    frozenset({"uniform", "zero-one"}): _UNTRAINED,
    frozenset({"uniform", "dirichlet-kl"}): _UNTRAINED,
    frozenset({"uniform", "perturb-random"}): _SAMPLED,
    frozenset({"uniform", "perturb-adversarial"}): _SAMPLED,
    frozenset({"uniform", "threshold"}): "the best of random architectures has all of its edges",
    frozenset({"uniform", "max-skips"}): _DECIDED,
    frozenset({"uniform", "perturbation-selection"}): "the best of random architectures are found already",
    frozenset({"uniform", "narrow"}): _UNTRAINED,
    frozenset({"perturbation-selection", "narrow"}): "both decide which operations of an edge stay",
    frozenset({"perturbation-selection", "widen"}): "the network that has learned to decide would change before it does",
    frozenset({"deepen", "widen"}): "a stage starts a new network, which has nothing to widen",
    frozenset({"perturbation-selection", "edge-weights"}): "its edges are chosen by what the network misses, not by weights",
    frozenset({"perturbation-selection", "max-skips"}): _DECIDED,
    frozenset({"auxiliary-skip", "partial"}): "a part of the channels passes by already, and nobody has tried both",
    frozenset({"auxiliary-skip", "sigmoid"}): "skip connections do not compete there, so nothing has to be taken from them",
    frozenset({"threshold", "edge-weights"}): "the weights of the edges of a node add up to 1, and so are below it",
}
