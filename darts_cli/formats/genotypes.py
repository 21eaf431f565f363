"""The forms in which genotypes are written down, here and elsewhere, read and printed. Nothing that is read is evaluated.

    yaml      the genotype files of this program
    python    the original's literal: Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=...)
    dict      its fields as a mapping: {"normal": [["sep_conv_3x3", 1], ...], "normal_concat": [2, 3, 4, 5], "reduce": ...}
    tuples    the encoding of BANANAS: ([(1, 4), ...], [...]), each edge as (input, index of the operation)
    string    the nodes of NAS-Bench-201's strings, a line a cell: normal |sep_conv_3x3~1|sep_conv_3x3~0|+|...|

Of the literals these variants are read too: a list for each node, a third number (its weight) in an edge, any list as concat, a
literal in quotes, `NAME = ` in front, and NNI's mapping {"normal/op_2_0": "sep_conv_3x3", "normal/input_2_0": 1, ...}.
"""

import ast
import json
import re
import reprlib
import warnings

from darts_cli import DartsError, files
from darts_cli.genotype import Genotype
from darts_cli.spaces import SPACES

LONGEST = 1 << 16  # characters of a literal; a genotype has some hundreds
LARGEST = 1 << 20  # number in one
FIELDS = {
    "cnn": {"normal": "normal_concat", "reduce": "reduce_concat"},
    "rnn": {"recurrent": "concat"},
}  # the cells in the original's literal, each with its concat
KNOWN = "YAML with the key domain, Genotype(...), its fields as a mapping, BANANAS' tuples, or |op~input|...| a node"
_STRING_EDGE = re.compile(r"([a-z0-9_]+)~(\d{1,4})", re.ASCII)
_NNI_KEY = re.compile(r"(?:.*/)?(normal|reduce)/(op|input)_(\d{1,4})_([01])", re.ASCII)


def parse(text: str, place: str) -> Genotype:
    """The genotype that a text holds in any of the forms, which is detected. `place` says where the text is from.

    Raises DartsError, beginning with the place, when it holds none.
    """
    text = re.sub(r"^\ufeff?(\d\d/\d\d \d\d:\d\d:\d\d [AP]M )?", "", text)  # a byte-order mark, the time in the original's logs
    try:
        if re.search(r"(^|[{,])\s*[\"']?domain[\"']?\s*:", text, re.MULTILINE):
            return Genotype.from_dict(files.parse_yaml(text, place))
        if re.match(r"\s*(\w+\s*[:=]?\s*)?\|", text):
            return _from_string(text)
        return _from_literal(text)
    except DartsError as error:
        raise DartsError(str(error) if str(error).startswith(f"{place}:") else f"{place}: {error}") from None


def to_python(genotype: Genotype) -> str:
    """The original's literal."""
    parts = []
    for name, concat in FIELDS[genotype.domain].items():
        cell = genotype.cells[name]
        parts.append(f"{name}={[tuple(edge) for node in cell.nodes for edge in node]}")
        states = list(cell.concat)
        run = range(states[0], states[0] + len(states))
        parts.append(f"{concat}={run if states == list(run) else states}")
    return f"Genotype({', '.join(parts)})\n"


def to_dict(genotype: Genotype) -> str:
    """The literal's fields as JSON, which is Python as well."""
    fields = {}
    for name, concat in FIELDS[genotype.domain].items():
        fields[name] = [list(edge) for node in genotype.cells[name].nodes for edge in node]
        fields[concat] = list(genotype.cells[name].concat)
    return json.dumps(fields) + "\n"


def to_tuples(genotype: Genotype) -> str:
    """BANANAS' encoding. Raises DartsError when it cannot express these cells."""
    return f"{tuple(genotype.to_tuples())}\n"


def to_string(genotype: Genotype) -> str:
    """NAS-Bench-201's way to write nodes, a line a cell. Raises DartsError when a node is left out of a cell's output."""
    lines = []
    for name, cell in genotype.cells.items():
        if cell.concat != _all(genotype.domain, len(cell.nodes)):
            raise DartsError(f"{name}: the string form expresses cells whose output joins all nodes; use --to dict")
        lines.append(f"{name} " + "+".join("|" + "".join(f"{op}~{state}|" for op, state in node) for node in cell.nodes))
    return "\n".join(lines) + "\n"


WRITERS = {"yaml": Genotype.to_yaml, "python": to_python, "dict": to_dict, "tuples": to_tuples, "string": to_string}


def _all(domain: str, nodes: int) -> tuple[int, ...]:
    first = SPACES[domain].inputs
    return tuple(range(first, first + nodes))


# ---- strings


def _from_string(text: str) -> Genotype:
    lines = [re.fullmatch(r"\s*([a-z]*)[\s:=]*(\|.*\|)\s*", line) for line in text.splitlines() if line.strip()]
    if not all(lines):
        raise DartsError("a line of the string form is a cell's name and its nodes, such as normal |skip_connect~0|...|+|...|")
    cells = [[_STRING_EDGE.findall(node) for node in line[2].split("+")] for line in lines]
    domain = "rnn" if len(cells) == 1 and all(len(node) == 1 for node in cells[0]) else "cnn"
    names = [line[1] or name for line, name in zip(lines, SPACES[domain].cells, strict=False)]
    if sorted(names) != sorted(SPACES[domain].cells) or len(lines) != len(names):
        raise DartsError(f"in the domain {domain} there is one line for each of {', '.join(SPACES[domain].cells)}")
    for line, cell in zip(lines, cells, strict=True):
        again = "+".join("|" + "".join(f"{op}~{state}|" for op, state in node) for node in cell)
        if again != line[2]:
            raise DartsError(f"{reprlib.repr(line[2])}: must be nodes joined by +, each written |operation~input|...|")
    plain = {
        name: {"nodes": [[[op, int(state)] for op, state in node] for node in cell], "concat": list(_all(domain, len(cell)))}
        for name, cell in zip(names, cells, strict=True)
    }
    return Genotype.from_dict({"domain": domain} | plain)


# ---- literals


def _from_literal(text: str) -> Genotype:
    if len(text) > LONGEST:
        raise DartsError(f"{len(text):,} characters, but of a literal at most {LONGEST:,} are read")
    bare = text.strip().removesuffix(",")
    above, _, before = text[: text.index(bare)].rpartition("\n")  # what stands before it in the text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes and the like
            statements = ast.parse(bare).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise DartsError(f"holds no genotype in a form that is known: {KNOWN}") from None
    if len(statements) != 1 or not isinstance(statements[0], ast.Expr | ast.Assign):
        raise DartsError(f"must hold one genotype and nothing else: {KNOWN}")
    try:
        value, name = _read(statements[0])
    except _Refused as refused:
        (node,) = refused.args
        source = ast.get_source_segment(bare, node)
        line = node.lineno + above.count("\n") + (above != "" or text.startswith("\n"))
        column = node.col_offset + 1 + (len(before) if node.lineno == 1 else 0)
        raise DartsError(
            f"line {line}, column {column}: {reprlib.repr(source)} is not read; a genotype is made of "
            "lists, text and numbers, Genotype(keyword=...) around it and range(a, b)"
        ) from None
    if isinstance(value, str):
        return parse(value, "the text in quotes")
    genotype = _from_value(value)
    return Genotype(genotype.domain, genotype.cells, name=name)


class _Refused(Exception):
    """A part of a literal that is not read."""


def _read(statement: ast.Expr | ast.Assign) -> tuple[object, str | None]:
    """The plain value of a literal, and the name it is given."""
    name = None
    if isinstance(statement, ast.Assign):
        if len(statement.targets) != 1 or not isinstance(statement.targets[0], ast.Name):
            raise _Refused(statement)
        name = statement.targets[0].id
    expression = statement.value
    value = _fields(expression) if isinstance(expression, ast.Call) else _value(expression)
    return value, name


def _fields(call: ast.Call) -> dict:
    """The keywords of the outer Genotype(...)."""
    if not isinstance(call.func, ast.Name) or call.func.id != "Genotype" or call.args or None in [k.arg for k in call.keywords]:
        raise _Refused(call)
    return {keyword.arg: _value(keyword.value) for keyword in call.keywords}


def _value(node: ast.expr) -> object:
    match node:
        case ast.Constant(value=int()) if abs(node.value) > LARGEST:
            raise DartsError(f"line {node.lineno}, column {node.col_offset + 1}: no number in a genotype is so large")
        case ast.Constant(value=str() | int() | float() | None):
            return node.value
        case ast.List() | ast.Tuple():
            return [_value(each) for each in node.elts]
        case ast.Dict() if None not in node.keys:
            keys = [str(_value(key)) for key in node.keys]
            for key in keys:
                if keys.count(key) > 1:
                    raise DartsError(f"{reprlib.repr(key)}: this key is given twice")
            return {key: _value(value) for key, value in zip(keys, node.values, strict=True)}
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int()), ast.Constant(value=int())], keywords=[]):
            first, last = map(_value, node.args)
            if last - first > 1000:
                raise DartsError(f"range({first}, {last}): no cell has so many nodes")
            return list(range(first, last))
    raise _Refused(node)


def _from_value(value: object) -> Genotype:
    if isinstance(value, list):
        return Genotype.from_tuples(value)
    if not isinstance(value, dict):
        raise DartsError(f"{reprlib.repr(value)}: holds no genotype in a form that is known: {KNOWN}")
    if any(_NNI_KEY.fullmatch(key) for key in value):
        return Genotype.from_dict(_from_nni(value))
    domain = "rnn" if "recurrent" in value else "cnn"
    fields = FIELDS[domain]
    known = {*fields, *fields.values()}
    for key in value:
        if key not in known and value[key] is not None:
            raise DartsError(f"{reprlib.repr(key)}: unknown key; the fields of a genotype are {', '.join(sorted(known))}")
    plain: dict[str, object] = {"domain": domain}
    for name, concat in fields.items():
        if name in value:
            nodes = _nodes(name, value[name], SPACES[domain].edges)
            joined = value.get(concat)
            plain[name] = {"nodes": nodes, "concat": list(_all(domain, len(nodes))) if joined is None else joined}
    return Genotype.from_dict(plain)


def _nodes(place: str, edges: object, per_node: int) -> list:
    """The edges of a cell by node: given flat, or by node already; an edge's third number, its weight, is dropped."""
    if not isinstance(edges, list) or not edges:
        raise DartsError(f"{place}: must be a list of edges ('operation', input), not {reprlib.repr(edges)}")
    if isinstance(edges[0], list) and edges[0] and isinstance(edges[0][0], str):
        if len(edges) % per_node:
            raise DartsError(f"{place}: {len(edges)} edges cannot be {per_node} for each node")
        edges = [edges[i : i + per_node] for i in range(0, len(edges), per_node)]
    return [[_edge(edge) for edge in node] if isinstance(node, list) else node for node in edges]


def _edge(edge: object) -> object:
    weighted = isinstance(edge, list) and len(edge) == 3 and isinstance(edge[2], float)
    return edge[:2] if weighted else edge


def _from_nni(value: dict) -> dict:
    cells: dict[str, dict] = {"normal": {}, "reduce": {}}
    for key, said in value.items():
        match = _NNI_KEY.fullmatch(key)
        if match:
            cell, kind, state, place = match.groups()
            inner = said[0] if isinstance(said, list) and len(said) == 1 else said
            cells[cell].setdefault(int(state), {}).setdefault(int(place), {})[kind] = inner
    plain: dict[str, object] = {"domain": "cnn"}
    for name, nodes in cells.items():
        if sorted(nodes) != list(_all("cnn", len(nodes))):
            raise DartsError(f"{name}: nodes are missing among the keys {name}/op_NODE_EDGE, which begin with node 2")
        edges = [[[edge.get("op"), edge.get("input")] for _, edge in sorted(nodes[i].items())] for i in sorted(nodes)]
        plain[name] = {"nodes": edges, "concat": sorted(nodes)}
    return plain
