"""Genotypes: the result of a search, in the form that people train and exchange. Plain data, no torch.

A cell is a small directed graph. Its states are its inputs, followed by its nodes; every node sums a few operations on earlier
states; the output joins the states in `concat` (sec. 2.1 of the paper).
"""

import importlib
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
from darts_cli.spaces import space as spaces
from darts_cli.spaces.rules import genotype_problems
from darts_cli.spaces.space import DEFAULTS, NOTES, Space
from darts_cli.text import meant


class Edge(NamedTuple):
    """An operation and the state that it is applied to."""

    op: str
    input: int  # index into the cell's states


@dataclass(frozen=True)
class Cell:
    """The nodes of a cell, with the incoming edges that each node sums, and its output."""

    nodes: tuple[tuple[Edge, ...], ...]
    concat: tuple[int, ...]  # the states that the output joins

    def count(self, op: str) -> int:
        """The number of edges with that operation."""
        return sum(edge.op == op for node in self.nodes for edge in node)


@dataclass(frozen=True)
class Genotype:
    """The cells of one domain: in the default spaces `normal` and `reduce` for "cnn", `recurrent` for "rnn".

    Two genotypes are equal when their cells are. Raises DartsError when the cells break a rule of the space.
    """

    domain: str
    cells: dict[str, Cell]
    name: str | None = field(default=None, compare=False)
    source: str | None = field(default=None, compare=False)
    notes: str | None = field(default=None, compare=False)
    space: str | None = field(default=None, compare=False)  # its name, where it is not the domain's default

    def __post_init__(self):
        for problem in genotype_problems(self.to_dict()):
            raise DartsError(problem)
        object.__setattr__(self, "space", spaces.of(self.to_dict()).genotype_space)

    def __repr__(self) -> str:
        name = f"{self.name}, " if self.name else ""
        cells = ", ".join(f"{kind}: {len(cell.nodes)} nodes" for kind, cell in self.cells.items())
        return f"<Genotype {name}{self.domain}, {cells}, hash {self.hash()}>"

    def _repr_svg_(self) -> str:
        """How a notebook shows it: its cells drawn, one below the other."""
        return importlib.import_module("darts_cli.pictures.subjects").notebook(self)

    @property
    def macro(self) -> str:
        """How its cells are stacked, a name of MACROS."""
        return spaces.of({"domain": self.domain, "space": self.space}).macro

    def to_dict(self) -> dict:
        """The plain form, as the YAML file holds it."""
        cells = {
            name: {"nodes": [[list(edge) for edge in node] for node in cell.nodes], "concat": list(cell.concat)}
            for name, cell in self.cells.items()
        }
        notes = {key: getattr(self, key) for key in NOTES if getattr(self, key) is not None}
        space = {} if self.space is None else {"space": self.space}
        return notes | {"domain": self.domain} | space | cells

    def to_json(self) -> str:
        """The cells in one line, without the notes, as `--genotype` reads them too."""
        return json.dumps({key: value for key, value in self.to_dict().items() if key not in NOTES})

    @classmethod
    def from_dict(cls, data: dict) -> "Genotype":
        """The genotype of a plain form. Raises DartsError with the first problem and the number of the others."""
        messages = genotype_problems(data)
        if messages:
            more = f" (and {len(messages) - 1} more: darts genotype validate lists them)" if len(messages) > 1 else ""
            raise DartsError(messages[0] + more)
        cells = {
            name: Cell(
                nodes=tuple(tuple(Edge(*edge) for edge in node) for node in data[name]["nodes"]),
                concat=tuple(data[name]["concat"]),
            )
            for name in spaces.of(data).cells
        }
        genotype = object.__new__(cls)  # without __post_init__, which would check the same data again
        vars(genotype).update(domain=data["domain"], cells=cells, space=spaces.of(data).genotype_space)
        vars(genotype).update((key, data.get(key)) for key in NOTES)
        return genotype

    @classmethod
    def from_tuples(cls, cells: Sequence[Sequence[tuple[int, int]]]) -> "Genotype":
        """The convolutional genotype of the encoding of BANANAS (White et al., arXiv 1910.11858).

        The normal and the reduction cell are lists of edges, two per node, in the order of the nodes; an edge is (input, index
        of the operation in the order of the search). Raises DartsError for anything else.
        """
        space = spaces.default("cnn")
        try:
            edges = [[Edge(space.operations[_index(op)], _index(state)) for state, op in cell] for cell in cells]
            nodes = [tuple(zip(cell[::2], cell[1::2], strict=True)) for cell in edges]
            named = {name: Cell(c, space.states(len(c))) for name, c in zip(space.cells, nodes, strict=True)}
        except (TypeError, ValueError, IndexError):
            last = len(space.operations) - 1
            rule = f"must be two lists of (input, index of operation), two pairs per node, with indices from 0 to {last}"
            raise DartsError(f"{reprlib.repr(cells)}: {rule}") from None
        return cls("cnn", named)

    def to_tuples(self) -> list[list[tuple[int, int]]]:
        """The encoding that `from_tuples` reads. Raises DartsError when it cannot express these cells."""
        space = spaces.default("cnn")
        for name, cell in self.cells.items():
            known = all(len(node) == 2 and {edge.op for edge in node} <= set(space.operations) for node in cell.nodes)
            if self.macro != space.macro or not known or cell.concat != space.states(len(cell.nodes)):
                raise DartsError(
                    f"{name}: tuples express convolutional cells with two edges per node and the operations of the search, "
                    "whose output joins all nodes in order; use another notation for this genotype"
                )
        cells = [self.cells[name] for name in space.cells]
        return [[(edge.input, space.operations.index(edge.op)) for node in cell.nodes for edge in node] for cell in cells]

    def hash(self) -> str:
        """Eight hexadecimal digits, which do not depend on the order of the edges within a node."""
        import hashlib

        cells = {name: [[sorted(node) for node in cell.nodes], cell.concat] for name, cell in self.cells.items()}
        return hashlib.sha256(json.dumps([self.domain, cells], sort_keys=True).encode()).hexdigest()[:8]

    def to_yaml(self) -> str:
        """The text of the genotype file, one node per line."""
        data = self.to_dict()
        notes = {key: data[key] for key in NOTES if key in data}
        escaped = any(c in note for note in notes.values() for c in "\x85\u2028\u2029")  # line ends of YAML, of nobody else
        text = yaml.safe_dump(notes, sort_keys=False, allow_unicode=not escaped, width=100) if notes else ""
        text += f"domain: {self.domain}\n" + (f"space: {self.space}\n" if self.space else "")
        for name in self.cells:
            text += f"{name}:\n  nodes:\n"
            for node in data[name]["nodes"]:
                text += "    - [" + ", ".join(f"[{op}, {state}]" for op, state in node) + "]\n"
            text += f"  concat: {data[name]['concat']}\n"
        return text


def _index(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


# ---- reading and writing


def is_name(spelling: str) -> bool:
    """Whether `load` takes this for a published name, or for a name that both domains have."""
    try:
        return _published(spelling, None) is not None
    except DartsError:
        return True


def load(name_or_path: str | Path, domain: str | None = None) -> Genotype:
    """The genotype with that name, in that file, or of the search with that run folder.

    Published names come first and case never matters; `cnn/darts_v2` names the domain. `RUN@N` are the cells that a search had
    after epoch N. Raises DartsError with file, key, rule and remedy, or with the names that exist; also when the genotype is
    not of the domain.
    """
    path = _published(str(name_or_path), domain) or Path(name_or_path)
    folder, at, epoch = str(name_or_path).rpartition("@")
    if at and epoch.isdecimal() and not os.path.exists(path) and os.path.isdir(folder):
        return checked(_of_epoch(Path(folder), int(epoch)), path, domain)
    if os.path.isdir(path):
        path = path / "genotype.yaml"
        if not os.path.exists(path):
            if os.path.exists(path.with_name("config.yaml")):
                raise DartsError(f"{path.parent}: this run has no genotype yet; a search writes it after its first epoch")
            raise DartsError(f"{path.parent}: holds no genotype.yaml; name the run folder of a search, or a file")
    elif not os.path.exists(path) and not path.suffix:
        raise _unknown_name(str(name_or_path), domain)
    try:
        data = files.read_yaml(path)
    except DartsError as error:
        other = "" if path.suffix in (".yaml", ".yml") else "; darts genotype convert reads other notations"
        raise DartsError(f"{error}{other}") from None
    return checked(data, path, domain)


def _of_epoch(folder: Path, epoch: int) -> object:
    """The plain form of the cells that a search had after an epoch, counted from 1. Raises DartsError."""
    path = folder / "metrics.jsonl"
    lines = files.read_lines(path) if path.exists() else []
    if not 1 <= epoch <= len(lines):
        raise DartsError(f"{folder}@{epoch}: the run has {len(lines)} finished epochs", exit_code=2)
    try:
        return json.loads(lines[epoch - 1])["genotype"] | {"source": f"{folder.name}, epoch {epoch}"}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DartsError(f"{path}: line {epoch}: has no cells; name a run of darts search") from None


def checked(data: object, source: str | Path, domain: str | None = None) -> Genotype:
    """The genotype in plain data from that source. Raises DartsError with source, key, rule and remedy."""
    try:
        genotype = Genotype.from_dict(data)
    except DartsError as error:
        raise DartsError(f"{source}: {error}") from None
    if domain not in (None, genotype.domain):
        raise _wrong_domain(source, genotype.domain, domain)
    return genotype


def save(genotype: Genotype, path: str | Path) -> None:
    """Write the genotype file atomically."""
    files.write(path, genotype.to_yaml())


def names(domain: str | None = None) -> list[str]:
    """The published names of one domain, or those of both as `cnn/NAME` and `rnn/NAME`.

    Raises DartsError when there is no such domain.
    """
    return [f"{d}/{name}" for d in DEFAULTS for name in _published_names(d)] if domain is None else _published_names(domain)[:]


@cache
def published_sizes() -> dict[str, int]:
    """Parameters of published genotypes, as `cnn/NAME` or `rnn/NAME`, in the paper's networks for CIFAR-10 and PTB."""
    return files.read_yaml(files.data_folder("genotypes") / "parameters.yaml")


@cache
def _published_names(domain: str) -> list[str]:
    if domain not in DEFAULTS:
        raise DartsError(f"{domain}: unknown domain; it must be one of {', '.join(DEFAULTS)}")
    return sorted(path.stem for path in (files.data_folder("genotypes") / domain).glob("*.yaml"))


def _published(spelling: str, domain: str | None) -> Path | None:
    """The file of a published name, or None. Raises DartsError when both domains have the name."""
    prefix, slash, name = spelling.lower().rpartition("/")
    if slash and prefix not in DEFAULTS:
        return None
    name = "darts_v2" if name == "darts" else name
    domains = [prefix] if prefix else [domain] if domain else list(DEFAULTS)
    matches = [f"{d}/{known}" for d in domains for known in _published_names(d) if known.lower() == name]
    if len(matches) > 1:
        raise DartsError(f"{spelling}: both domains have a genotype of this name; write {' or '.join(matches).lower()}")
    return files.data_folder("genotypes") / f"{matches[0]}.yaml" if matches else None


def _wrong_domain(source: str | Path, domain: str, needed: str) -> DartsError:
    examples = ", ".join(_published_names(needed))
    return DartsError(f"{source}: its domain is {domain}, but cells of the domain {needed} are needed here, such as {examples}")


def _unknown_name(spelling: str, domain: str | None) -> DartsError:
    prefix, _, name = spelling.rpartition("/")
    domain = prefix.lower() if prefix.lower() in DEFAULTS else domain
    others = [d for d in DEFAULTS if name.lower() in map(str.lower, _published_names(d))]
    if domain and others and not prefix:
        return _wrong_domain(spelling, others[0], domain)
    known = sorted({name for d in ([domain] if domain else DEFAULTS) for name in _published_names(d)})
    there = f"{domain or 'the domains'} {'has' if domain else 'have'} {', '.join(known)}"
    return DartsError(f"{spelling[:80]}: no genotype of this name and no such file{meant(name, known)}; {there}")


def random_genotype(space: Space, rng: random.Random) -> Genotype:
    """A genotype drawn uniformly from a space: every node draws different inputs, and every edge an operation.

    Among these is `none` only where all edges are kept.
    """
    cells = {}
    for name in space.cells:
        inputs = [sorted(rng.sample(range(state), space.keep or state)) for state in space.states()]
        nodes = [
            tuple(Edge(rng.choice([choices[j][k] for k in space.chosen(choices[j])]), j) for j in states)
            for states, choices in zip(inputs, space.by_node(space.choices(name)), strict=True)
        ]
        cells[name] = Cell(tuple(nodes), space.joined())
    return Genotype(space.domain, cells, space=space.genotype_space)
