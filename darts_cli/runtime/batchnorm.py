"""BatchNorm over the batches of all ranks, on CPUs too, unlike SyncBatchNorm.

The gradient is written by hand. As ordinary autograd around a differentiable gather, a training step of two ranks took a fifth
longer (6.9 s in place of 5.7 s for DARTS_V2 with a batch of 64).
"""

import torch
from torch import Tensor, nn
from torch.autograd import Function

from darts_cli.runtime import distributed
from darts_cli.runtime.autograd import once_differentiable


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (C,) of each channel of x (B, C, ...) over all ranks, and the count of their numbers.

    Every rank sends its own in one message; the variance is the mean of these and of the squared distances between the means.
    """
    dims, shape, n = [0, *range(2, x.dim())], [-1, *[1] * (x.dim() - 2)], x.numel() // x.shape[1]
    mean = x.sum(dims) / max(n, 1)
    squares = (x - mean.view(shape)).square_().sum(dims)
    rows = distributed.gather(torch.cat([mean, squares, mean.new_full((1,), n)])[None], 0)  # one per rank
    (means, squares), counts = rows[:, :-1].chunk(2, dim=1), rows[:, -1:]
    count = counts.sum()
    m = (counts * means).sum(0) / count
    return m, (squares + counts * (means - m).square()).sum(0) / count, count


class Normalise(Function):
    """y = (x - m) / sqrt(v + eps) for each channel of x (B, C, ...), with mean m and variance v over the x of all ranks.

    Returns y, m (C,), v (C,) and the count N of their numbers. The gradient of x is
    (g - sum g / N - y sum (g y) / N) / sqrt(v + eps), with sums over all ranks.
    """

    @staticmethod
    def forward(ctx, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        shape = [-1, *[1] * (x.dim() - 2)]
        m, v, count = moments(x)
        factor = (v + eps).rsqrt()
        y = (x - m.view(shape)).mul_(factor.view(shape))
        ctx.save_for_backward(y, factor, count)
        ctx.mark_non_differentiable(m, v, count)
        return y, m, v, count

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor, *_):
        y, factor, count = ctx.saved_tensors
        dims, shape = [0, *range(2, y.dim())], [-1, *[1] * (y.dim() - 2)]
        of_mean, of_variance = (
            each.view(shape) for each in distributed.total(torch.stack([g.sum(dims), (g * y).sum(dims)])) / count
        )
        factor = factor.view(shape)
        return torch.addcmul(-factor * of_mean, g, factor).addcmul_(y, -factor * of_variance), None


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """PyTorch's BatchNorm, by the statistics of all ranks."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or distributed.ranks() == 1:
            return super().forward(x)
        y, m, v, count = Normalise.apply(x.to(self.running_mean.dtype), self.eps)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(m, self.momentum)
            self.running_var.lerp_(v * count / (count - 1), self.momentum)
        if self.affine:
            shape = [-1, *[1] * (x.dim() - 2)]
            y = torch.addcmul(self.bias.view(shape), y, self.weight.view(shape))
        return y.to(x.dtype)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    pass


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    pass
