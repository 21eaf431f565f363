"""Search networks with the weights of a method's authors, as tests/data keeps them."""

import math

from darts_cli import legacy
from darts_cli.cnn.model import SearchNetwork


def network_of(reference, space, fused=True, **kwargs):
    """The authors' weights and, where they are given, alphas in our network, in float64."""
    sizes = (reference[name] for name in ("channels", "classes", "layers"))
    network = SearchNetwork(*sizes, fused=fused, space=space, **kwargs).double()
    weights, state, start = reference["weights"], {}, 0
    for key, shape in zip(weights["keys"], weights["shapes"], strict=True):
        state[key] = weights["values"][start : start + math.prod(shape)].view(shape).double()
        start += math.prod(shape)
    state |= {legacy.original_key(network, key): t for key, t in network.state_dict().items() if "running" in key}
    legacy.load_state(network, state)
    for cell, alpha in reference.get("alphas", {}).items():
        network.alphas[cell].data.copy_(alpha)
    return network
