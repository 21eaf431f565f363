"""The notations in which people write genotypes, read and printed. Nothing that is read is evaluated.

    yaml      the genotype files of this program
    python    the original's literal: Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=...)
    dict      its fields as a mapping: {"normal": [["sep_conv_3x3", 1], ...], "normal_concat": [2, 3, 4, 5], "reduce": ...}
    tuples    the encoding of BANANAS: ([(1, 4), ...], [...]), each edge as (input, index of the operation)
    string    NAS-Bench-201's: |nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|; other cells have one line each, which begins
              with the name of the cell: normal |sep_conv_3x3~1|sep_conv_3x3~0|+|...|

`formats/finding.py` finds them in a text, `formats/literals.py` and `formats/strings.py` understand them.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from darts_cli import DartsError, files
from darts_cli import genotype as genotypes
from darts_cli.formats import literals, strings
from darts_cli.formats.finding import MAX_LITERAL_CHARS, Passage, find
from darts_cli.formats.literals import FIELDS, NOTATIONS, PER_NODE, unused_states
from darts_cli.formats.strings import to_string
from darts_cli.genotype import Cell, Genotype, checked, is_name
from darts_cli.spaces.rules import genotype_problems
from darts_cli.spaces.space import MACROS, default
from darts_cli.text import counted, hint, meant

MAX_TEXT_BYTES = 1 << 24  # of a log
MAX_NAMES_SHOWN = 20
GIVEN = "the given text"  # the source of a genotype that is written on the command line


# ---- reading


def load(spelling: str | Path, domain: str | None = None, name: str | None = None) -> Genotype:
    """The genotype that a command is given: a published name, a run folder, RUN@EPOCH, a file or a text in any notation.

    `name` selects one of the genotypes in a file, and so does FILE:NAME. Remarks go to stderr. Raises DartsError with file,
    place, rule and remedy.
    """
    written = text_of(str(spelling))
    if written is None:
        if name is not None:
            raise DartsError(f"--name {name}: {spelling} is not a file with several genotypes; leave --name out", exit_code=2)
        return genotypes.load(spelling, domain)
    text, source, part = written
    genotype, remarks = read(text, source, name or part, domain)
    for remark in remarks:
        hint(f"{source}: {remark}")
    return genotype


def text_of(spelling: str) -> tuple[str, str, str | None] | None:
    """The text in which a genotype is given, its source, and the name that is chosen in it; - is stdin.

    None for a published name, for a run, and where there is neither a file nor a genotype in the spelling. Raises DartsError
    for a file that cannot be read.
    """
    if is_name(spelling):
        return None
    before, _, after = spelling.rpartition(":")
    for path, name in ((spelling, None), (before, after)):
        if path == "-":
            return files.read_stream(sys.stdin.buffer, "stdin"), "stdin", name
        if files.is_file(path):
            return files.read_text(path, MAX_TEXT_BYTES), path, name
    return None if os.path.lexists(spelling) or not find(spelling) else (spelling, GIVEN, None)


def parse(text: str, source: str, name: str | None = None) -> Genotype:
    """The genotype in a text: the one with that name, or the last of a log.

    `source` is where the text comes from. Raises DartsError, which begins with the source.
    """
    return read(text, source, name)[0]


def read(text: str, source: str, name: str | None = None, domain: str | None = None) -> tuple[Genotype, list[str]]:
    """The same, with what is worth a remark. Raises DartsError also when the genotype is not of the domain."""
    passages = _passages(text, source)
    passage = _chosen(passages, text, source, name)
    where = f"{source}: line {passage.line}" if len(passages) > 1 else source
    genotype = checked(_understood(passage, source, where), where, domain)
    remarks = _about_indices(genotype) if _is_tuples(passage) else []
    if len(passages) > 1 and name is None:
        remarks.append(f"holds {len(passages):,} genotypes; the last, on line {passage.line}, is read")
    return genotype, remarks


def problems(text: str, source: str, name: str | None = None) -> list[str]:
    """Everything that is wrong with the genotypes in a text, or with the one of that name; each line begins with the source."""
    try:
        passages = _passages(text, source)
        passages = passages if name is None else [_chosen(passages, text, source, name)]
    except DartsError as error:
        return [str(error)]
    messages = []
    for passage in passages:
        where = f"{source}: line {passage.line}" if len(passages) > 1 else source
        try:
            messages += [f"{where}: {problem}" for problem in genotype_problems(_understood(passage, source, where))]
        except DartsError as error:
            messages.append(str(error))
    return messages


def _passages(text: str, source: str) -> list[Passage]:
    """The genotypes in a text; what may be meant as one, where there are none. Raises DartsError."""
    found, bare = find(text), text.strip().removeprefix("\ufeff").removesuffix(",")
    if found and any(passage.kind != "cut" for passage in found):
        return found
    if source.endswith((".yaml", ".yml")):
        return [Passage("yaml", text)]
    if bare[:1] in ("(", "[", "{", '"', "'"):
        before, _, same_line = text[: text.index(bare)].rpartition("\n")
        line = 1 + before.count("\n") + text.startswith("\n", len(before))
        return [Passage("literal", bare, None, line, 1 + len(same_line))]
    if found:
        return found
    raise DartsError(f"{source}: holds no genotype in a known notation; write {NOTATIONS}")


def _chosen(passages: Sequence[Passage], text: str, source: str, name: str | None) -> Passage:
    """The passage with that name or number. Without either: the only one, or the last of a log, where names do not differ."""
    known = list(dict.fromkeys(passage.name for passage in passages if passage.name))
    documents = len(passages) > 1 and all(passage.kind == "yaml" for passage in passages)
    if name is None and len(known) < 2 and not documents:
        return passages[-1]
    numbered = known if len(known) > 1 or not documents else [str(i) for i in range(1, len(passages) + 1)]
    shown = ", ".join(numbered[:MAX_NAMES_SHOWN]) + (", ..." if len(numbered) > MAX_NAMES_SHOWN else "")
    if name is None:
        example = f"{source}:{numbered[0]}" if files.is_file(source) else f"--name {numbered[0]}"
        raise DartsError(f"{source}: holds {len(passages):,} genotypes: {shown}; choose one, such as {example}")
    original = _aliases(text).get(name, name)
    for same in (lambda other: other == original, lambda other: other.lower() == original.lower()):
        with_name = [passage for passage in passages if passage.name and same(passage.name)]
        if with_name:
            return with_name[-1]
    if name.isdecimal() and 1 <= int(name[:9]) <= len(passages):
        return passages[int(name[:9]) - 1]
    there = f"it holds {shown}" if numbered else f"it holds {counted(len(passages), 'genotype')} without a name; leave it out"
    raise DartsError(f"{source}: no genotype of the name {name[:80]}{meant(name, known)}; {there}")


def _aliases(text: str) -> dict[str, str]:
    """The names that a Python file gives to others, as in DARTS = DARTS_V2."""
    return dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(\w+)[ \t]*$", text, re.MULTILINE))


def _understood(passage: Passage, source: str, where: str) -> object:
    """The plain form that a passage stands for, which may break rules.

    Raises DartsError, which begins with the source and, if it says no place itself, with `where`.
    """
    try:
        data = _plain(passage, source)
    except DartsError as error:
        if str(error).startswith(f"{source}:"):
            raise
        raise DartsError(f"{source if str(error).startswith('line ') else where}: {error}") from None
    return {"name": passage.name} | data if passage.name and isinstance(data, dict) else data


def _plain(passage: Passage, source: str) -> object:
    match passage.kind:
        case "cut":
            raise DartsError(f"line {passage.line}: a bracket of this genotype is never closed; add what follows it")
        case "yaml":
            if len(passage.content) > files.MAX_BYTES:
                raise DartsError(f"{len(passage.content):,} characters of YAML, but at most {files.MAX_BYTES:,} are read")
            return files.parse_yaml("\n" * (passage.line - 1) + passage.content, source)
        case "strings":
            return strings.plain(passage.content)
        case "literal":
            if len(passage.content) > MAX_LITERAL_CHARS:
                raise DartsError(f"{len(passage.content):,} characters, but a literal may have {MAX_LITERAL_CHARS:,} at most")
            return literals.plain(literals.value_of(passage.content, passage.line, passage.column))
        case _:
            return literals.plain(passage.content)


def _is_tuples(passage: Passage) -> bool:
    content = passage.content
    return content[:1] in ("(", "[") if passage.kind == "literal" else passage.kind == "data" and isinstance(content, list)


def _about_indices(genotype: Genotype) -> list[str]:
    """The remark on tuples whose numbers of operations suggest that they are counted without `none`."""
    first, *others = operations = default("cnn").operations
    used = {edge.op for cell in genotype.cells.values() for node in cell.nodes for edge in node}
    if first not in used and others[-1] in used:
        return []
    order = ", ".join(f"{i} {op}" for i, op in enumerate(operations))
    return [f"operations are numbered as in BANANAS: {order}; where {first} is left out, as in NASLib, all numbers are 1 lower"]


# ---- writing


def to_python(genotype: Genotype) -> str:
    """The original's literal, with one list per node where its flat list cannot tell the nodes apart.

    Raises DartsError for cells of NAS-Bench-201.
    """
    parts = []
    for name, concat in _field_names(genotype).items():
        cell = genotype.cells[name]
        parts.append(f"{name}={_edges(cell, genotype.macro, tuple)}")
        states = list(cell.concat)
        consecutive = range(states[0], states[0] + len(states))
        parts.append(f"{concat}={consecutive if states == list(consecutive) else states}")
    return f"Genotype({', '.join(parts)})\n"


def to_dict(genotype: Genotype) -> str:
    """The literal's fields as JSON, which is Python as well. Raises DartsError for cells of NAS-Bench-201."""
    fields = {}
    for name, concat in _field_names(genotype).items():
        fields[name] = _edges(genotype.cells[name], genotype.macro, list)
        fields[concat] = list(genotype.cells[name].concat)
    return json.dumps(fields) + "\n"


def _field_names(genotype: Genotype) -> dict[str, str]:
    """The fields of the original's literal. Raises DartsError where it has none for such cells."""
    if genotype.macro not in FIELDS:
        raise DartsError(f"this notation has no cells of {genotype.macro}; use --to string or --to yaml for this genotype")
    return FIELDS[genotype.macro]


def _edges(cell: Cell, macro: str, kind: type) -> list:
    """All edges in one list, or one list per node where that would not tell which edges are whose."""
    nodes = [[kind(edge) for edge in node] for node in cell.nodes]
    flat = all(len(node) == PER_NODE[macro] for node in nodes) and not unused_states(nodes, cell.concat, MACROS[macro].inputs)
    return [edge for node in nodes for edge in node] if flat else nodes


def to_tuples(genotype: Genotype) -> str:
    """BANANAS' encoding. Raises DartsError when it cannot express these cells."""
    return f"{tuple(genotype.to_tuples())}\n"


WRITERS = {"yaml": Genotype.to_yaml, "python": to_python, "dict": to_dict, "tuples": to_tuples, "string": to_string}
