"""Genotypes: what a search finds, an evaluation trains and people exchange. Plain data, no torch.

A cell is a small directed graph. Its states are the cell's inputs followed by its nodes; every node sums what a few
operations make of earlier states; the output joins the states in `concat` (sec. 2.1 of the paper).
"""

import json
import os
import random
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from darts_cli import DartsError, files
from darts_cli.spaces import NOTES, SPACES, problems
from darts_cli.text import meant


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
        notes = {key: getattr(self, key) for key in NOTES if getattr(self, key) is not None}
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
        return cls(data["domain"], cells, **{key: data.get(key) for key in NOTES})

    @classmethod
    def from_tuples(cls, cells: Sequence[Sequence[tuple[int, int]]]) -> "Genotype":
        """The convolutional genotype of the encoding of BANANAS (White et al., arXiv 1910.11858).

        For the normal and the reduction cell the edges in the order of the nodes, two a node, each as (input, index of the
        operation in the order of the search). Raises DartsError when it is none.
        """
        space = SPACES["cnn"]
        names = dict(enumerate(space.searched))
        try:
            edges = [[Edge(names[_index(op)], _index(state)) for state, op in cell] for cell in cells]
        except (TypeError, ValueError, KeyError):
            last = len(space.searched) - 1
            raise DartsError(
                f"{reprlib.repr(cells)}: must be two lists of (input, index of operation), the index 0 to {last}"
            ) from None
        if len(edges) != 2 or any(len(cell) % 2 or not cell for cell in edges):
            raise DartsError(
                f"{reprlib.repr(cells)}: must be two lists of (input, index of operation), two pairs for each node"
            )
        nodes = [tuple(zip(cell[::2], cell[1::2], strict=True)) for cell in edges]
        return cls("cnn", {n: Cell(c, tuple(range(2, 2 + len(c)))) for n, c in zip(space.cells, nodes, strict=True)})

    def to_tuples(self) -> list[list[tuple[int, int]]]:
        """The encoding that `from_tuples` reads. Raises DartsError when it cannot express these cells."""
        searched = SPACES["cnn"].searched
        for name, cell in self.cells.items():
            further = sorted({edge.op for node in cell.nodes for edge in node} - set(searched))
            if self.domain != "cnn" or further or list(cell.concat) != list(range(2, 2 + len(cell.nodes))):
                raise DartsError(
                    f"{name}: tuples express convolutional cells of the search's operations, all nodes joined in the output in "
                    "their order; use --to python for this one"
                )
        cells = [self.cells[name] for name in SPACES["cnn"].cells]
        return [[(edge.input, searched.index(edge.op)) for node in cell.nodes for edge in node] for cell in cells]

    def hash(self) -> str:
        """Eight hexadecimal digits, equal for cells that are the same up to the order of the edges within a node."""
        import hashlib

        cells = {name: [[sorted(node) for node in cell.nodes], cell.concat] for name, cell in self.cells.items()}
        return hashlib.sha256(json.dumps([self.domain, cells], sort_keys=True).encode()).hexdigest()[:8]

    def to_yaml(self) -> str:
        """The text of the genotype file, one node a line."""
        data = self.to_dict()
        notes = {key: data[key] for key in NOTES if key in data}
        text = yaml.safe_dump(notes, sort_keys=False, allow_unicode=True, width=100) if notes else ""
        text += f"domain: {self.domain}\n"
        for name in self.cells:
            text += f"{name}:\n  nodes:\n"
            for node in data[name]["nodes"]:
                text += "    - [" + ", ".join(f"[{op}, {state}]" for op, state in node) + "]\n"
            text += f"  concat: {data[name]['concat']}\n"
        return text


def _index(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


# ---- reading and writing


def is_name(spelling: str) -> bool:
    """Whether `load` takes this for a published name, or for one of two."""
    try:
        return _published(spelling, None) is not None
    except DartsError:
        return True


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
            raise DartsError(f"{path.parent}: holds no genotype.yaml; name the run folder of a search, or a file")
    elif not os.path.exists(path) and not path.suffix:
        _unknown_name(str(name_or_path), domain)
    return checked(files.read_yaml(path), path, domain)


def checked(data: object, place: str | Path, domain: str | None = None) -> Genotype:
    """The genotype in plain data that comes from there. Raises DartsError that says place, rule and remedy."""
    try:
        genotype = Genotype.from_dict(data)
    except DartsError as error:
        raise DartsError(f"{place}: {error}") from None
    if domain not in (None, genotype.domain):
        raise _of_other_domain(place, genotype.domain, domain)
    return genotype


def save(genotype: Genotype, path: str | Path) -> None:
    """Write the genotype file, whole or not at all."""
    files.write(path, genotype.to_yaml())


def names(domain: str | None = None) -> list[str]:
    """The published genotypes that `load` knows by name: of one domain, or of both as `cnn/NAME` and `rnn/NAME`.

    Raises DartsError when there is no such domain.
    """
    return [f"{each}/{name}" for each in SPACES for name in _stems(each)] if domain is None else list(_stems(domain))


@cache
def published_sizes() -> dict[str, int]:
    """Parameters of published genotypes, as `cnn/NAME` or `rnn/NAME`, in the paper's networks for CIFAR-10 and PTB."""
    return files.read_yaml(_folder() / "parameters.yaml")


@cache
def _stems(domain: str) -> tuple[str, ...]:
    if domain not in SPACES:
        raise DartsError(f"{domain}: is no domain; it must be one of {', '.join(SPACES)}")
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


def _of_other_domain(place: str | Path, found: str, needed: str) -> DartsError:
    there = ", ".join(_stems(needed))
    return DartsError(f"{place}: its domain is {found}, but cells of the domain {needed} are needed here, such as {there}")


def _unknown_name(spelling: str, domain: str | None):
    prefix, _, name = spelling.rpartition("/")
    domain = prefix.lower() if prefix.lower() in SPACES else domain
    others = [each for each in SPACES if name.lower() in map(str.lower, _stems(each))]
    if domain and others and not prefix:
        raise _of_other_domain(spelling, others[0], domain)
    known = sorted({each for one in ([domain] if domain else SPACES) for each in _stems(one)})
    there = f"{domain or 'the domains'} {'has' if domain else 'have'} {', '.join(known)}"
    raise DartsError(f"{spelling[:80]}: no genotype of this name and no such file{meant(name, known)}; {there}")


def random_genotype(domain: str, rng: random.Random) -> Genotype:
    """A genotype drawn uniformly from the search space of the domain: every node draws its inputs, all different, and for each
    an operation but `none`."""
    space = SPACES[domain]
    ops = [op for op in space.searched if op != "none"]
    cells = {}
    for name in space.cells:
        inputs = [sorted(rng.sample(range(space.inputs + i), space.edges)) for i in range(space.nodes)]
        nodes = tuple(tuple(Edge(rng.choice(ops), state) for state in node) for node in inputs)
        cells[name] = Cell(nodes, tuple(range(space.inputs, space.inputs + space.nodes)))
    return Genotype(domain, cells)
