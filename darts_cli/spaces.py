"""The search space of each domain: what its genotypes are made of, and the rules that they follow. Plain data, no torch."""

import reprlib
from collections.abc import Iterator
from typing import NamedTuple

from darts_cli.text import meant


class Space(NamedTuple):
    """What the genotypes of a domain are made of."""

    cells: tuple[str, ...]
    searched: tuple[str, ...]  # the operations of the search: the columns of alpha
    allowed: tuple[str, ...]  # the operations of a genotype
    inputs: int  # states before the first node
    edges: int  # incoming edges per node
    nodes: int  # nodes of a search cell; its output joins all of them

    def edges_searched(self, nodes: int) -> int:
        """The number of edges of a search cell, where every node is connected to all states before it."""
        return sum(self.inputs + i for i in range(nodes))

    def all_nodes(self, nodes: int) -> tuple[int, ...]:
        """The states that are nodes, in a cell of so many nodes: what `concat` lists where the output joins them all."""
        return tuple(range(self.inputs, self.inputs + nodes))


_CNN = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
_RNN = ("tanh", "relu", "sigmoid", "identity")
SPACES = {
    "cnn": Space(("normal", "reduce"), ("none", *_CNN), ("none", *_CNN, "sep_conv_7x7", "conv_7x1_1x7"), 2, 2, 4),
    "rnn": Space(("recurrent",), ("none", *_RNN), _RNN, 1, 1, 8),
}
MANY_SKIPS = 3  # skip connections in a normal cell that suggest a collapsed search
NOTES = ("name", "source", "notes")  # optional keys of a genotype file, which do not affect the cells


def problems(data: object) -> list[str]:
    """Everything that is wrong with the plain form of a genotype, one line per problem: key, rule and remedy."""
    if not isinstance(data, dict):
        return [f"a genotype is a mapping with the key domain and its cells, not {reprlib.repr(data)}"]
    domain = data.get("domain")
    if domain not in tuple(SPACES):
        return [f"domain: must be cnn or rnn, {_instead(data, 'domain')}"]
    cells = SPACES[domain].cells
    messages = [
        f"{_shown(key)}: unknown key{meant(key, (*cells, *NOTES))}; a genotype of the domain {domain} has {', '.join(cells)} "
        f"and, optionally, {', '.join(NOTES)}"
        for key in data
        if key not in ("domain", *cells, *NOTES)
    ]
    messages += [
        f"{key}: must be text, not {reprlib.repr(data[key])}" for key in NOTES if not isinstance(data.get(key), str | None)
    ]
    for name in cells:
        if name in data:
            messages += _cell_problems(name, data[name], domain)
        else:
            messages.append(f"{name}: this cell is missing; the domain {domain} needs {' and '.join(cells)}")
    return messages


def _cell_problems(key: str, cell: object, domain: str) -> Iterator[str]:
    space = SPACES[domain]
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
        if not isinstance(node, list) or len(node) != space.edges:
            edges = "two edges, each" if space.edges == 2 else "one edge,"
            yield f"{key}.nodes[{i}]: in the domain {domain} a node has {edges} [operation, input], not {reprlib.repr(node)}"
            continue
        for k, edge in enumerate(node):
            yield from _edge_problems(f"{key}.nodes[{i}][{k}]", edge, i, domain)
    if isinstance(concat, list):
        yield from _concat_problems(f"{key}.concat", concat, range(space.inputs, space.inputs + len(nodes)))


def _edge_problems(key: str, edge: object, node: int, domain: str) -> Iterator[str]:
    if not isinstance(edge, list) or len(edge) != 2:
        yield f"{key}: an edge is [operation, input], not {reprlib.repr(edge)}"
        return
    op, state = edge
    allowed, last = SPACES[domain].allowed, SPACES[domain].inputs + node - 1
    if op not in allowed:
        yield f"{key}: unknown operation {reprlib.repr(op)}{meant(op, allowed)}; {domain} has {', '.join(allowed)}"
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
