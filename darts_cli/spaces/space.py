"""Search spaces: what cells are made of. A space is a value; those that are shipped are YAML files. Plain data, no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, combinations, pairwise
from typing import TypeVar

from darts_cli import DartsError, files
from darts_cli.text import meant

Table = TypeVar("Table", bound=Sequence)  # one row per edge: a list of lists, or a tensor

DEFAULTS = {"cnn": "darts", "rnn": "darts-rnn"}  # the space of a domain where nothing else is said
MANY_SKIPS = 3  # skip connections in a normal cell that suggest a collapsed search
NOTES = ("name", "source", "notes")  # optional keys of a genotype or space file, which do not affect the cells


@dataclass(frozen=True)
class Macro:
    """How cells are stacked to a network, and what that asks of them.

    cells     the kinds of cells, each with a table of alpha
    inputs    states of a cell before its first node
    edges     incoming edges of a node of a genotype: "any" number, "one", or "every" earlier state, in order
    joined    states that the output joins: "all" nodes, or the "last" one only
    """

    domain: str
    cells: tuple[str, ...]
    inputs: int
    edges: str
    joined: str


# By name; the space of the same name is the first that was published with it.
MACROS = {
    "darts": Macro("cnn", ("normal", "reduce"), 2, "any", "all"),  # reductions at a third and two thirds of the depth
    "nas-bench-201": Macro("cnn", ("cell",), 1, "every", "last"),  # three stages, with residual blocks between them
    "darts-rnn": Macro("rnn", ("recurrent",), 1, "one", "all"),  # one cell, applied over time
}


@dataclass(frozen=True)
class Space:
    """What the cells of a search may be.

    macro         how cells are stacked: a name of MACROS
    operations    of every edge: the columns of alpha
    nodes         nodes of a search cell; each is connected to all states before it
    keep          incoming edges of a node that derivation keeps; None: all, where `none` competes like any operation
    edgewise      by kind of cell, the operations edge by edge, in the order of `edges`, in place of `operations`
    """

    name: str
    macro: str
    operations: tuple[str, ...]
    nodes: int
    keep: int | None
    edgewise: Mapping[str, tuple[tuple[str, ...], ...]] | None = None

    @classmethod
    def from_dict(cls, data: Mapping, name: str) -> "Space":
        """The space of a plain form without problems (spaces/rules.py); `name` is for one that has none."""
        macro, operations, edgewise = data.get("macro", DEFAULTS[data["domain"]]), data["operations"], None
        if isinstance(operations, dict):
            edgewise = {cell: tuple(map(tuple, rows)) for cell, rows in operations.items()}
            operations = dict.fromkeys(op for rows in edgewise.values() for row in rows for op in row)
        keep = None if data["keep"] == "all" else data["keep"]
        return cls(data.get("name", name), macro, tuple(operations), data["nodes"], keep, edgewise)

    def to_dict(self) -> dict:
        """The plain form, as a space file holds it."""
        rows = self.edgewise and {cell: list(map(list, rows)) for cell, rows in self.edgewise.items()}
        return {
            "name": self.name,
            "domain": self.domain,
            "macro": self.macro,
            "cells": list(self.cells),
            "nodes": self.nodes,
            "keep": "all" if self.keep is None else self.keep,
            "operations": rows or list(self.operations),
        }

    @property
    def domain(self) -> str:
        return MACROS[self.macro].domain

    @property
    def cells(self) -> tuple[str, ...]:
        """The kinds of cells, each with a table of alpha."""
        return MACROS[self.macro].cells

    @property
    def inputs(self) -> int:
        """States of a cell before its first node."""
        return MACROS[self.macro].inputs

    @property
    def genotype_space(self) -> str | None:
        """The space that a genotype of this one names: none for the default of the domain, whose rules others may share."""
        shipped = load(self.name) if self.name in names() else None
        part = shipped is not None and (shipped.macro, shipped.keep) == (self.macro, self.keep)
        part = part and self.nodes <= shipped.nodes and self._within(shipped)
        name = self.name if part else self.macro
        return None if name == DEFAULTS[self.domain] else name

    def _within(self, other: "Space") -> bool:
        """Whether every edge has some of the operations that it has in the other space."""
        return all(
            set(row) <= set(wider)
            for cell in self.cells
            for row, wider in zip(self.choices(cell), other.choices(cell), strict=False)
        )

    def edges(self) -> list[tuple[int, int]]:
        """(state, node) of every edge, both numbered as states, in the order of alpha's rows."""
        return [(state, node) for node in self.states() for state in range(node)]

    def states(self, nodes: int | None = None) -> tuple[int, ...]:
        """The states that are nodes, in a cell of so many nodes."""
        return tuple(range(self.inputs, self.inputs + (self.nodes if nodes is None else nodes)))

    def joined(self, nodes: int | None = None) -> tuple[int, ...]:
        """The states that the output joins, in a cell of so many nodes."""
        states = self.states(nodes)
        return states if MACROS[self.macro].joined == "all" else states[-1:]

    def by_node(self, table: Table) -> list[Table]:
        """A table with one row per edge, split by node."""
        ends = accumulate(self.states(), initial=0)  # a node has as many edges as there are states before it
        return [table[start:end] for start, end in pairwise(ends)]

    def size(self) -> int:
        """How many different genotypes derivation or a random draw may give."""
        count = 1
        for cell in self.cells:
            for rows in self.by_node(self.choices(cell)):
                options = [len(self.chosen(row)) for row in rows]
                count *= sum(math.prod(chosen) for chosen in combinations(options, self.keep or len(options)))
        return count

    def choices(self, cell: str) -> tuple[tuple[str, ...], ...]:
        """The operations of every edge of a kind of cell: what the columns of alpha stand for in each row."""
        return self.edgewise[cell] if self.edgewise else (self.operations,) * len(self.edges())

    def chosen(self, operations: Sequence[str]) -> list[int]:
        """The columns of an edge that derivation chooses from: all but `none`, except where all edges are kept."""
        return [k for k, op in enumerate(operations) if op != "none" or self.keep is None]


@cache
def load(name: str) -> Space:
    """A shipped space. Raises DartsError when there is none of this name."""
    if name not in names():
        raise DartsError(f"{name}: no space of this name{meant(name, names())}; there are {', '.join(names())}")
    return Space.from_dict(files.read_yaml(files.data_folder("spaces") / f"{name}.yaml"), name)


@cache
def names(domain: str | None = None) -> tuple[str, ...]:
    """The names of the shipped spaces, or of those of a domain."""
    known = sorted(path.stem for path in files.data_folder("spaces").glob("*.yaml"))
    return tuple(name for name in known if domain is None or load(name).domain == domain)


def default(domain: str) -> Space:
    """The space of a domain where nothing else is said."""
    return load(DEFAULTS[domain])


def of(genotype: Mapping) -> Space:
    """The space of the plain form of a genotype."""
    return load(genotype.get("space") or DEFAULTS[genotype["domain"]])
