"""Genotypes: what a search finds, an evaluation trains and people exchange. Plain data, no torch.

A cell is a small directed graph. Its states are the cell's inputs followed by its nodes; every node sums what a few
operations make of earlier states; the output joins the states in `concat` (sec. 2.1 of the paper).
"""

import math
import os
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from darts_cli import DartsError, files


class Edge(NamedTuple):
    """An operation and the state it is applied to."""

    op: str
    input: int  # index into the cell's states


@dataclass(frozen=True)
class Cell:
    """The nodes of a cell, each a sum of its incoming edges, and its output."""

    nodes: tuple[tuple[Edge, ...], ...]
    concat: tuple[int, ...]  # the states that make the output

    def count(self, op: str) -> int:
        """How many edges carry the operation."""
        return sum(edge.op == op for node in self.nodes for edge in node)


class Space(NamedTuple):
    """What the genotypes of a domain are made of."""

    cells: tuple[str, ...]
    searched: tuple[str, ...]  # the operations of the search, in the order of the columns of alpha
    allowed: tuple[str, ...]  # the operations a genotype may hold
    inputs: int  # states before the first node
    edges: int  # incoming edges of a node

    def edges_searched(self, nodes: int) -> int:
        """Number of edges of the search cell, which joins every node with all states before it."""
        return sum(self.inputs + i for i in range(nodes))


_CNN = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
_RNN = ("tanh", "relu", "sigmoid", "identity")
SPACES = {
    "cnn": Space(("normal", "reduce"), ("none", *_CNN), ("none", *_CNN, "sep_conv_7x7", "conv_7x1_1x7"), 2, 2),
    "rnn": Space(("recurrent",), ("none", *_RNN), _RNN, 1, 1),
}
_NOTES = ("name", "source", "notes")  # optional keys of a genotype file; they say, they do not count


@dataclass(frozen=True)
class Genotype:
    """The cells of one domain: `normal` and `reduce` for "cnn", `recurrent` for "rnn".

    Two genotypes are equal when their cells are. Raises DartsError when the cells break a rule of the domain.
    """

    domain: str
    cells: dict[str, Cell]
    name: str | None = field(default=None, compare=False)
    source: str | None = field(default=None, compare=False)
    notes: str | None = field(default=None, compare=False)

    def __post_init__(self):
        for problem in problems(self.to_dict()):
            raise DartsError(problem)

    def to_dict(self) -> dict:
        """The plain form: what the YAML file holds."""
        cells = {
            name: {"nodes": [[list(edge) for edge in node] for node in cell.nodes], "concat": list(cell.concat)}
            for name, cell in self.cells.items()
        }
        notes = {key: getattr(self, key) for key in _NOTES if getattr(self, key) is not None}
        return notes | {"domain": self.domain} | cells

    @classmethod
    def from_dict(cls, data: dict) -> "Genotype":
        """The genotype of a plain form. Raises DartsError with the first problem and the number of further ones."""
        found = problems(data)
        if found:
            more = f" (and {len(found) - 1} more: darts genotype validate lists them)" if len(found) > 1 else ""
            raise DartsError(found[0] + more)
        cells = {
            name: Cell(
                nodes=tuple(tuple(Edge(*edge) for edge in node) for node in data[name]["nodes"]),
                concat=tuple(data[name]["concat"]),
            )
            for name in SPACES[data["domain"]].cells
        }
        return cls(data["domain"], cells, **{key: data.get(key) for key in _NOTES})

    def to_yaml(self) -> str:
        """The text of the genotype file, one node a line."""
        data = self.to_dict()
        notes = {key: data[key] for key in _NOTES if key in data}
        text = yaml.safe_dump(notes, sort_keys=False, allow_unicode=True, width=100) if notes else ""
        text += f"domain: {self.domain}\n"
        for name in self.cells:
            text += f"{name}:\n  nodes:\n"
            for node in data[name]["nodes"]:
                text += "    - [" + ", ".join(f"[{op}, {state}]" for op, state in node) + "]\n"
            text += f"  concat: {data[name]['concat']}\n"
        return text


# ---- reading and writing


def load(name_or_path: str | Path, domain: str | None = None) -> Genotype:
    """The genotype of that name, in that file, or found by the search in that run folder.

    Published names come first and case never matters; `cnn/darts_v2` names the domain. Raises DartsError that says file,
    place, rule and remedy, or which names there are; also when `domain` is given and the genotype is of the other one.
    """
    path = _published(str(name_or_path), domain) or Path(name_or_path)
    if os.path.isdir(path):
        path = path / "genotype.yaml"
        if not os.path.exists(path):
            if os.path.exists(path.with_name("config.yaml")):
                raise DartsError(f"{path.parent}: this run has no genotype yet; a search writes it after its first epoch")
            raise DartsError(f"{path.parent}: holds no genotype.yaml, so it is not the run folder of a search")
    elif not os.path.exists(path) and not path.suffix:
        _unknown_name(str(name_or_path), domain)
    data = files.read_yaml(path)
    try:
        genotype = Genotype.from_dict(data)
    except DartsError as error:
        raise DartsError(f"{path}: {error}") from None
    if domain not in (None, genotype.domain):
        raise DartsError(f"{path}: its domain is {genotype.domain}, but cells of the domain {domain} are needed here")
    return genotype


def save(genotype: Genotype, path: str | Path) -> None:
    """Write the genotype file, whole or not at all."""
    files.write(path, genotype.to_yaml())


def names(domain: str | None = None) -> list[str]:
    """The published genotypes that `load` knows by name: of one domain, or of both as `cnn/NAME` and `rnn/NAME`."""
    return [f"{each}/{name}" for each in SPACES for name in _stems(each)] if domain is None else list(_stems(domain))


@cache
def _stems(domain: str) -> tuple[str, ...]:
    return tuple(sorted(entry[: -len(".yaml")] for entry in os.listdir(_folder() / domain) if entry.endswith(".yaml")))


@cache
def _folder() -> Path:
    """The published genotypes: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "genotypes"
    return inside if inside.is_dir() else package.parent / "genotypes"


def _published(spelling: str, domain: str | None) -> Path | None:
    """The file of a published name, None when it is none. Raises DartsError when two domains have that name."""
    prefix, slash, name = spelling.lower().rpartition("/")
    if slash and prefix not in SPACES:
        return None
    name = "darts_v2" if name == "darts" else name
    domains = [prefix] if prefix else [domain] if domain else list(SPACES)
    found = [f"{each}/{known}" for each in domains for known in _stems(each) if known.lower() == name]
    if len(found) > 1:
        raise DartsError(f"{spelling}: both domains have a genotype of this name; write {' or '.join(found).lower()}")
    return _folder() / f"{found[0]}.yaml" if found else None


def _unknown_name(spelling: str, domain: str | None):
    prefix, _, name = spelling.rpartition("/")
    domain = prefix.lower() if prefix.lower() in SPACES else domain
    known = sorted({each for one in ([domain] if domain else SPACES) for each in _stems(one)})
    there = f"{domain or 'the domains'} {'has' if domain else 'have'} {', '.join(known)}"
    raise DartsError(f"{spelling[:80]}: no genotype of this name and no such file{_meant(name, known)}; {there}")


# ---- rules


def problems(data: object) -> list[str]:
    """Everything that is wrong with the plain form of a genotype, one line each: place, rule and remedy."""
    if not isinstance(data, dict):
        return [f"a genotype is a mapping with the key domain and its cells, not {reprlib.repr(data)}"]
    if data.get("domain") not in tuple(SPACES):
        said = f"not {reprlib.repr(data['domain'])}" if "domain" in data else "but the key is missing"
        return [f"domain: must be cnn or rnn, {said}"]
    domain, space = data["domain"], SPACES[data["domain"]]
    found = [
        f"{_shown(key)}: unknown key{_meant(key, (*space.cells, *_NOTES))}; in the domain {domain} "
        f"there are {', '.join(space.cells)}, and {', '.join(_NOTES)} if wanted"
        for key in data
        if key not in ("domain", *space.cells, *_NOTES)
    ]
    found += [
        f"{key}: must be text, not {reprlib.repr(data[key])}" for key in _NOTES if not isinstance(data.get(key), str | None)
    ]
    for name in space.cells:
        if name not in data:
            found.append(f"{name}: this cell is missing; the domain {domain} has {' and '.join(space.cells)}")
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
            yield f"{place}.{_shown(key)}: unknown key{_meant(key, ('nodes', 'concat'))}; a cell has nodes and concat"
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
        yield f"{place}: unknown operation {reprlib.repr(op)}{_meant(op, allowed)}; {domain} has {', '.join(allowed)}"
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


def _meant(word: object, known: Sequence[str]) -> str:
    import difflib

    spelled = {each.lower(): each for each in known}
    close = difflib.get_close_matches(word.lower(), spelled, 1) if isinstance(word, str) and len(word) < 40 else []
    return f" (did you mean {spelled[close[0]]}?)" if close else ""


# ---- derivation


def derive_cell(alphas: Sequence[Sequence[float]], domain: str) -> Cell:
    """The discrete cell of a table of architecture parameters, one row an edge, one column an operation (sec. 2.4).

    Softmax over the operations; per edge the strongest operation but `none`; per node the strongest inputs (two for "cnn", one
    for "rnn") by falling weight. Ties go to the operation listed first and to the lower input.
    """
    space = SPACES[domain]
    choices = [k for k, op in enumerate(space.searched) if op != "none"]
    nodes: list[tuple[Edge, ...]] = []
    start = 0
    while start < len(alphas):
        size = space.inputs + len(nodes)
        weights = [softmax(row) for row in alphas[start : start + size]]
        best = [max(choices, key=row.__getitem__) for row in weights]
        strongest = sorted(range(len(weights)), key=lambda j: -weights[j][best[j]])[: space.edges]
        nodes.append(tuple(Edge(space.searched[best[j]], j) for j in strongest))
        start += size
    return Cell(tuple(nodes), tuple(range(space.inputs, space.inputs + len(nodes))))


def softmax(row: Sequence[float]) -> list[float]:
    """Softmax that gives the same weights, to the bit, whatever the order of the row (so that ties are ties)."""
    top = max(row)
    exponentials = [math.exp(value - top) for value in row]
    total = math.fsum(exponentials)
    return [value / total for value in exponentials]
