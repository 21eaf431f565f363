"""beta-DARTS (Ye et al., arXiv 2203.01665): a decay of the operation weights themselves."""

from torch import Tensor

from darts_cli.methods.value import Tables, cells


def beta_decay(alphas: Tables, weight: float) -> Tensor:
    """lambda sum over kinds of cells of the mean over edges of logsumexp(alpha); its gradient is lambda softmax / edges."""
    return weight * sum(alpha.logsumexp(dim=-1).mean() for alpha in cells(alphas).values())
