"""The bilevel optimiser of DARTS: gradient steps on the architecture parameters alpha (sec. 2.3, algorithm 1).

The search minimises over alpha the validation loss of the weights that minimise the training loss,

    min_alpha L_val(w*(alpha), alpha)   where   w*(alpha) = argmin_w L_train(w, alpha)               (eqs. 3, 4)

Training to w* for every alpha is out of reach. One step of the weight optimiser stands for it:

    w' = w - xi grad_w L_train(w, alpha)                                                             (eqs. 5, 6)

First order sets xi = 0 and takes grad_alpha L_val(w, alpha). Second order differentiates through the step,

    grad_alpha L_val(w', alpha) - xi grad2_{alpha,w} L_train(w, alpha) v,   v = grad_w' L_val(w', alpha)   (eq. 7)

and gets the product of the mixed second derivative with v from two more gradients of alpha,

    [grad_alpha L_train(w + eps v, alpha) - grad_alpha L_train(w - eps v, alpha)] / (2 eps),  eps = 0.01 / ||v||   (eq. 8)

or exactly, by differentiating the gradient of the weights again: grad_alpha [grad_w L_train(w, alpha) . v].

Nothing here waits for the device: every number that is computed stays a tensor.
"""

from collections.abc import Callable, Iterable
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def whole(batch) -> list[tuple[float, object]]:
    """A batch as its only part."""
    return [(1, batch)]


class Architect:
    """Steps alpha along the hypergradient, of first or (`unrolled`) second order.

    loss         batch -> (scalar loss, carry): a function of `weights` and `alphas`; the carry is what the caller wants back
    weights      the tensors w, all of them and no others in `w_optimizer`
    alphas       the tensors to differentiate by: alpha, or operation weights; a list, or a dictionary of them
    w_optimizer  the torch.optim.SGD that trains w: its learning rate xi, momentum and weight decay make the virtual step
    alpha_optimizer  for `step` only; `hypergradient` needs none
    exact        of second order: differentiate again instead of eq. 8; everything in `loss` must allow it
    clip         where given, the training gradient and v are each scaled to at most this norm, before weight decay and eps
    buffers      tensors that a pass changes as a side effect (BatchNorm statistics): put back after every step
    split        batch -> its parts, each with its share of the batch: computed one after the other, to save memory
    join         the carries of the parts, with their shares -> that of the batch
    average      what becomes of the gradients of every pass: of several processes with a part of each batch, the means

    Raises ValueError when `w_optimizer` is not such an optimiser.
    """

    RADIUS = 0.01  # eps ||v|| of eq. 8, the length of the perturbation

    def __init__(
        self,
        loss: Callable,
        weights: Iterable[Tensor],
        alphas: Iterable[Tensor],
        w_optimizer: torch.optim.Optimizer,
        alpha_optimizer: torch.optim.Optimizer | None = None,
        *,
        unrolled: bool,
        exact: bool = False,
        clip: float | None = None,
        buffers: Iterable[Tensor] = (),
        split: Callable = whole,
        join: Callable = lambda carries: carries[0][1],
        average: Callable[[list[Tensor]], list[Tensor]] = list,
    ):
        self.loss = loss
        self.weights = list(weights)
        self.alphas = list(alphas.values() if hasattr(alphas, "values") else alphas)
        self.w_optimizer = w_optimizer
        self.alpha_optimizer = alpha_optimizer
        self.unrolled, self.exact, self.radius = unrolled, exact, self.RADIUS
        self.clip = clip
        self.buffers = list(buffers)
        self.split, self.join = split, join
        self.average = average
        if unrolled:
            self._check_optimizer()

    def step(self, train, valid):
        """`hypergradient`, then a step of `alpha_optimizer`; returns the carry of the validation pass, detached."""
        carry = self.hypergradient(train, valid)
        self.alpha_optimizer.step()
        return carry

    @torch.enable_grad()
    def hypergradient(self, train, valid):
        """Leave the hypergradient of a training and a validation batch in `alpha.grad`.

        Returns the carry of the validation pass, detached. Weights and buffers are afterwards, to the bit, what they were
        before.
        """
        kept = [*self.weights, *self.buffers] if self.unrolled else self.buffers
        before = [torch.empty_like(tensor) for tensor in kept]
        _copy(kept, before)
        try:
            gradients, carry = self._second_order(train, valid, before) if self.unrolled else self._first_order(valid)
        finally:
            _copy(before, kept)
        carry = _detach(carry)
        for alpha, gradient in zip(self.alphas, gradients, strict=True):
            alpha.grad = gradient
        return carry

    def _first_order(self, valid):
        return self._alpha_gradients(valid)

    def _second_order(self, train, valid, before: list[Tensor]):
        w = before[: len(self.weights)]
        xi = self.w_optimizer.param_groups[0]["lr"]

        gradients, factor = self._clip(self._gradients(train, self.weights)[0])
        self._virtual_step(gradients)

        gradients, carry = self._gradients(valid, [*self.alphas, *self.weights])  # at w'
        d_alpha = gradients[: len(self.alphas)]
        v, _ = self._clip(gradients[len(self.alphas) :])

        product = self._exact_product(v, w, train) if self.exact else self._finite_product(v, w, train)
        return [d - xi * factor * p for d, p in zip(d_alpha, product, strict=True)], carry

    def _finite_product(self, v: list[Tensor], w: list[Tensor], train) -> list[Tensor]:
        """grad2_{alpha,w} L_train(w, alpha) v by eq. 8."""
        norm = torch.nn.utils.get_total_norm(v)
        eps = self.radius / norm.clamp_min(torch.finfo(norm.dtype).tiny)  # v = 0 has no direction: its term is then 0, not NaN
        v = torch._foreach_mul(v, eps)
        plus = self._gradients_at(torch._foreach_add(w, v), train)
        minus = self._gradients_at(torch._foreach_sub(w, v), train)
        return [(p - m) / (2 * eps) for p, m in zip(plus, minus, strict=True)]

    def _exact_product(self, v: list[Tensor], w: list[Tensor], train) -> list[Tensor]:
        """grad2_{alpha,w} L_train(w, alpha) v, by differentiating grad_w L_train . v."""

        def along(part) -> tuple[Tensor, object]:
            """grad_w L . v"""
            loss, carry = self.loss(part)
            found = torch.autograd.grad(loss, self.weights, create_graph=True, allow_unused=True, materialize_grads=True)
            return sum((g * u).sum() for g, u in zip(found, v, strict=True)), carry

        _copy(w, self.weights)
        return self._gradients(train, self.alphas, along)[0]

    @torch.no_grad()
    def _virtual_step(self, gradients: list[Tensor]) -> None:
        """w' = w - xi (momentum * buffer + gradient + decay * w): what `w_optimizer` would do next, without doing it."""
        gradient = dict(zip(self.weights, gradients, strict=True))
        for group in self.w_optimizer.param_groups:
            weights = group["params"]
            step = torch._foreach_add([gradient[weight] for weight in weights], weights, alpha=group["weight_decay"])
            buffers = [self.w_optimizer.state.get(weight, {}).get("momentum_buffer") for weight in weights]
            moving = [(s, buffer) for s, buffer in zip(step, buffers, strict=True) if buffer is not None]
            if moving:  # none before the first step
                torch._foreach_add_(*zip(*moving, strict=True), alpha=group["momentum"])
            torch._foreach_sub_(weights, step, alpha=group["lr"])

    def _gradients_at(self, weights: list[Tensor], batch) -> list[Tensor]:
        """grad_alpha of the loss at other weights."""
        _copy(weights, self.weights)
        return self._alpha_gradients(batch)[0]

    def _alpha_gradients(self, batch) -> tuple[list[Tensor], object]:
        """grad_alpha of the loss, and its carry. The weights are constants meanwhile: nobody computes their gradients."""
        with constant(self.weights):
            return self._gradients(batch, self.alphas)

    def _gradients(self, batch, tensors: list[Tensor], loss: Callable | None = None) -> tuple[list[Tensor], object]:
        """The gradients of the loss of a batch by some tensors, the sum of those of its parts; and the carry."""
        total, carries = None, []
        for share, part in self.split(batch):
            value, carry = (loss or self.loss)(part)
            found = _gradients(value if share == 1 else share * value, tensors)
            total = found if total is None else torch._foreach_add(total, found)
            carries.append((share, _detach(carry)))
            del value, carry  # and with them the graph, before the next part
        return self.average(total), self.join(carries)

    def backward(self, batch, loss: Callable | None = None):
        """Add the gradients of the loss of a batch to those of the tensors; returns its carry, detached."""
        carries = []
        for share, part in self.split(batch):
            value, carry = (loss or self.loss)(part)
            (value if share == 1 else share * value).backward()
            carries.append((share, _detach(carry)))
            del value, carry
        return self.join(carries)

    def whole_loss(self, batch) -> Tensor:
        """The loss of a batch to differentiate by alphas; where it has parts, they are computed once more for the gradient.

        Only where a pass changes no buffer, as in evaluation mode.
        """
        parts = self.split(batch)
        if len(parts) == 1:
            return self.loss(batch)[0]
        return sum(share * checkpoint(lambda part: self.loss(part)[0], part, use_reentrant=False) for share, part in parts)

    def _clip(self, gradients: list[Tensor]) -> tuple[list[Tensor], Tensor | float]:
        """The gradients scaled to a norm of at most `clip`, and the factor min(1, clip / (norm + 1e-6))."""
        if self.clip is None:
            return gradients, 1.0
        factor = (self.clip / (torch.nn.utils.get_total_norm(gradients) + 1e-6)).clamp(max=1)
        return torch._foreach_mul(gradients, factor), factor

    def _check_optimizer(self) -> None:
        groups = self.w_optimizer.param_groups
        if {id(weight) for group in groups for weight in group["params"]} != {id(weight) for weight in self.weights}:
            raise ValueError("w_optimizer must hold the weights given to Architect, all of them and no others")
        if not isinstance(self.w_optimizer, torch.optim.SGD):
            raise ValueError(f"the virtual step mirrors torch.optim.SGD, not {type(self.w_optimizer).__name__}")
        if not all(weight.requires_grad for weight in self.weights):
            raise ValueError("the virtual step moves all weights: none may be frozen, with requires_grad False")
        for option in ("dampening", "nesterov", "maximize"):
            if any(group[option] for group in groups):
                raise ValueError(f"the virtual step mirrors SGD with momentum and weight decay, without {option}")
        if len({float(group["lr"]) for group in groups}) > 1:
            raise ValueError("the virtual step has one learning rate xi: all groups of w_optimizer must share it")


@contextmanager
def constant(tensors: Iterable[Tensor]):
    """Within it the tensors are constants: nobody computes their gradients."""
    tensors = [tensor for tensor in tensors if tensor.requires_grad]
    for tensor in tensors:
        tensor.requires_grad_(False)
    try:
        yield
    finally:
        for tensor in tensors:
            tensor.requires_grad_(True)


def _gradients(loss: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """The gradient of the loss by each tensor, zeros where the loss does not depend on it; no other gradient is computed."""
    if not loss.requires_grad:  # it depends on none
        return [torch.zeros_like(tensor) for tensor in tensors]
    return list(torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True))


@torch.no_grad()
def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    pairs = list(zip(source, target, strict=True))
    for dtype in {tensor.dtype for tensor in target}:  # tensors of one type are copied by one kernel
        same = [pair for pair in pairs if pair[1].dtype == dtype]
        torch._foreach_copy_([to for _, to in same], [tensor for tensor, _ in same])


def _detach(carry):
    if isinstance(carry, Tensor):
        return carry.detach()
    if isinstance(carry, tuple) and hasattr(carry, "_make"):  # a named one
        return carry._make(map(_detach, carry))
    if isinstance(carry, tuple | list):
        return type(carry)(map(_detach, carry))
    if isinstance(carry, dict):
        return {key: _detach(value) for key, value in carry.items()}
    return carry
