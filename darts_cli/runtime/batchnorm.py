"""BatchNorm over the batches of all ranks, on CPUs too, unlike SyncBatchNorm."""

import torch
from torch import Tensor, nn

from darts_cli.runtime import distributed


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (C,) of each channel of x (B, C, ...) over all ranks, differentiable, and the count of their numbers.

    One message: every rank sends its own mean and squared distances; the variance is the mean of these and of the squared
    distances between the means.
    """
    dims, shape, n = [0, *range(2, x.dim())], [-1, *[1] * (x.dim() - 2)], x.numel() // x.shape[1]
    mean = x.sum(dims) / max(n, 1)
    squares = (x - mean.view(shape)).square_().sum(dims)
    rows = distributed.GatherRows.apply(torch.cat([mean, squares, mean.new_full((1,), n)]))
    (means, squares), counts = rows[:, :-1].chunk(2, dim=1), rows[:, -1:].detach()
    count = counts.sum()
    m = (counts * means).sum(0) / count
    return m, (squares + counts * (means - m).square()).sum(0) / count, count


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """PyTorch's BatchNorm, by the statistics of all ranks."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or distributed.ranks() == 1:
            return super().forward(x)
        shape = [-1, *[1] * (x.dim() - 2)]
        m, v, count = moments(x.to(self.running_mean.dtype))
        y = (x - m.view(shape)) * (v + self.eps).rsqrt().view(shape)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(m, self.momentum)
            self.running_var.lerp_(v * count / (count - 1), self.momentum)
        if self.affine:
            y = torch.addcmul(self.bias.view(shape), y, self.weight.view(shape))
        return y.to(x.dtype)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    pass


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    pass
