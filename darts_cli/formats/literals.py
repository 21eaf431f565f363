"""Genotypes as Python literals or plain data, read as the plain form of a genotype. Nothing is evaluated.

    Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=...)                 the original's literal
    {"normal": [["sep_conv_3x3", 1], ...], "normal_concat": [2, 3, 4, 5], "reduce": ...}               its fields as a mapping
    ([(1, 4), ...], [...])                                                 BANANAS' tuples: (input, index of the operation)

Variants of these: one list per node, a third number in an edge (its weight), FairDARTS' edges ('sep_conv_3x3', node, input),
any list as concat, `reduction` for `reduce`, the plain form of a genotype file, {"genotype": ...} around a mapping, and NNI's
mapping {"normal/op_2_0": "sep_conv_3x3", "normal/input_2_0": 1, ...}.
"""

import ast
import re
import reprlib
import warnings

from darts_cli import DartsError
from darts_cli.genotype import Genotype
from darts_cli.spaces.space import default

MAX_LITERAL_NUMBER = 1 << 20
MAX_RANGE_NUMBERS = 1000
PER_NODE = {"darts": 2, "darts-rnn": 1}  # edges of a node in a flat list
FIELDS = {
    "darts": {"normal": "normal_concat", "reduce": "reduce_concat"},
    "darts-rnn": {"recurrent": "concat"},
}  # by macro structure, the cells in the original's literal, each with its concat
SPELLED_OUT = {"reduction": "reduce", "reduction_concat": "reduce_concat"}
NOTATIONS = "YAML with the key domain, Genotype(...), its fields as a mapping, BANANAS' tuples, or |op~input|...| per node"
_NNI_KEY = re.compile(r"(?:.*/)?(normal|reduce)/(op|input)_(\d{1,4})_([01])", re.ASCII)


# ---- Python


def value_of(text: str, line: int, column: int) -> object:
    """The plain data of a literal, Genotype(...) as the mapping of its fields.

    `line` and `column` are where the text begins. Raises DartsError with the place of what is not allowed.
    """
    try:
        expression = _parsed(text)
        return _fields(expression) if isinstance(expression, ast.Call) else _value(expression)
    except _Refused as refused:
        node, rule = refused.args
        where = f"line {line + node.lineno - 1}, column {node.col_offset + (column if node.lineno == 1 else 1)}"
        raise DartsError(f"{where}: {rule or _not_allowed(ast.get_source_segment(text, node))}") from None
    except SyntaxError as error:
        first = error.lineno in (None, 1)
        where = f"line {line + (error.lineno or 1) - 1}, column {(error.offset or 1) + (column - 1 if first else 0)}"
        raise DartsError(f"{where}: holds no genotype in a known notation ({error.msg}); write {NOTATIONS}") from None
    except (ValueError, MemoryError, RecursionError):
        raise DartsError(f"holds no genotype in a known notation; write {NOTATIONS}") from None


class _Refused(Exception):
    """A part of a literal, and the rule that it breaks, or None where such parts are not allowed at all."""


def _not_allowed(code: str | None) -> str:
    parts = "lists, text and numbers, Genotype(keyword=...) around them and range(a, b)"
    return f"{reprlib.repr(code)} is not allowed; a genotype is made of {parts}"


def _parsed(text: str) -> ast.expr:
    """The expression in a text, or in the text of a quoted one. Raises SyntaxError and others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes and the like
        try:
            return ast.parse(text, mode="eval").body
        except SyntaxError:
            if "\\" not in text:
                raise
        return ast.parse(text.replace("\\'", "'").replace('\\"', '"'), mode="eval").body


def _fields(call: ast.Call) -> dict:
    """The keywords of the outer Genotype(...)."""
    if not isinstance(call.func, ast.Name) or call.func.id != "Genotype" or call.args or None in [k.arg for k in call.keywords]:
        raise _Refused(call, None)
    return _mapping([(keyword.arg, keyword.value) for keyword in call.keywords], call)


def _value(node: ast.expr) -> object:
    match node:
        case ast.Constant(value=int()) if abs(node.value) > MAX_LITERAL_NUMBER:
            raise _Refused(node, "no number in a genotype is so large")
        case ast.Constant(value=str()):
            return node.value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # JSON writes some letters as two
        case ast.Constant(value=int() | float() | None):
            return node.value
        case ast.Name(id="null"):
            return None
        case ast.List() | ast.Tuple():
            return list(map(_value, node.elts))
        case ast.Dict() if None not in node.keys:
            return _mapping([(str(_value(key)), value) for key, value in zip(node.keys, node.values, strict=True)], node)
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[ast.Call() | ast.List() | ast.Tuple() as items], keywords=[]):
            return _value(items)
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int()), ast.Constant(value=int())], keywords=[]):
            first, end = map(_value, node.args)
            if end - first > MAX_RANGE_NUMBERS:
                raise _Refused(node, f"range({first}, {end}): no cell has so many nodes")
            return list(range(first, end))
    raise _Refused(node, None)


def _mapping(items: list[tuple[str, ast.expr]], node: ast.expr) -> dict:
    mapping: dict[str, object] = {}
    for key, value in items:
        if key in mapping:
            raise _Refused(node, f"{reprlib.repr(key)}: this key is given twice")
        mapping[key] = _value(value)
    return mapping


# ---- plain data


def holds_cells(data: object) -> bool:
    """Whether plain data are a genotype in some notation, perhaps with mistakes."""
    if isinstance(data, list):
        return len(data) == 2 and all(_is_indices(cell) for cell in data)
    if not isinstance(data, dict):
        return False
    cells = [data[name] for name in ("normal", "reduce", "reduction", "recurrent") if name in data]
    own = "domain" in data and (bool(cells) or data["domain"] in ("cnn", "rnn"))
    return own or any(map(_names_operations, cells)) or any(_NNI_KEY.fullmatch(str(key)) for key in data)


def _is_indices(cell: object) -> bool:
    return (
        isinstance(cell, list)
        and cell != []
        and all(isinstance(edge, list) and len(edge) == 2 for edge in cell)
        and (all(type(number) is int for edge in cell for number in edge))
    )


def _names_operations(edges: object) -> bool:
    """Whether a text comes first in nested lists; the weights of a search are numbers."""
    while isinstance(edges, list) and edges:
        edges = edges[0]
    return isinstance(edges, str)


def plain(value: object) -> dict:
    """The plain form of a genotype, of plain data in any of the notations. Raises DartsError."""
    if isinstance(value, list):
        return Genotype.from_tuples(value).to_dict()
    if not isinstance(value, dict):
        raise DartsError(f"{reprlib.repr(value)}: holds no genotype in a known notation; write {NOTATIONS}")
    if not holds_cells(value) and isinstance(value.get("genotype"), dict):
        return plain(value["genotype"])
    if "domain" in value:
        return value
    if any(_NNI_KEY.fullmatch(key) for key in value):
        return _from_nni(value)
    return _from_fields(value)


def _from_fields(value: dict) -> dict:
    """The plain form, of the fields of the original's literal."""
    domain = "rnn" if "recurrent" in value else "cnn"
    space = default(domain)
    fields = FIELDS[space.macro]
    known = {*fields, *fields.values()}
    if not any(SPELLED_OUT.get(key, key) in known for key in value):
        raise DartsError(f"{reprlib.repr(value)}: holds no genotype in a known notation; write {NOTATIONS}")
    named: dict[str, object] = {}
    for key, content in value.items():
        name = SPELLED_OUT.get(key, key)
        if content is not None and name in named:
            raise DartsError(f"{reprlib.repr(key)}: this key is given twice, the other time as {name}")
        if content is not None and name not in known:
            raise DartsError(f"{reprlib.repr(key)}: unknown key; the fields of a genotype are {', '.join(sorted(known))}")
        if content is not None:
            named[name] = content
    plain: dict[str, object] = {"domain": domain}
    for name, concat in fields.items():
        if name in named:
            edges, joined = named[name], named.get(concat)
            if isinstance(edges, list) and edges and all(map(_names_its_node, edges)):
                nodes, joined = _by_node(edges, joined, space.inputs)
            else:
                nodes = _nodes(name, edges, space.macro)
                if joined is not None and _is_flat(edges):
                    _check_split(name, nodes, joined, space.inputs)
            plain[name] = {"nodes": nodes, "concat": list(space.states(len(nodes))) if joined is None else joined}
    return plain


def _nodes(cell: str, edges: object, macro: str) -> list:
    """The edges of a cell by node, from a flat list or from one list per node. A weight, an edge's third number, is dropped."""
    per_node = PER_NODE[macro]
    if not isinstance(edges, list) or not edges:
        raise DartsError(f"{cell}: must be a list of edges ('operation', input), not {reprlib.repr(edges)}")
    if _is_flat(edges):
        if len(edges) % per_node:
            raise DartsError(f"{cell}: {len(edges)} edges cannot be {per_node} per node; write one list of edges per node")
        edges = [edges[i : i + per_node] for i in range(0, len(edges), per_node)]
    return [[_edge(edge) for edge in node] if isinstance(node, list) else node for node in edges]


def _is_flat(edges: list) -> bool:
    """Whether a list has edges, not one list of edges per node."""
    return isinstance(edges[0], list) and edges[0] != [] and isinstance(edges[0][0], str)


def unused_states(nodes: list, concat: object, inputs: int) -> list[int]:
    """The states of nodes that neither the output joins nor a node uses."""
    used = [edge[1] for node in nodes for edge in node if isinstance(edge, list | tuple) and len(edge) == 2]
    used += concat if isinstance(concat, list | tuple) else []
    return [state for state in range(inputs, inputs + len(nodes)) if state not in used]


def _check_split(cell: str, nodes: list, concat: object, inputs: int) -> None:
    """Refuse nodes of a flat list that nothing uses: then it has another number of edges per node."""
    unused = unused_states(nodes, concat, inputs)
    if unused:
        per_node = len(nodes[0])
        raise DartsError(
            f"{cell}: {len(nodes) * per_node} edges in one list are {len(nodes)} nodes of {per_node}, but neither the output "
            f"nor a node uses state {unused[0]} then; write one list of edges per node: [[('operation', input), ...], ...]"
        )


def _names_its_node(edge: object) -> bool:
    return isinstance(edge, list) and [*map(type, edge)] == [str, int, int]


def _by_node(edges: list, concat: list | None, inputs: int) -> tuple[list, list]:
    """Nodes and concat of FairDARTS' edges [operation, node, input]; as there, a node without edges does not exist."""
    number = dict(enumerate(range(inputs)))  # of the states that exist, anew
    nodes: list[list] = []
    for node in sorted({to for _, to, _ in edges}):
        arriving = [[op, number[state]] for op, to, state in edges if to == node and state in number and state < node]
        if arriving:
            number[node] = inputs + len(nodes)
            nodes.append(arriving)
    states = [*number][inputs:] if concat is None else concat
    return nodes, [number[state] for state in states if state in number]


def _edge(edge: object) -> object:
    weighted = isinstance(edge, list) and len(edge) == 3 and isinstance(edge[2], float)
    return edge[:2] if weighted else edge


def _from_nni(value: dict) -> dict:
    cells: dict[str, dict] = {"normal": {}, "reduce": {}}
    for key, content in value.items():
        match = _NNI_KEY.fullmatch(key)
        if match:
            cell, kind, state, edge = match.groups()
            single = content[0] if isinstance(content, list) and len(content) == 1 else content
            cells[cell].setdefault(int(state), {}).setdefault(int(edge), {})[kind] = single
    plain: dict[str, object] = {"domain": "cnn"}
    for name, nodes in cells.items():
        if sorted(nodes) != list(default("cnn").states(len(nodes))):
            raise DartsError(f"{name}: nodes are missing among the keys {name}/op_NODE_EDGE, where NODE starts at 2")
        edges = [[[edge.get("op"), edge.get("input")] for _, edge in sorted(nodes[i].items())] for i in sorted(nodes)]
        plain[name] = {"nodes": edges, "concat": sorted(nodes)}
    return plain
