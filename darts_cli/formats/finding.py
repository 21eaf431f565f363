"""Where genotypes stand in a text: in source code, in a log of any format, in JSON, YAML or Markdown.

A text is scanned once, in time linear in its length, and nothing in it is evaluated. What a passage means is for
`formats/literals.py` and `formats/strings.py`.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from darts_cli import DartsError, files
from darts_cli.formats.literals import holds_cells
from darts_cli.formats.strings import half

MAX_LITERAL_CHARS = 1 << 16  # a genotype has some hundreds
MAX_PREFIX_CHARS = 256  # of a line, before a literal, where its name may stand
MAX_DEPTH = 20  # levels of lists and mappings around a genotype
NO_NAMES = {"genotype", "debug", "info", "warning", "error", "critical", "root"}  # what logs write before a genotype
CLOSING = {"(": ")", "[": "]", "{": "}"}

# Keys of a mapping that is a genotype; a mapping of alphas has those of cells too, but with numbers in the lists.
_KEY = (
    r"(?:normal|reduce|reduction|recurrent)\\?[\"']\s*:(?=[\[(\s]*\\?[\"'])"
    r"|domain\\?[\"']\s*:\s*\\?[\"'](?:cnn|rnn)"
    r"|[\w/]*(?:normal|reduce)/(?:op|input)_"
)
_TOKEN = re.compile(
    r"(?P<genotype>\bGenotype\s*\()"
    rf"|[\"'](?P<key>{_KEY})"
    r"|(?P<string>\|[^\s'\"()\[\]{},;]*)"
    r"|(?P<bracket>[()\[\]{}])"
)
_EDGES = re.compile(r"\s*\w+\s*=[\[(\s]*\\?[\"']")  # after Genotype(: a literal, not code that builds a genotype
_INDICES = re.compile(r"[\[(]\s*[\[(]\s*[\[(]\s*\d+\s*,\s*\d+\s*[\])]")  # the beginning of BANANAS' tuples
_LABEL = re.compile(r"\b(normal|reduc(?:e|tion)|recurrent)(?:[ _]cell)?[\s:='\"]*$", re.IGNORECASE)
_NAME = re.compile(r"([\s#>*/`-]*)[\"']?([A-Za-z0-9_][\w.-]*)[\"']?\s*(:\s*[\w.]+\s*=|[:=])\s*[\"'`]*(?:[\w.]+\.)?")
_YAML_KEY = re.compile(r"( *)(?:- )?[\"']?([\w.-]+)[\"']?:(?: |$)")
_DOCUMENT = re.compile(r"^domain[ \t]*:", re.MULTILINE)
_DOCUMENT_NAME = re.compile(r"^name:(.*)$", re.MULTILINE)
_SEPARATOR = re.compile(r"^(?:---(?:[ \t].*)?|```.*)$", re.MULTILINE)  # of YAML documents; a Markdown fence
_JSON_KEY = re.compile(r'"(?:genotype|domain|normal|reduc|recurrent)')
_YAML = re.compile(r"(?:^|[{,])[ \t]*[\"']?(?:domain|normal|recurrent)[\"']?[ \t]*:", re.MULTILINE)


@dataclass(frozen=True)
class Passage:
    """A genotype in a text.

    kind      "yaml", "literal", "data" (read already), "strings", or "cut" (a bracket is never closed)
    content   its text; of "data" plain data, of "strings" pairs of a cell's name, or None, and its string
    name      that it is assigned to, if any
    line      where it begins, counted from 1, and so is the column
    """

    kind: str
    content: object
    name: str | None = None
    line: int = 1
    column: int = 1


def find(text: str) -> list[Passage]:
    """The genotypes in a text, in their order. Of several kinds only the surest is taken."""
    text = text.removeprefix("\ufeff")
    return _json(text) or _documents(text) or _scan(text) or _yaml(text)


# ---- data


def _json(text: str) -> list[Passage]:
    """Those in a JSON text, or in the lines of a log that are JSON."""
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return []
    passages = _in_json(text, 1)
    if not passages and "\n" in text.strip():
        for number, line in enumerate(text.split("\n"), 1):
            passages += _in_json(line, number) if line.startswith("{") and _JSON_KEY.search(line) else []
    return passages


def _in_json(text: str, line: int) -> list[Passage]:
    with contextlib.suppress(ValueError, RecursionError):
        return list(_in_data(json.loads(text, object_pairs_hook=_once), None, line, set()))
    return []


def _once(pairs: list[tuple[str, object]]) -> dict:
    """A JSON object. Raises ValueError for a key that is given twice: `literals` then reports it."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return dict(pairs)


def _in_data(data: object, name: str | None, line: int, seen: set[int], depth: int = 0) -> Iterator[Passage]:
    """Those in plain data; `seen` has the parts that need not be looked at again."""
    if isinstance(data, str):
        yield from (replace(passage, name=passage.name or name, line=line) for passage in _scan(data) or _quoted(data))
    elif holds_cells(data):
        yield Passage("data", data, name, line)
    elif isinstance(data, dict | list) and id(data) not in seen and depth < MAX_DEPTH:
        seen.add(id(data))
        for key, value in data.items() if isinstance(data, dict) else ((name, value) for value in data):
            path = ".".join(filter(None, (name, str(key)))) if isinstance(data, dict) and _is_name(str(key)) else name
            yield from _in_data(value, path, line, seen, depth + 1)


def _quoted(text: str) -> list[Passage]:
    """Those in a text that was itself written as JSON."""
    return _in_json(text, 1) if text[:1] == "{" else []


def _documents(text: str) -> list[Passage]:
    """The genotype files in a text: one, a stream of them, or in Markdown fences."""
    if not _DOCUMENT.search(text):
        return []
    passages, line = [], 1
    separators = [match.span() for match in _SEPARATOR.finditer(text)]
    for (_, start), (end, following) in pairwise([(0, 0), *separators, (len(text), len(text))]):
        document = text[start:end]
        if _DOCUMENT.search(document):
            name = _DOCUMENT_NAME.search(document)
            passages.append(Passage("yaml", document, name and name[1].strip().strip("\"'"), line))
        line += text.count("\n", start, following)
    return passages


def _yaml(text: str) -> list[Passage]:
    """Those in other YAML, such as the cells of a run's config.yaml."""
    if len(text) > files.MAX_BYTES or not _YAML.search(text):
        return []
    with contextlib.suppress(DartsError):
        data = files.parse_yaml(text, "")
        passages = list(_in_data(data, None, 1, set())) if isinstance(data, dict | list) else []
        if passages:
            return passages
    return [Passage("yaml", text)] if "domain" in text else []


# ---- text


def _scan(text: str) -> list[Passage]:
    """The literals and strings in any text."""
    spans, stack = _spans(text)
    spans += [(sure, start, None) for sure, start, _ in stack if sure]
    surest = max((sure for sure, *_ in spans), default=0)
    passages, last, line, begin, paths = [], 0, 1, 0, None
    for start, end in sorted((start, end) for sure, start, end in spans if sure == surest):
        line += text.count("\n", last, start)
        begin = max(begin, text.rfind("\n", last, start) + 1)
        last = start
        passage, nested = _passage(text[start:end], end is None, text[max(begin, start - MAX_PREFIX_CHARS) : start])
        if nested:
            paths = _paths(text) if paths is None else paths
            passage = replace(passage, name=paths.get(line, passage.name))
        passages.append(replace(passage, line=line, column=start - begin + 1))
    return _joined(passages)


def _passage(content: str, cut: bool, before: str) -> tuple[Passage, bool]:
    """The passage with that content, and whether its name is a key of YAML below others.

    `before` is what stands before it on its line.
    """
    match = _NAME.fullmatch(before)
    name = match[2] if match and _is_name(match[2]) else None
    nested = name is not None and match[3] == ":" and match[1].isspace()
    if cut:
        return Passage("cut", "", name), nested
    if content.startswith("|"):
        cell = _LABEL.search(before)
        string = (cell and cell[1].lower().replace("reduction", "reduce"), content)
        return Passage("strings", [string], None if cell else name), nested and not cell
    if before.lstrip()[:1] in ("#", ">", "*", "/"):
        content = re.sub(r"\n[ \t]*[#>*/]+", "\n", content)  # the following lines are commented too
    return Passage("literal", content, name), nested


def _spans(text: str) -> tuple[list[tuple[int, int, int | None]], list[tuple[int, int, str]]]:
    """(how sure, start, end) of what may be genotypes, and (how sure, start, closing bracket) of what is never closed.

    How sure: 3 for a genotype, 2 for tuples of numbers, 1 for code that builds a genotype, 0 for none.
    """
    spans: list[tuple[int, int, int | None]] = []
    stack: list[tuple[int, int, str]] = []
    for token in _TOKEN.finditer(text):
        start, end = token.span()
        kind, bracket = token.lastgroup, token[0]
        if kind == "string":
            string = bracket.rstrip(".:!?`*\\")
            if "~" in string:
                spans.append((3, start, start + len(string)))
        elif kind == "key":
            if stack and stack[-1][2] == "}":
                stack[-1] = (3, *stack[-1][1:])
        elif kind == "genotype":
            stack.append((3 if _EDGES.match(text, end) else 1, start, ")"))
        elif bracket in CLOSING:
            stack.append((2 if _INDICES.match(text, start) else 0, start, CLOSING[bracket]))
        elif stack and stack[-1][2] == bracket:
            sure, begin, _ = stack.pop()
            if sure:
                while spans and spans[-1][1] > begin:
                    spans.pop()
                spans.append((sure, begin, end))
    return spans, stack


def _is_name(word: str) -> bool:
    return word.lower() not in NO_NAMES


def _paths(text: str) -> dict[int, str]:
    """By number of the line: the keys of YAML that lead there, joined by dots."""
    above: list[tuple[int, str]] = []
    paths = {}
    for number, line in enumerate(text.split("\n"), 1):
        match = _YAML_KEY.match(line)
        if match:
            while above and above[-1][0] >= len(match[1]):
                above.pop()
            above.append((len(match[1]), match[2]))
            paths[number] = ".".join(key for _, key in above[-MAX_DEPTH:])
    return paths


def _joined(passages: list[Passage]) -> list[Passage]:
    """The same, with the strings of a normal and a reduction cell, one after the other, as one passage."""
    joined: list[Passage] = []
    for passage in passages:
        if joined and _belong_together(joined[-1], passage):
            joined[-1] = replace(joined[-1], content=joined[-1].content + passage.content)
        else:
            joined.append(passage)
    return joined


def _belong_together(one: Passage, other: Passage) -> bool:
    if (one.kind, other.kind) != ("strings", "strings") or len(one.content) > 1:
        return False
    (first, second) = one.content[0], other.content[0]
    return half(*first) and half(*second) and (first[0] != second[0] or first[0] is None)
