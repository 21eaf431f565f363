"""The rules of genotypes and of space files: what is wrong with one, a line per problem with key, rule and remedy."""

import re
import reprlib
from collections.abc import Iterator, Sequence

from darts_cli.spaces import operations
from darts_cli.spaces.space import DEFAULTS, MACROS, NOTES, Macro, Space, names, of
from darts_cli.text import meant

MAX_NODES = 32  # of a search cell; alpha has a row for every pair of nodes
_KEYS = ("domain", "macro", "cells", "operations", "nodes", "keep", *NOTES)  # of a space file


# ---- genotypes


def genotype_problems(data: object) -> list[str]:
    """Everything that is wrong with the plain form of a genotype."""
    if not isinstance(data, dict):
        return [f"a genotype is a mapping with the key domain and its cells, {_found(data)}"]
    domain = data.get("domain")
    if domain not in tuple(DEFAULTS):
        return [f"domain: must be cnn or rnn, {_instead(data, 'domain')}"]
    if "space" in data and data["space"] not in names(domain):
        wrong = f"not {reprlib.repr(data['space'])}{meant(data['space'], names(domain))}"
        return [f"space: the domain {domain} has the spaces {', '.join(names(domain))}, {wrong}"]
    space = of(data)
    cells, optional = space.cells, (*NOTES, "space")
    where = f"the domain {domain}" if space.name == DEFAULTS[domain] else f"the space {space.name}"
    messages = [
        f"{_shown(key)}: unknown key{meant(key, (*cells, *optional))}; a genotype of {where} has "
        f"{', '.join(cells)} and, optionally, {', '.join(optional)}"
        for key in data
        if key not in ("domain", *cells, *optional)
    ]
    messages += _note_problems(data)
    for name in cells:
        if name in data:
            messages += _cell_problems(name, data[name], space)
        else:
            messages.append(f"{name}: this cell is missing; {where} needs {' and '.join(cells)}")
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
        yield from _node_problems(f"{key}.nodes[{i}]", node, i, space)
    if isinstance(concat, list) and concat:
        yield from _concat_problems(f"{key}.concat", concat, space, len(nodes))


def _node_problems(key: str, node: object, i: int, space: Space) -> Iterator[str]:
    edges, states = MACROS[space.macro].edges, space.inputs + i
    rules = {
        "any": "a node has edges, each [operation, input]",
        "one": f"in the domain {space.domain} a node has one edge, [operation, input]",
        "every": f"in the space {space.name} node {i} has {states} edges [operation, input], one from every earlier state",
    }
    counts = {"any": range(1, 1000), "one": (1,), "every": (states,)}
    if not isinstance(node, list) or len(node) not in counts[edges]:
        yield f"{key}: {rules[edges]}, not {reprlib.repr(node)}"
        return
    for k, edge in enumerate(node):
        problems = list(_edge_problems(f"{key}[{k}]", edge, i, space))
        yield from problems
        if edges == "every" and not problems and edge[1] != k:
            yield f"{key}[{k}]: {rules[edges]}, in their order: here that from state {k}, not {edge[1]}"


def _edge_problems(key: str, edge: object, node: int, space: Space) -> Iterator[str]:
    if not isinstance(edge, list) or len(edge) != 2:
        yield f"{key}: an edge is [operation, input], not {reprlib.repr(edge)}"
        return
    op, state = edge
    last = space.inputs + node - 1
    yield from _operation_problems(key, op, space, (state, space.inputs + node) if type(state) is int else None)
    if type(state) is not int:
        yield f"{key}: the input must be the number of a state, not {reprlib.repr(state)}"
    elif not 0 <= state <= last:
        yield f"{key}: input {reprlib.repr(state)} does not exist yet; node {node} may use the states 0 to {last}"


def _operation_problems(key: str, op: object, space: Space, edge: tuple[int, int] | None) -> Iterator[str]:
    """Of an edge of a genotype: a space that is no macro's own has certain operations there."""
    edges, cell = space.edges(), key.partition(".")[0]
    row = space.choices(cell)[edges.index(edge)] if edge in edges else space.operations
    allowed = [row[k] for k in space.chosen(row)]
    if space.name not in MACROS and not (isinstance(op, str) and op in allowed):
        yield f"{key}: operation {reprlib.repr(op)} is not in the space {space.name}; it has {', '.join(allowed)} here"
    elif not operations.is_known(space.domain, op) or (space.domain == "rnn" and op == "none"):
        known = operations.in_genotypes(space.domain)
        meant_by = operations.meant_by(op, space.domain, known)
        yield f"{key}: unknown operation {reprlib.repr(op)}{meant_by}; {space.domain} has {', '.join(known)}"


def _concat_problems(key: str, concat: list, space: Space, count: int) -> Iterator[str]:
    nodes, seen = space.states(count), set()
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
    if MACROS[space.macro].joined == "last" and concat != [nodes[-1]]:
        yield f"{key}: in the space {space.name} the output is the last node, [{nodes[-1]}], not {reprlib.repr(concat)}"


def unknown_operations(data: object) -> list[str]:
    """The operations of a genotype in plain form that nobody provides here, if it has no other problem."""
    problems = genotype_problems(data)
    found = [re.search(r"unknown operation '([a-z0-9_]+)'", problem) for problem in problems]
    return list(dict.fromkeys(match[1] for match in found)) if problems and all(found) else []


# ---- spaces


def space_problems(data: object) -> list[str]:
    """Everything that is wrong with the plain form of a space."""
    if not isinstance(data, dict):
        return [f"a space is a mapping with the keys domain, operations, nodes and keep, {_found(data)}"]
    domain = data.get("domain")
    if domain not in tuple(DEFAULTS):
        return [f"domain: must be cnn or rnn, {_instead(data, 'domain')}"]
    macros = [name for name, macro in MACROS.items() if macro.domain == domain]
    if data.get("macro", macros[0]) not in macros:
        wrong = f"not {reprlib.repr(data['macro'])}{meant(data['macro'], macros)}"
        return [f"macro: the domain {domain} has {' and '.join(macros)}, {wrong}"]
    macro = MACROS[data.get("macro", macros[0])]
    messages = [
        f"{_shown(key)}: unknown key{meant(key, _KEYS)}; a space has {', '.join(_KEYS)}" for key in data if key not in _KEYS
    ]
    messages += _note_problems(data)
    if data.get("cells", list(macro.cells)) != list(macro.cells):
        messages.append(f"cells: must be [{', '.join(macro.cells)}], {_instead(data, 'cells')}; the key may be left out")
    nodes = data.get("nodes")
    if type(nodes) is not int or not 1 <= nodes <= MAX_NODES:
        messages.append(f"nodes: must be a whole number from 1 to {MAX_NODES}, {_instead(data, 'nodes')}")
        nodes = None
    messages += _keep_problems(data, macro)
    return [*messages, *_choice_problems(data, domain, macro, nodes)]


def _keep_problems(data: dict, macro: Macro) -> Iterator[str]:
    allowed = {"any": [*range(1, macro.inputs + 1), "all"], "one": [1], "every": ["all"]}[macro.edges]
    if isinstance(data.get("keep"), bool) or data.get("keep") not in allowed:
        why = f"; the first node has {macro.inputs} incoming edges" if macro.edges == "any" else ""
        yield f"keep: must be {' or '.join(map(str, allowed))}, {_instead(data, 'keep')}{why}"


def _choice_problems(data: dict, domain: str, macro: Macro, nodes: int | None) -> Iterator[str]:
    """Of the operations: a list for all edges or, for every cell, a list of lists."""
    choices = data.get("operations")
    if isinstance(choices, list):
        yield from row_problems("operations", choices, domain)
        return
    if not isinstance(choices, dict):
        rule = f"must be a list, or for each of {', '.join(macro.cells)} one list per edge"
        yield f"operations: {rule}, {_instead(data, 'operations')}"
        return
    for cell in macro.cells:
        if cell not in choices:
            yield f"operations.{cell}: is missing; each of {', '.join(macro.cells)} needs one list per edge"
    for cell, rows in choices.items():
        key = f"operations.{_shown(cell)}"
        if cell not in macro.cells:
            yield f"{key}: no cell of this space{meant(cell, macro.cells)}; its cells are {', '.join(macro.cells)}"
        elif not isinstance(rows, list):
            yield f"{key}: must be a list with one list per edge, not {reprlib.repr(rows)}"
        else:
            yield from _rows_problems(key, rows, domain, macro, nodes)


def _rows_problems(key: str, rows: list, domain: str, macro: Macro, nodes: int | None) -> Iterator[str]:
    edges = None if nodes is None else sum(range(macro.inputs, macro.inputs + nodes))
    if edges is not None and len(rows) != edges:
        yield f"{key}: {nodes} nodes have {edges} edges, so there must be {edges} lists, not {len(rows)}"
    problems = [problem for k, row in enumerate(rows) for problem in row_problems(f"{key}[{k}]", row, domain)]
    yield from problems
    if not problems and len({len(row) for row in rows}) > 1:
        yield f"{key}: all edges need equally many operations, because alpha is a table"


def row_problems(key: str, row: object, domain: str) -> Iterator[str]:
    """Of the operations of an edge."""
    if not isinstance(row, list) or not row:
        yield f"{key}: must be a non-empty list of operations, not {reprlib.repr(row)}"
        return
    for k, op in enumerate(row):
        if not operations.is_known(domain, op):
            known = operations.known(domain)
            meant_by = operations.meant_by(op, domain, known)
            yield f"{key}: unknown operation {reprlib.repr(op)}{meant_by}; {domain} has {', '.join(known)}"
        elif op in row[:k]:
            yield f"{key}: {op} is listed twice; list every operation once"
    if row == ["none"]:
        yield f"{key}: none alone leaves the edge without an operation; add another"


# ---- both


def _note_problems(data: dict) -> Sequence[str]:
    return [f"{key}: must be text, not {reprlib.repr(data[key])}" for key in NOTES if not _is_text(data.get(key))]


def _is_text(value: object) -> bool:
    """Whether this is text that can be written, or nothing: half of a surrogate pair, which JSON can hold, cannot."""
    return value is None or (isinstance(value, str) and not re.search("[\ud800-\udfff]", value))


def _instead(data: dict, key: str) -> str:
    if key in data:
        return f"not {reprlib.repr(data[key])}"
    return f"but the key is missing{meant(key, map(str, data)).replace('did you mean', 'is it misspelt as')}"


def _found(data: object) -> str:
    return "but there is nothing" if data is None else f"not {reprlib.repr(data)}"


def _shown(key: object) -> str:
    return key if isinstance(key, str) and key.isprintable() and len(key) < 40 else reprlib.repr(key)
