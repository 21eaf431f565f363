"""The step of the search as the original takes it: backward() to every leaf, whether anybody reads that gradient or not."""

import copy

import torch
from torch import Tensor, nn


def first_order(loss, network: nn.Module, alpha_optimizer: torch.optim.Optimizer, valid) -> None:
    """Step alpha along grad_alpha L_val(w, alpha)."""
    alpha_optimizer.zero_grad()
    loss(network, valid).backward()
    alpha_optimizer.step()


def second_order(loss, network: nn.Module, alpha_optimizer, w_optimizer, train, valid, clip: float | None = None) -> None:
    """Step alpha along eqs. 7 and 8, on a copy of the network that has taken a step of its weights."""
    weights, group = network.weights(), w_optimizer.param_groups[0]
    gradients, factor = _clipped(_gradients(loss(network, train), weights), clip)
    ahead = copy.deepcopy(network)
    for leaf in (*ahead.weights(), *ahead.alphas.values()):
        leaf.grad = None
    with torch.no_grad():
        for w, w_ahead, gradient in zip(weights, ahead.weights(), gradients, strict=True):
            step = gradient + group["weight_decay"] * w
            buffer = w_optimizer.state.get(w, {}).get("momentum_buffer")
            w_ahead.sub_(group["lr"] * (step if buffer is None else step + group["momentum"] * buffer))
    loss(ahead, valid).backward()
    v, _ = _clipped([w.grad for w in ahead.weights()], clip)
    eps = 0.01 / torch.cat([each.flatten() for each in v]).norm()

    def at(scale: Tensor) -> list[Tensor]:
        with torch.no_grad():
            for w, direction in zip(weights, v, strict=True):
                w.add_(scale * direction)
        return _gradients(loss(network, train), list(network.alphas.values()))

    plus, minus = at(eps), at(-2 * eps)
    with torch.no_grad():
        for w, direction in zip(weights, v, strict=True):
            w.add_(eps * direction)
    for alpha, d, p, m in zip(network.alphas.values(), ahead.alphas.values(), plus, minus, strict=True):
        alpha.grad = d.grad - group["lr"] * factor * (p - m) / (2 * eps)
    alpha_optimizer.step()


def _gradients(loss: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, tensors))


def _clipped(gradients: list[Tensor], clip: float | None) -> tuple[list[Tensor], Tensor | float]:
    if clip is None:
        return gradients, 1.0
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    factor = (clip / (norm + 1e-6)).clamp(max=1)
    return [factor * gradient for gradient in gradients], factor


def weight_step(loss, network: nn.Module, w_optimizer: torch.optim.Optimizer, train, clip: float) -> None:
    w_optimizer.zero_grad()
    loss(network, train).backward()
    nn.utils.clip_grad_norm_(network.weights(), clip)
    w_optimizer.step()
