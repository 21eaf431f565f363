"""The space of cells: what the genotypes of each domain are made of, and the rules that they keep. Plain data, no torch."""

import reprlib
from collections.abc import Iterator
from typing import NamedTuple

from darts_cli.text import meant


class Space(NamedTuple):
    """What the genotypes of a domain are made of."""

    cells: tuple[str, ...]
    searched: tuple[str, ...]  # the operations of the search, in the order of the columns of alpha
    allowed: tuple[str, ...]  # the operations a genotype may hold
    inputs: int  # states before the first node
    edges: int  # incoming edges of a node
    nodes: int  # nodes of a cell of the search, all of them joined in its output

    def edges_searched(self, nodes: int) -> int:
        """Number of edges of the search cell, which joins every node with all states before it."""
        return sum(self.inputs + i for i in range(nodes))


_CNN = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
_RNN = ("tanh", "relu", "sigmoid", "identity")
SPACES = {
    "cnn": Space(("normal", "reduce"), ("none", *_CNN), ("none", *_CNN, "sep_conv_7x7", "conv_7x1_1x7"), 2, 2, 4),
    "rnn": Space(("recurrent",), ("none", *_RNN), _RNN, 1, 1, 8),
}
MANY_SKIPS = 3  # skip connections in a normal cell from which on a search has probably collapsed
NOTES = ("name", "source", "notes")  # optional keys of a genotype file; they say, they do not count


def problems(data: object) -> list[str]:
    """Everything that is wrong with the plain form of a genotype, one line each: place, rule and remedy."""
    if not isinstance(data, dict):
        return [f"a genotype is a mapping with the key domain and its cells, not {reprlib.repr(data)}"]
    if data.get("domain") not in tuple(SPACES):
        said = f"not {reprlib.repr(data['domain'])}" if "domain" in data else "but the key is missing"
        return [f"domain: must be cnn or rnn, {said}"]
    domain, space = data["domain"], SPACES[data["domain"]]
    found = [
        f"{_shown(key)}: unknown key{meant(key, (*space.cells, *NOTES))}; in the domain {domain} "
        f"there are {', '.join(space.cells)}, and {', '.join(NOTES)} if wanted"
        for key in data
        if key not in ("domain", *space.cells, *NOTES)
    ]
    found += [
        f"{key}: must be text, not {reprlib.repr(data[key])}" for key in NOTES if not isinstance(data.get(key), str | None)
    ]
    for name in space.cells:
        if name not in data:
            found.append(f"{name}: this cell is missing; the domain {domain} needs {' and '.join(space.cells)}")
        else:
            found += _cell_problems(name, data[name], domain)
    return found


def _cell_problems(place: str, cell: object, domain: str) -> Iterator[str]:
    space = SPACES[domain]
    if not isinstance(cell, dict):
        yield f"{place}: a cell is a mapping with the keys nodes and concat, not {reprlib.repr(cell)}"
        return
    for key in cell:
        if key not in ("nodes", "concat"):
            yield f"{place}.{_shown(key)}: unknown key{meant(key, ('nodes', 'concat'))}; a cell has nodes and concat"
    for key in ("nodes", "concat"):
        if not isinstance(cell.get(key), list) or not cell[key]:
            said = f"not {reprlib.repr(cell[key])}" if key in cell else "but the key is missing"
            yield f"{place}.{key}: must be a list that is not empty, {said}"
    nodes = cell.get("nodes")
    if not isinstance(nodes, list) or not nodes:
        return
    for i, node in enumerate(nodes):
        if not isinstance(node, list) or len(node) != space.edges:
            edges = "two edges, each" if space.edges == 2 else "one edge,"
            yield f"{place}.nodes[{i}]: in domain {domain} a node lists {edges} [operation, input], not {reprlib.repr(node)}"
            continue
        for k, edge in enumerate(node):
            yield from _edge_problems(f"{place}.nodes[{i}][{k}]", edge, i, domain)
    concat = cell.get("concat")
    if isinstance(concat, list):
        yield from _concat_problems(f"{place}.concat", concat, space.inputs, space.inputs + len(nodes) - 1)


def _edge_problems(place: str, edge: object, node: int, domain: str) -> Iterator[str]:
    if not isinstance(edge, list) or len(edge) != 2:
        yield f"{place}: an edge is [operation, input], not {reprlib.repr(edge)}"
        return
    op, state = edge
    allowed, last = SPACES[domain].allowed, SPACES[domain].inputs + node - 1
    if op not in allowed:
        yield f"{place}: unknown operation {reprlib.repr(op)}{meant(op, allowed)}; {domain} has {', '.join(allowed)}"
    if not _is_index(state):
        yield f"{place}: the input must be the number of a state, not {reprlib.repr(state)}"
    elif not 0 <= state <= last:
        yield f"{place}: input {reprlib.repr(state)} does not exist yet; node {node} may use the states 0 to {last}"


def _concat_problems(place: str, concat: list, first: int, last: int) -> Iterator[str]:
    for k, state in enumerate(concat):
        if not _is_index(state):
            yield f"{place}[{k}]: must be the number of a node, not {reprlib.repr(state)}"
        elif not first <= state <= last:
            yield f"{place}[{k}]: {reprlib.repr(state)} is no node of this cell; its nodes are the states {first} to {last}"
        elif state in concat[:k]:
            yield f"{place}[{k}]: state {state} stands there already; list every node once"


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)  # YAML's `true` is an int in Python


def _shown(key: object) -> str:
    return key if isinstance(key, str) and key.isprintable() and len(key) < 40 else reprlib.repr(key)
