"""What a search decides with its trained weights, in place of the operation weights of alpha."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from darts_cli.methods.value import Tables, cells
from darts_cli.spaces.space import Space


class Decisions(nn.Module):
    """By kind of cell, the rows of the operation weights that are decided, and their values; every checkpoint keeps them."""

    def __init__(self, space: Space):
        super().__init__()
        self.kinds = space.cells
        for cell in space.cells:
            shape = len(space.edges()), len(space.choices(cell)[0])
            self.register_buffer(f"{cell}_open", torch.ones(shape[0], dtype=torch.bool))
            self.register_buffer(f"{cell}_rows", torch.zeros(shape))

    def of(self, cell: str) -> tuple[Tensor, Tensor]:
        """Which rows are open (edges,), and the values of the others (edges, operations)."""
        return getattr(self, f"{cell}_open"), getattr(self, f"{cell}_rows")

    def forward(self, tables: Tables) -> Tables:
        """Operation weights, with the decided rows in place of their own."""
        decided = {}
        for cell, table in cells(tables).items():
            is_open, rows = (buffer.clone() for buffer in self.of(cell))  # the architect puts buffers back before the gradient
            decided[cell] = torch.where(is_open[:, None], table, rows)
        return {**tables, **decided}

    def set(self, tables: Tables) -> None:
        """Take the decided rows of tables; those that are NaN stay open."""
        for cell, table in tables.items():
            is_open, rows = self.of(cell)
            is_open.copy_(table.isnan().any(dim=-1))
            rows.copy_(table.nan_to_num())

    def tables(self) -> dict[str, Tensor]:
        """The decided rows; those that are open are NaN."""
        return {cell: torch.where(self.of(cell)[0][:, None], torch.nan, self.of(cell)[1]) for cell in self.kinds}

    def open(self) -> int:
        """How many edges are undecided."""
        return sum(int(self.of(cell)[0].sum()) for cell in self.kinds)


def fixed(strength: Tables, decided: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Operation weights, with the decided rows (those that are not NaN) in place of their own."""
    return {cell: torch.where(decided[cell].isnan(), table, decided[cell]) for cell, table in strength.items()}
