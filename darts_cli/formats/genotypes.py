"""The notations in which people write genotypes, read and printed. Nothing that is read is evaluated.

    yaml      the genotype files of this program
    python    the original's literal: Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=...)
    dict      its fields as a mapping: {"normal": [["sep_conv_3x3", 1], ...], "normal_concat": [2, 3, 4, 5], "reduce": ...}
    tuples    the encoding of BANANAS: ([(1, 4), ...], [...]), each edge as (input, index of the operation)
    string    NAS-Bench-201's: |nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|; other cells have one line each, which begins
              with the name of the cell: normal |sep_conv_3x3~1|sep_conv_3x3~0|+|...|

These variants of the literals are read too: one list per node, a third number in an edge (its weight), FairDARTS' edges
('sep_conv_3x3', node, input), any list as concat, a literal in quotes, `NAME = ` in front, and NNI's mapping
{"normal/op_2_0": "sep_conv_3x3", "normal/input_2_0": 1, ...}.
"""

import ast
import json
import re
import reprlib
import warnings
from dataclasses import replace

from darts_cli import DartsError, files
from darts_cli.genotype import Genotype
from darts_cli.spaces.space import default

MAX_LITERAL_CHARS = 1 << 16  # a genotype has some hundreds
MAX_LITERAL_NUMBER = 1 << 20
MAX_RANGE_NUMBERS = 1000
PER_NODE = {"darts": 2, "darts-rnn": 1}  # edges of a node in a flat list
FIELDS = {
    "darts": {"normal": "normal_concat", "reduce": "reduce_concat"},
    "darts-rnn": {"recurrent": "concat"},
}  # by macro structure, the cells in the original's literal, each with its concat
NOTATIONS = "YAML with the key domain, Genotype(...), its fields as a mapping, BANANAS' tuples, or |op~input|...| per node"
_STRING_EDGE = re.compile(r"([a-z0-9_]+)~(\d{1,4})", re.ASCII)
_NNI_KEY = re.compile(r"(?:.*/)?(normal|reduce)/(op|input)_(\d{1,4})_([01])", re.ASCII)


def parse(text: str, source: str) -> Genotype:
    """The genotype in a text, whose notation is detected; `source` is where the text comes from.

    Raises DartsError, which begins with the source.
    """
    text = re.sub(r"^\ufeff?(\d\d/\d\d \d\d:\d\d:\d\d [AP]M )?", "", text)  # a byte-order mark, the time in the original's logs
    try:
        if re.search(r"(^|[{,])\s*[\"']?domain[\"']?\s*:", text, re.MULTILINE):
            return Genotype.from_dict(files.parse_yaml(text, source))
        if re.match(r"\s*(\w+\s*[:=]?\s*)?\|", text):
            return _from_string(text)
        return _from_literal(text)
    except DartsError as error:
        raise DartsError(str(error) if str(error).startswith(f"{source}:") else f"{source}: {error}") from None


def to_python(genotype: Genotype) -> str:
    """The original's literal, with one list per node where its flat list cannot tell the nodes apart.

    Raises DartsError for cells of NAS-Bench-201.
    """
    parts = []
    for name, concat in _field_names(genotype).items():
        cell = genotype.cells[name]
        parts.append(f"{name}={_flat([[tuple(edge) for edge in node] for node in cell.nodes], genotype.macro)}")
        states = list(cell.concat)
        consecutive = range(states[0], states[0] + len(states))
        parts.append(f"{concat}={consecutive if states == list(consecutive) else states}")
    return f"Genotype({', '.join(parts)})\n"


def to_dict(genotype: Genotype) -> str:
    """The literal's fields as JSON, which is Python as well. Raises DartsError for cells of NAS-Bench-201."""
    fields = {}
    for name, concat in _field_names(genotype).items():
        fields[name] = _flat([[list(edge) for edge in node] for node in genotype.cells[name].nodes], genotype.macro)
        fields[concat] = list(genotype.cells[name].concat)
    return json.dumps(fields) + "\n"


def _field_names(genotype: Genotype) -> dict[str, str]:
    """The fields of the original's literal. Raises DartsError where it has none for such cells."""
    if genotype.macro not in FIELDS:
        raise DartsError(f"this notation has no cells of {genotype.macro}; use --to string or --to yaml for this genotype")
    return FIELDS[genotype.macro]


def _flat(nodes: list[list], macro: str) -> list:
    """All edges in one list, or one list per node where that would not tell which edges are whose."""
    return [edge for node in nodes for edge in node] if all(len(node) == PER_NODE[macro] for node in nodes) else nodes


def to_tuples(genotype: Genotype) -> str:
    """BANANAS' encoding. Raises DartsError when it cannot express these cells."""
    return f"{tuple(genotype.to_tuples())}\n"


def to_string(genotype: Genotype) -> str:
    """NAS-Bench-201's notation; other cells have one line each, and must join all nodes. Raises DartsError."""
    if genotype.macro == "nas-bench-201":
        return _string(genotype.cells["cell"].nodes) + "\n"
    lines = []
    for name, cell in genotype.cells.items():
        if cell.concat != default(genotype.domain).states(len(cell.nodes)):
            raise DartsError(f"{name}: strings express cells whose output joins all nodes; use --to dict for this genotype")
        lines.append(f"{name} {_string(cell.nodes)}")
    return "\n".join(lines) + "\n"


def _string(nodes) -> str:
    return "+".join("|" + "".join(f"{op}~{state}|" for op, state in node) for node in nodes)


WRITERS = {"yaml": Genotype.to_yaml, "python": to_python, "dict": to_dict, "tuples": to_tuples, "string": to_string}


# ---- strings


def _from_string(text: str) -> Genotype:
    lines = [re.fullmatch(r"\s*([a-z]*)[\s:=]*(\|.*\|)\s*", line) for line in text.splitlines() if line.strip()]
    if not all(lines):
        raise DartsError("a line of the string notation is a cell's name and nodes, such as normal |skip_connect~0|...|+|...|")
    cells = [[_STRING_EDGE.findall(node) for node in line[2].split("+")] for line in lines]
    every = [[str(state) for state in range(i)] for i in range(1, len(cells[0]) + 1)]  # NAS-Bench-201: from all earlier states
    if len(lines) == 1 and not lines[0][1] and [[state for _, state in node] for node in cells[0]] == every and len(every) > 1:
        nodes = [[[op, int(state)] for op, state in node] for node in cells[0]]
        return Genotype.from_dict({"domain": "cnn", "space": "nas-bench-201", "cell": {"nodes": nodes, "concat": [len(nodes)]}})
    domain = "rnn" if len(cells) == 1 and all(len(node) == 1 for node in cells[0]) else "cnn"
    space = default(domain)
    names = [line[1] or name for line, name in zip(lines, space.cells, strict=False)]
    if sorted(names) != sorted(space.cells) or len(lines) != len(names):
        raise DartsError(f"in the domain {domain} there must be one line for each of {', '.join(space.cells)}")
    plain = {"domain": domain}
    for name, line, nodes in zip(names, lines, cells, strict=True):
        if _string(nodes) != line[2]:
            raise DartsError(f"{reprlib.repr(line[2])}: must be nodes joined by +, each written |operation~input|...|")
        edges = [[[op, int(state)] for op, state in node] for node in nodes]
        plain[name] = {"nodes": edges, "concat": list(space.states(len(nodes)))}
    return Genotype.from_dict(plain)


# ---- literals


def _from_literal(text: str) -> Genotype:
    if len(text) > MAX_LITERAL_CHARS:
        raise DartsError(f"{len(text):,} characters, but a literal may have {MAX_LITERAL_CHARS:,} at most")
    bare = text.strip().removesuffix(",")
    above, _, before = text[: text.index(bare)].rpartition("\n")  # the text before the literal
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes and the like
            statements = ast.parse(bare).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise DartsError(f"holds no genotype in a known notation: {NOTATIONS}") from None
    if len(statements) != 1 or not isinstance(statements[0], ast.Expr | ast.Assign):
        raise DartsError(f"must hold one genotype and nothing else: {NOTATIONS}")
    try:
        value, name = _read(statements[0])
    except _Refused as refused:
        (node,) = refused.args
        code = ast.get_source_segment(bare, node)
        line = node.lineno + above.count("\n") + (above != "" or text.startswith("\n"))
        column = node.col_offset + 1 + (len(before) if node.lineno == 1 else 0)
        raise DartsError(
            f"line {line}, column {column}: {reprlib.repr(code)} is not allowed; a genotype is made of "
            "lists, text and numbers, Genotype(keyword=...) around them and range(a, b)"
        ) from None
    if isinstance(value, str):
        return parse(value, "the text in quotes")
    if isinstance(value, list):
        return replace(Genotype.from_tuples(value), name=name)
    return Genotype.from_dict(_plain(value) | {"name": name})


class _Refused(Exception):
    """A part of a literal that is not allowed."""


def _read(statement: ast.Expr | ast.Assign) -> tuple[object, str | None]:
    """The plain value of a literal, and the name that it is assigned to."""
    name = None
    if isinstance(statement, ast.Assign):
        if len(statement.targets) != 1 or not isinstance(statement.targets[0], ast.Name):
            raise _Refused(statement)
        name = statement.targets[0].id
    expression = statement.value
    return (_fields(expression) if isinstance(expression, ast.Call) else _value(expression)), name


def _fields(call: ast.Call) -> dict:
    """The keywords of the outer Genotype(...)."""
    if not isinstance(call.func, ast.Name) or call.func.id != "Genotype" or call.args or None in [k.arg for k in call.keywords]:
        raise _Refused(call)
    return {keyword.arg: _value(keyword.value) for keyword in call.keywords}


def _value(node: ast.expr) -> object:
    match node:
        case ast.Constant(value=int()) if abs(node.value) > MAX_LITERAL_NUMBER:
            raise DartsError(f"line {node.lineno}, column {node.col_offset + 1}: no number in a genotype is so large")
        case ast.Constant(value=str() | int() | float() | None):
            return node.value
        case ast.List() | ast.Tuple():
            return list(map(_value, node.elts))
        case ast.Dict() if None not in node.keys:
            keys = [str(_value(key)) for key in node.keys]
            for key in keys:
                if keys.count(key) > 1:
                    raise DartsError(f"{reprlib.repr(key)}: this key is given twice")
            return {key: _value(value) for key, value in zip(keys, node.values, strict=True)}
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int()), ast.Constant(value=int())], keywords=[]):
            first, end = map(_value, node.args)
            if end - first > MAX_RANGE_NUMBERS:
                raise DartsError(f"range({first}, {end}): no cell has so many nodes")
            return list(range(first, end))
    raise _Refused(node)


def _plain(value: object) -> dict:
    """The plain form of a genotype, of the fields of a literal or of NNI's mapping."""
    if not isinstance(value, dict):
        raise DartsError(f"{reprlib.repr(value)}: holds no genotype in a known notation: {NOTATIONS}")
    if any(_NNI_KEY.fullmatch(key) for key in value):
        return _from_nni(value)
    domain = "rnn" if "recurrent" in value else "cnn"
    space = default(domain)
    fields = FIELDS[space.macro]
    known = {*fields, *fields.values()}
    for key in value:
        if key not in known and value[key] is not None:
            raise DartsError(f"{reprlib.repr(key)}: unknown key; the fields of a genotype are {', '.join(sorted(known))}")
    plain: dict[str, object] = {"domain": domain}
    for name, concat in fields.items():
        if name in value:
            edges, joined = value[name], value.get(concat)
            if isinstance(edges, list) and edges and all(map(_names_its_node, edges)):
                nodes, joined = _by_node(edges, joined, space.inputs)
            else:
                nodes = _nodes(name, edges, space.macro)
            plain[name] = {"nodes": nodes, "concat": list(space.states(len(nodes))) if joined is None else joined}
    return plain


def _nodes(cell: str, edges: object, macro: str) -> list:
    """The edges of a cell by node, from a flat list or from one list per node. A weight, an edge's third number, is dropped."""
    per_node = PER_NODE[macro]
    if not isinstance(edges, list) or not edges:
        raise DartsError(f"{cell}: must be a list of edges ('operation', input), not {reprlib.repr(edges)}")
    if isinstance(edges[0], list) and edges[0] and isinstance(edges[0][0], str):
        if len(edges) % per_node:
            raise DartsError(f"{cell}: {len(edges)} edges cannot be {per_node} per node")
        edges = [edges[i : i + per_node] for i in range(0, len(edges), per_node)]
    return [[_edge(edge) for edge in node] if isinstance(node, list) else node for node in edges]


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
