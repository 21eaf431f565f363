"""What becomes of a search network between the stages of a search: fewer operations, more channels, or a new network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from darts_cli.methods.derive import Table
from darts_cli.methods.value import Method, Stage, Step
from darts_cli.spaces.space import Space

Made = tuple  # of a search network, its architect and its relaxation


def narrowed(space: Space, strength: Mapping[str, Table], keep: int) -> Space:
    """The space whose edges keep so many of their operations, the strongest, in their order; ties go to the first."""
    edgewise = {}
    for cell in space.cells:
        rows = zip(space.choices(cell), strength[cell], strict=True)
        best = [(ops, sorted(sorted(range(len(ops)), key=lambda k: -row[k])[:keep])) for ops, row in rows]
        edgewise[cell] = tuple(tuple(ops[k] for k in kept) for ops, kept in best)
    return replace(space, edgewise=edgewise)


def space_of(stage: Stage, space: Space, finished: Sequence[Mapping]) -> Space:
    """The space of a stage of a search, of which these are the records so far."""
    return space if stage.keep is None else narrowed(space, finished[stage.start - 1]["operation_weights"], stage.keep)


def spread(tables: Mapping[str, Table], space: Space, whole: Space) -> dict[str, Table]:
    """Tables of a narrowed space as those of the whole one, with 0 for the operations that are gone."""
    if space == whole:
        return dict(tables)
    wide = {}
    for cell, table in tables.items():
        if cell not in space.cells:  # a number per edge
            wide[cell] = table
            continue
        rows = zip(table, space.choices(cell), whole.choices(cell), strict=True)
        wide[cell] = [[dict(zip(ops, row, strict=True)).get(op, 0.0) for op in every] for row, ops, every in rows]
    return wide


def follow(made: Made, method: Method, step: Step, build: Callable[[Stage], Made]) -> Made:
    """What the search goes on with after an epoch: network, architect and relaxation, the same ones or those that `build` makes
    for a new stage."""
    before, stage = (method.stage(epoch, step.epochs) for epoch in (step.epoch, step.epoch + 1))
    if not stage.another_network(before):
        return made
    new = build(stage)
    if not stage.fresh:
        optimizers = ((architect.w_optimizer, relaxation.optimizer) for _, architect, relaxation in (made, new))
        carry_over(made[0], *next(optimizers), new[0], *next(optimizers), step)
    return new


def carry_over(
    old: nn.Module,
    old_w: Optimizer,
    old_alpha: Optimizer,
    new: nn.Module,
    new_w: Optimizer,
    new_alpha: Optimizer,
    step: Step,
) -> None:
    """Give a network of narrower edges, or of more channels, the weights and alphas of the one before, and their optimisers
    what those remember.

    step    the source of chance for the channels that are copied (as DrNAS widens, arXiv 2006.10355)
    """
    kept = columns(old.space, new.space)
    before, after = (dict(network.named_parameters()) for network in (old, new))

    def carried(name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
        cell = name.removeprefix("alphas.")
        if cell in kept and tensor.dim() == 2:
            return tensor.gather(1, kept[cell].to(tensor.device))
        return widened(tensor, shape, name.rsplit(".", 2)[0], step)

    buffers, saved = dict(old.named_buffers()), old.state_dict().keys()
    with torch.no_grad():
        for name, weight in after.items():
            weight.copy_(carried(name, before[name], weight.shape))
        for name, buffer in new.named_buffers():
            if name in saved:
                buffer.copy_(carried(name, buffers[name], buffer.shape))
        for first, second in ((old_w, new_w), (old_alpha, new_alpha)):
            names = {id(weight): name for name, weight in after.items()}
            for weight in (weight for group in second.param_groups for weight in group["params"]):
                name = names[id(weight)]
                for key, value in first.state.get(before[name], {}).items():
                    fits = value.shape == before[name].shape
                    second.state[weight][key] = (carried(name, value, weight.shape) if fits else value).clone()


def columns(old: Space, new: Space) -> dict[str, Tensor]:
    """By kind of cell, which operations of the old space the edges of the new one have (edges, operations)."""
    pairs = {cell: zip(old.choices(cell), new.choices(cell), strict=True) for cell in new.cells}
    return {cell: torch.tensor([[had.index(op) for op in have] for had, have in rows]) for cell, rows in pairs.items()}


def widened(tensor: Tensor, shape: torch.Size, operation: str, step: Step) -> Tensor:
    """A tensor with more channels: those that are added copy random ones, the same in all tensors of an operation."""
    for axis, (had, has) in enumerate(zip(tensor.shape, shape, strict=True)):
        if had != has:
            generator = step.generator(f"widen {operation} from {had} to {has}")
            copied = torch.randint(had, (has - had,), generator=generator)
            tensor = tensor.index_select(axis, torch.cat([torch.arange(had), copied]).to(tensor.device))
    return tensor
