"""BatchNorm over the batches of all ranks, on CPUs too, unlike SyncBatchNorm.

What does not depend on each other is sent in one message: all ranks wait for each. Between messages PyTorch's own kernels
compute: with sums and products of tensors in their place, a training step of two ranks took 5.15 s in place of 4.53 s (DARTS_V2
with a batch of 64).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd import Function

from darts_cli.runtime import distributed
from darts_cli.runtime.autograd import once_differentiable


def over_ranks(rows: int, means: Sequence[Tensor], squares: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Means, variances and the count of the rows of all ranks, which each have so many rows; sent in one message.

    means      (..., C) of this rank's rows
    squares    the sums of the squared distances from these means, (..., C), or of their outer products, (..., C, C)

    The variance of all rows is the mean of these and of the squared distances between the means.
    """
    own = means[0].new_full((), rows)
    if distributed.ranks() == 1:
        return list(means), [each / own for each in squares], own
    counts, *every = distributed.gathered([own, *means, *squares])
    count, found = counts.sum(), []
    for m, s in zip(every[: len(means)], every[len(means) :], strict=True):
        mean = torch.tensordot(counts / count, m, 1)
        apart = m - mean
        between = apart.square() if s.dim() == m.dim() else apart[..., None] * apart[..., None, :]
        found.append((mean, s.sum(0) / count + torch.tensordot(counts / count, between, 1)))
    return [mean for mean, _ in found], [variance for _, variance in found], count


def own_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The means (C,) of this rank's x (B, C, ...), and the sums of the squared distances from them."""
    dims, shape = _channels(x)
    mean = x.sum(dims) / max(x.numel() // x.shape[1], 1)
    return mean, (x - mean.view(shape)).square_().sum(dims)


def normalised(x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """y = (x - mean) / sqrt(variance + eps) in each channel of x (B, C, ...), and the factor (C,)."""
    shape, factor = _channels(x)[1], (variance + eps).rsqrt()
    return (x - mean.view(shape)).mul_(factor.view(shape)), factor


def gradient_sums(g: Tensor, y: Tensor) -> Tensor:
    """sum g and sum (g y) over this rank, (2, C), by which the mean and the variance enter the gradient of x."""
    dims, _ = _channels(y)
    return torch.stack([g.sum(dims), (g * y).sum(dims)])


def gradient(g: Tensor, y: Tensor, factor: Tensor, sums: Tensor) -> Tensor:
    """That of x: (g - sum g / N - y sum (g y) / N) / sqrt(v + eps), with the sums over all ranks, already divided by N."""
    shape = _channels(y)[1]
    of_mean, of_variance = (-(factor * each).view(shape) for each in sums)
    return torch.addcmul(of_mean, g, factor.view(shape)).addcmul_(y, of_variance)


def _channels(x: Tensor) -> tuple[list[int], list[int]]:
    """The dimensions of x (B, C, ...) that a channel's sum is over, and the shape in which (C,) fits x."""
    return [0, *range(2, x.dim())], [-1, *[1] * (x.dim() - 2)]


class Normalise(Function):
    """y = w z + b,   z = (x - m) / sqrt(v + eps), for each channel of each x (B, C, ...); m and v are those of all ranks.

    Arguments: eps, how many x there are, the x, which have equally many numbers in a channel, and for each a w (C,), then for
    each a b (C,), or None. Returns all y, all m (C,), all v (C,), and how many numbers in a channel all ranks have, N.

    With m and v as constants, PyTorch's kernels give g_w = sum g z, g_b = sum g and g_x; what is missing of g_x by m and v is
    -w (sum g / N + z sum (g z) / N) / sqrt(v + eps), which is of the form of y.
    """

    @staticmethod
    def forward(ctx, eps: float, K: int, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        x, w, b = tensors[:K], tensors[K : 2 * K], tensors[2 * K :]
        rows = x[0].numel() // x[0].shape[1]
        means, variances = zip(*map(_statistics, x), strict=True)
        m, v, count = over_ranks(rows, means, [variance * rows for variance in variances])
        ctx.eps, ctx.K = eps, K
        ctx.save_for_backward(count, *x, *w, *m, *v)
        ctx.set_materialize_grads(False)  # what nothing depends on has no gradient, not a gradient of zeros
        ctx.mark_non_differentiable(*m, *v, count)
        return *(_scaled(*each, eps) for each in zip(x, w, b, m, v, strict=True)), *m, *v, count

    @staticmethod
    @once_differentiable
    def backward(ctx, *g: Tensor | None) -> tuple:
        (count, *saved), K, eps = ctx.saved_tensors, ctx.K, ctx.eps
        x, w, m, v = (saved[k * K : (k + 1) * K] for k in range(4))
        used = [k for k in range(K) if g[k] is not None]
        found: dict[int, tuple] = {
            k: torch.ops.aten.native_batch_norm_backward(g[k], x[k], w[k], m[k], v[k], None, None, False, eps, [True] * 3)
            for k in used
        }
        totals = distributed.totals([torch.stack(found[k][1:]) for k in used])
        for k, (of_z, of_one) in zip(used, totals, strict=True):
            factor = (v[k] + eps).rsqrt() * (1 if w[k] is None else w[k]) / -count
            found[k][0].add_(_scaled(x[k], factor * of_z, factor * of_one, m[k], v[k], eps))
        g_x = [found[k][0] if k in found else None for k in range(K)]
        g_w, g_b = ([found[k][i] if k in found and w[k] is not None else None for k in range(K)] for i in (1, 2))
        return None, None, *g_x, *g_w, *g_b


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """The means and variances (C,) of this rank's x (B, C, ...); zeros where it has no numbers."""
    if x.numel() == 0:
        return x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
    return torch.ops.aten.batch_norm_update_stats(x, None, None, 0.0)


def _scaled(x: Tensor, w: Tensor | None, b: Tensor | None, m: Tensor, v: Tensor, eps: float) -> Tensor:
    """w (x - m) / sqrt(v + eps) + b."""
    return torch.native_batch_norm(x, w, b, m, v, False, 0.0, eps)[0]


def normalise(norms: Sequence["_BatchNorm"], x: Sequence[Tensor]) -> list[Tensor]:
    """norm(x) of each pair; statistics of several ranks are sent in one message for all of them."""
    if not norms[0].training or distributed.ranks() == 1:
        return [norm(each) for norm, each in zip(norms, x, strict=True)]
    exact = [each.to(norm.running_mean.dtype) for norm, each in zip(norms, x, strict=True)]
    parameters = [norm.weight for norm in norms] + [norm.bias for norm in norms]
    found, K = Normalise.apply(norms[0].eps, len(x), *exact, *parameters), len(x)
    for norm, m, v in zip(norms, found[K : 2 * K], found[2 * K : -1], strict=True):
        norm.track(m, v, found[-1])
    return [y.to(each.dtype) for y, each in zip(found, x, strict=False)]


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """PyTorch's BatchNorm, by the statistics of all ranks."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or distributed.ranks() == 1:
            return super().forward(x)
        return normalise([self], [x])[0]

    @torch.no_grad()
    def track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics towards those of `count` rows."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)

    def rows(self, x: Tensor, y: Tensor, mean: Tensor, factor: Tensor) -> Tensor | None:
        """y = (x - mean) * factor of rows (B, C), written into the other arguments; not affine. Returns how many rows all ranks
        have, where there are several.

        For gradients written by hand, with `rows_gradient`: nothing is recorded for autograd.
        """
        if distributed.ranks() == 1:
            self.num_batches_tracked += 1
            statistics = self.running_mean, self.running_var
            torch.native_batch_norm(x, None, None, *statistics, True, self.momentum, self.eps, out=(y, mean, factor))
            return None
        own, square = own_moments(x)
        (of_all,), (variance,), count = over_ranks(len(x), [own], [square])
        mean.copy_(of_all)
        for to, found in zip((y, factor), normalised(x, mean, variance, self.eps), strict=True):
            to.copy_(found)
        self.track(mean, variance, count)
        return count


def rows_gradient(g: Tensor, x: Tensor, mean: Tensor, factor: Tensor, count: Tensor | None) -> Tensor:
    """The gradient of the x (B, C) of `rows`, from that of y."""
    if count is None:
        saved = None, None, None, mean, factor
        return torch.ops.aten.native_batch_norm_backward(g, x, *saved, True, 0.0, [True, False, False])[0]
    y = (x - mean).mul_(factor)
    return gradient(g, y, factor, distributed.totals([gradient_sums(g, y)])[0] / count)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    pass


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    pass
