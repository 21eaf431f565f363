"""Search spaces: what cells are made of. A space is a value, read from a YAML file; and the rules that genotypes follow.

Plain data, no torch.
"""

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import TypeVar

from darts_cli import DartsError, files
from darts_cli.text import meant

Table = TypeVar("Table", bound=Sequence)  # one row per edge: a list of lists, or a tensor

_CNN = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
OPERATIONS = {  # by domain, those that an edge of a genotype may have
    "cnn": ("none", *_CNN, "sep_conv_7x7", "conv_7x1_1x7"),
    "rnn": ("tanh", "relu", "sigmoid", "identity"),
}
DEFAULTS = {"cnn": "darts", "rnn": "darts-rnn"}  # the space of a domain where nothing else is said
MANY_SKIPS = 3  # skip connections in a normal cell that suggest a collapsed search
NOTES = ("name", "source", "notes")  # optional keys of a genotype file, which do not affect the cells


@dataclass(frozen=True)
class Space:
    """What the cells of a search may be.

    cells         the kinds of cells, each with a table of alpha
    operations    of every edge: the columns of alpha
    inputs        states of a cell before its first node
    nodes         nodes of a search cell; each is connected to all states before it, and the output joins all nodes
    keep          incoming edges of a node that derivation keeps; None: all
    edgewise      by kind of cell, the operations edge by edge, in the order of `edges`, in place of `operations`
    macro         how cells are stacked: "darts" with reductions at a third and two thirds of the depth
    """

    name: str
    domain: str
    cells: tuple[str, ...]
    operations: tuple[str, ...]
    inputs: int
    nodes: int
    keep: int | None
    edgewise: Mapping[str, tuple[tuple[str, ...], ...]] | None = None
    macro: str = "darts"

    def __post_init__(self):
        for cell, rows in (self.edgewise or {}).items():
            if len(rows) != len(self.edges()) or len({len(row) for row in rows}) > 1:
                rule = f"it needs {len(self.edges())} edges with equally many operations each"
                raise DartsError(f"{self.name}: {cell}: {rule}")

    def edges(self) -> list[tuple[int, int]]:
        """(state, node) of every edge, both numbered as states, in the order of alpha's rows."""
        return [(state, node) for node in self.states() for state in range(node)]

    def states(self, nodes: int | None = None) -> tuple[int, ...]:
        """The states that are nodes, in a cell of so many nodes: what the output joins."""
        return tuple(range(self.inputs, self.inputs + (self.nodes if nodes is None else nodes)))

    def by_node(self, table: Table) -> list[Table]:
        """A table with one row per edge, split by node."""
        ends = accumulate(self.states(), initial=0)  # a node has as many edges as there are states before it
        return [table[start:end] for start, end in pairwise(ends)]

    def choices(self, cell: str) -> tuple[tuple[str, ...], ...]:
        """The operations of every edge of a kind of cell: what the columns of alpha stand for in each row."""
        return self.edgewise[cell] if self.edgewise else (self.operations,) * len(self.edges())


@cache
def load(name: str) -> Space:
    """A shipped space. Raises DartsError when there is none of this name."""
    if name not in names():
        raise DartsError(f"{name}: no space of this name{meant(name, names())}; there are {', '.join(names())}")
    data = files.read_yaml(files.data_folder("spaces") / f"{name}.yaml")
    return Space(name, **{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})


@cache
def names() -> tuple[str, ...]:
    """The names of the shipped spaces."""
    return tuple(sorted(path.stem for path in files.data_folder("spaces").glob("*.yaml")))


def default(domain: str) -> Space:
    """The space of a domain where nothing else is said."""
    return load(DEFAULTS[domain])


def of(genotype: Mapping) -> Space:
    """The space of the plain form of a genotype."""
    return load(genotype["space"]) if genotype.get("space") else default(genotype["domain"])


def needed_name(space: Space) -> str | None:
    """The name that a genotype of this space must bear: None where the rules of its domain's default space hold for it."""
    usual = default(space.domain)
    return None if (space.cells, space.inputs, space.keep) == (usual.cells, usual.inputs, usual.keep) else space.name


def problems(data: object) -> list[str]:
    """Everything that is wrong with the plain form of a genotype, one line per problem: key, rule and remedy."""
    if not isinstance(data, dict):
        return [f"a genotype is a mapping with the key domain and its cells, not {reprlib.repr(data)}"]
    domain = data.get("domain")
    if domain not in tuple(DEFAULTS):
        return [f"domain: must be cnn or rnn, {_instead(data, 'domain')}"]
    of_domain = [name for name in names() if load(name).domain == domain]
    if "space" in data and data["space"] not in of_domain:
        wrong = f"not {reprlib.repr(data['space'])}{meant(data['space'], of_domain)}"
        return [f"space: the domain {domain} has the spaces {', '.join(of_domain)}, {wrong}"]
    space = of(data)
    cells, optional = space.cells, (*NOTES, "space")
    messages = [
        f"{_shown(key)}: unknown key{meant(key, (*cells, *optional))}; a genotype of the domain {domain} has "
        f"{', '.join(cells)} and, optionally, {', '.join(optional)}"
        for key in data
        if key not in ("domain", *cells, *optional)
    ]
    messages += [
        f"{key}: must be text, not {reprlib.repr(data[key])}" for key in NOTES if not isinstance(data.get(key), str | None)
    ]
    for name in cells:
        if name in data:
            messages += _cell_problems(name, data[name], space)
        else:
            messages.append(f"{name}: this cell is missing; the domain {domain} needs {' and '.join(cells)}")
    return messages


def _cell_problems(key: str, cell: object, space: Space) -> Iterator[str]:
    if not isinstance(cell, dict):
        yield f"{key}: a cell is a mapping with the keys nodes and concat, not {reprlib.repr(cell)}"
        return
    for name in cell:
        if name not in ("nodes", "concat"):
            yield f"{key}.{_shown(name)}: unknown key{meant(name, ('nodes', 'concat'))}; a cell has nodes and concat"
    for name in ("nodes", "concat"):
        if not isinstance(cell.get(name), list) or not cell[name]:
            yield f"{key}.{name}: must be a non-empty list, {_instead(cell, name)}"
    nodes, concat = cell.get("nodes"), cell.get("concat")
    if not isinstance(nodes, list) or not nodes:
        return
    for i, node in enumerate(nodes):
        count = space.inputs + i if space.keep is None else space.keep
        if not isinstance(node, list) or len(node) != count:
            edges = {1: "one edge,", 2: "two edges, each"}.get(count, f"{count} edges, each")
            where = f"in the domain {space.domain} a node" if space.keep else f"in the space {space.name} node {i}"
            yield f"{key}.nodes[{i}]: {where} has {edges} [operation, input], not {reprlib.repr(node)}"
            continue
        for k, edge in enumerate(node):
            yield from _edge_problems(f"{key}.nodes[{i}][{k}]", edge, i, space)
    if isinstance(concat, list):
        yield from _concat_problems(f"{key}.concat", concat, range(space.inputs, space.inputs + len(nodes)))


def _edge_problems(key: str, edge: object, node: int, space: Space) -> Iterator[str]:
    if not isinstance(edge, list) or len(edge) != 2:
        yield f"{key}: an edge is [operation, input], not {reprlib.repr(edge)}"
        return
    op, state = edge
    allowed, last = OPERATIONS[space.domain], space.inputs + node - 1
    if op not in allowed:
        yield f"{key}: unknown operation {reprlib.repr(op)}{meant(op, allowed)}; {space.domain} has {', '.join(allowed)}"
    if type(state) is not int:
        yield f"{key}: the input must be the number of a state, not {reprlib.repr(state)}"
    elif not 0 <= state <= last:
        yield f"{key}: input {reprlib.repr(state)} does not exist yet; node {node} may use the states 0 to {last}"


def _concat_problems(key: str, concat: list, nodes: range) -> Iterator[str]:
    seen = set()
    for k, state in enumerate(concat):
        if type(state) is not int:
            yield f"{key}[{k}]: must be the number of a node, not {reprlib.repr(state)}"
        elif state not in nodes:
            states = f"the states {nodes[0]} to {nodes[-1]}"
            yield f"{key}[{k}]: {reprlib.repr(state)} is no node of this cell; its nodes are {states}"
        elif state in seen:
            yield f"{key}[{k}]: state {state} is listed twice; list every node once"
        else:
            seen.add(state)


def _instead(data: dict, key: str) -> str:
    return f"not {reprlib.repr(data[key])}" if key in data else "but the key is missing"


def _shown(key: object) -> str:
    return key if isinstance(key, str) and key.isprintable() and len(key) < 40 else reprlib.repr(key)
