"""The space that a search is told to use: a shipped one or a file, with fewer operations or other nodes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from darts_cli import DartsError, files
from darts_cli.spaces import operations
from darts_cli.spaces.rules import MAX_NODES, space_problems
from darts_cli.spaces.space import DEFAULTS, Space, default, load, names
from darts_cli.text import meant


def read(name_or_path: str) -> Space:
    """A shipped space, or that in a file or in the folder of a search. Raises DartsError with file, key, rule and remedy."""
    if name_or_path.lower() in names():
        return load(name_or_path.lower())
    path = Path(name_or_path)
    if files.is_file(path / "config.yaml"):
        path = path / "config.yaml"
    elif not files.is_file(path) and path.suffix not in (".yaml", ".yml"):
        there = f"no space of this name and no such file{meant(name_or_path, names())}; there are {', '.join(names())}"
        raise DartsError(f"{name_or_path[:80]}: {there}")
    data = files.read_yaml(path)
    if isinstance(data, dict) and "command" in data:
        return _of_run(data, path)
    return checked(data, str(path), path.stem)


def _of_run(config: dict, path: Path) -> Space:
    """The space in the config.yaml of a search."""
    space, words = config.get("space"), str(config["command"]).split()
    if not isinstance(space, str | dict) or len(words) < 2 or words[1] not in DEFAULTS:
        raise DartsError(f"{path}: names no space; name the folder of a search, or a space file")
    try:
        return choose(words[1], space, config.get("operations"), config.get("nodes"))[1]
    except DartsError as error:
        raise DartsError(f"{path}: {error}") from None


def checked(data: object, source: str, name: str) -> Space:
    """The space in plain data from that source. Raises DartsError with the first problem and the number of the others."""
    messages = space_problems(data)
    if messages:
        more = f" (and {len(messages) - 1} more: darts space validate lists them)" if len(messages) > 1 else ""
        raise DartsError(f"{source}: {messages[0]}{more}")
    return Space.from_dict(data, name)


def is_shipped(space: Space) -> bool:
    """Whether this is a space that its name alone describes."""
    return space.name in names() and space == load(space.name)


def choose(domain: str, space: str | Mapping | None, only: str | None, nodes: int | None) -> tuple[Space, Space]:
    """The space that is named and, of it, what is searched.

    space    a name, a file, a run folder, or the plain form; None: the default of the domain
    only     operations to keep, with commas between them; None: all
    nodes    of a cell; None: those of the space

    Raises DartsError when there is no such space, or when it is one of the other domain.
    """
    if isinstance(space, Mapping):
        named = checked(dict(space), "space", "own")
    else:
        named = default(domain) if space is None else read(space)
    if named.domain != domain:
        fitting = ", ".join(names(domain))
        raise DartsError(f"--space {named.name}: is for {named.domain}, but {domain} is searched here; there are {fitting}", 2)
    searched = named if nodes is None else _with_nodes(named, nodes)
    return named, searched if only is None else _narrowed(searched, only)


def _with_nodes(space: Space, nodes: int) -> Space:
    if not 1 <= nodes <= MAX_NODES:
        raise DartsError(f"--nodes {nodes}: must be from 1 to {MAX_NODES}", exit_code=2)
    other = replace(space, nodes=nodes, edgewise=None)
    if space.edgewise is None:
        return other
    if nodes > space.nodes:
        raise DartsError(
            f"--nodes {nodes}: {space.name} names the operations of each edge, for {space.nodes} nodes", exit_code=2
        )
    edges = len(other.edges())  # those of the first nodes come first
    return replace(other, edgewise={cell: rows[:edges] for cell, rows in space.edgewise.items()})


def _narrowed(space: Space, only: str) -> Space:
    wanted = [name.strip() for name in only.split(",")]
    for name in wanted:
        if wanted.count(name) > 1:
            raise DartsError(f"--operations: {name or 'an empty name'} is listed twice; list every operation once", exit_code=2)
        if name not in space.operations:
            known = operations.is_known(space.domain, name)
            remedy = "; a space file can have it" if known else operations.meant_by(name, space.domain, space.operations)
            has = f"{space.name} has {', '.join(space.operations)}"
            raise DartsError(f"--operations: {name or 'an empty name'}: is not in this space{remedy}; {has}", exit_code=2)
    rows = {cell: [[op for op in row if op in wanted] for row in space.choices(cell)] for cell in space.cells}
    for cell, edges in rows.items():
        for (state, node), row in zip(space.edges(), edges, strict=True):
            if not set(row) - {"none"}:
                raise DartsError(
                    f"--operations {only}: the edge from {state} to {node} of {cell} has no operation left; keep another", 2
                )
        if len({len(row) for row in edges}) > 1:
            raise DartsError(f"--operations {only}: leaves some edges of {cell} with fewer operations than others", exit_code=2)
    kept = tuple(op for op in space.operations if op in wanted)
    narrowed = space.edgewise and {cell: tuple(map(tuple, edges)) for cell, edges in rows.items()}
    return replace(space, operations=kept, edgewise=narrowed)
