"""README.md and docs/ stay true: help texts, commands, links, names in the code. As a script: regenerate the help texts."""

import ast
import contextlib
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from darts_cli.cli import main
from darts_cli.formats.genotypes import to_python
from darts_cli.genotype import load, save

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README, CLI, INDEX = ROOT / "README.md", DOCS / "cli.md", DOCS / "index.md"
PAGES = {str(path.relative_to(ROOT)): path for path in [README, *sorted(DOCS.rglob("*.md"))]}

HELP = re.compile(r"<!-- help: (darts[a-z -]*) -->\n(?:```text\n.*?\n```\n)?", re.DOTALL)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n|^[ ]*\n(?= {4}))+", re.MULTILINE)
QUOTED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
COMMAND = re.compile(r"(?:^|[ ;(])(?:darts|python -m darts_cli|-m -- darts_cli)(?= |$)(.*)$")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
RUN_HASH = re.compile(r"-[0-9a-f]{8}\b")
CODE_PATH = re.compile(r"^((?:darts_cli|tests|benchmarks|docs|genotypes|spaces)/[\w./*-]+)(?::([\w.]+))?$")


def read(path):
    return path.read_text(encoding="utf-8")


# ---- the commands there are


def commands(command=main, path=("darts",)):
    """Every command and group: its words and the click command."""
    yield path, command
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            yield from commands(command.get_command(ctx, name), (*path, name))


def find(words):
    """The command that the words begin with, and the words left for it."""
    command, words = main, list(words)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            raise click.UsageError(f"no such command: {words[0]}")
        command, words = found, words[1:]
    return command, words


def options():
    for path, command in commands():
        for option in command.params:
            if isinstance(option, click.Option):
                yield " ".join(path), option


# ---- docs/cli.md


def help_text(command):
    _, *words = command.split()
    result = CliRunner().invoke(main, [*words, "--help"], prog_name="darts", terminal_width=100)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def with_help(text):
    return HELP.sub(lambda block: f"<!-- help: {block[1]} -->\n```text\n{help_text(block[1])}\n```\n", text)


def cli_page():
    """docs/cli.md up to its first command, then every command with its help."""
    head = read(CLI).partition("\n## ")[0].rstrip()
    names = [" ".join(path) for path, _ in commands()]
    return with_help(head + "\n" + "".join(f"\n## {name}\n\n<!-- help: {name} -->\n" for name in names))


def test_the_page_of_the_commands_is_current():
    assert read(CLI) == cli_page(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES)
def test_every_help_text_is_current(page):
    text = read(PAGES[page])
    assert with_help(text) == text, "run `make docs`"


@pytest.mark.parametrize("path", [" ".join(path) for path, _ in commands()])
def test_every_command_is_documented(path):
    """In the generated page, and by a sentence or an example in another one."""
    assert f"<!-- help: {path} -->" in read(CLI)
    others = [read(page) for page in PAGES.values() if page != CLI]
    assert any(re.search(rf"{path}\b", text) for text in others), f"no page but cli.md mentions {path}"


def test_every_option_is_documented_and_has_a_help_text():
    blocks = dict(re.findall(r"<!-- help: (darts[a-z -]*) -->\n```text\n(.*?)\n```\n", read(CLI), re.DOTALL))
    for path, option in options():
        assert option.help, f"{path} {option.opts[0]}: has no help text"
        for spelling in [*option.opts, *option.secondary_opts]:
            shown = re.search(rf"(?<![\w-]){re.escape(spelling)}(?![\w-])", blocks[path])
            assert shown, f"{path} {spelling}: is not in docs/cli.md"


# ---- commands in the text


def in_blocks(text):
    """The lines of fenced and indented blocks, continued lines joined."""
    text = re.sub(r"```(?:text|yaml|json|python)\n.*?```", "", HELP.sub("", text), flags=re.DOTALL)
    blocks = [block[3] for block in FENCE.finditer(text)] + INDENTED.findall(FENCE.sub("", text))
    for block in blocks:
        yield from re.sub(r"\\\n *", "", block).splitlines()


def spelled(text):
    """Every darts command line of a page, without the word darts: those of blocks, and those in backticks."""
    for line in in_blocks(text):
        match = COMMAND.search(line.strip())
        if match:
            yield re.sub(r" +(?:#|[|>&;]).*$", "", match[1]).strip()
    for quoted in QUOTED.findall(FENCE.sub("", HELP.sub("", text))):
        match = COMMAND.match(quoted)
        if match:
            yield match[1].strip()


EVERY_COMMAND = sorted({(page, line) for page, path in PAGES.items() for line in spelled(read(path))})


@pytest.mark.parametrize(("page", "line"), EVERY_COMMAND)
def test_every_command_parses(page, line, tmp_path, monkeypatch):
    """Down to the last option; nothing is run. A command's bare name, as in a sentence, must exist."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    command, arguments = find(words)
    if not arguments:
        return
    make_what_it_names(arguments, "rnn" if "rnn" in words else "cnn")
    with contextlib.suppress(click.exceptions.Exit):  # raised for --help and --version
        command.make_context("darts", arguments)


def make_what_it_names(words, domain):
    """Run folders, genotypes and settings, so that options which read files find them."""
    for word in words:
        path = Path(word)
        if word.endswith(("config.yaml", "settings.yaml")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("epochs: 3")
        elif word.endswith(".yaml"):
            path.parent.mkdir(parents=True, exist_ok=True)
            save(load("darts_v1", domain), path)
        elif ".py:" in word:
            file, _, name = word.rpartition(":")
            Path(file).write_text(f"{name} = {to_python(load('darts_v1', domain))}")
        elif word.startswith("runs/") or word == "RUN":
            path.mkdir(parents=True, exist_ok=True)
            save(load("darts_v1", domain), path / "genotype.yaml")


def test_enough_commands_are_seen():
    seen = {line for _, line in EVERY_COMMAND}
    assert {"search cnn --unrolled", "genotype list", "genotype random cnn --seed 1"} <= seen
    assert "search cnn --data /mnt/cifar10 --run /mnt/runs/a" in seen, "the one that torchrun starts, over two lines"
    assert len(seen) > 60


# ---- Python, and names in the code


PYTHON = [(page, block[3]) for page, path in PAGES.items() for block in FENCE.finditer(read(path)) if block[2] == "python"]


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[f"{page}-{i}" for i, (page, _) in enumerate(PYTHON)])
def test_python_compiles_and_its_imports_exist(page, code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "darts_cli":
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


def defined(path):
    """The functions, classes, methods and module variables of a file."""
    found = set()
    for node in ast.parse(read(path)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_function_that_is_named_exists(page):
    for quoted in QUOTED.findall(FENCE.sub("", read(PAGES[page]))):
        match = CODE_PATH.match(quoted)
        if match is None or (match[1].startswith("spaces/") and not (ROOT / "spaces").exists()):
            continue
        found = sorted(ROOT.glob(match[1].rstrip("/")))
        assert found, f"{quoted}: no such file"
        if match[2]:
            assert match[2] in defined(found[0]), f"{quoted}: no such name"


# ---- links


def prose(path):
    """A page without its blocks and what stands in backticks."""
    return QUOTED.sub("", FENCE.sub("", read(path)))


def anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", read(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_resolves(page):
    path = PAGES[page]
    links = LINK.findall(prose(path))
    for link in links:
        if re.match(r"https?://|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.is_file(), f"{link}: no such file"
        if path.is_relative_to(DOCS):
            assert target.is_relative_to(DOCS), f"{link}: leaves docs/, and with it the site"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


def test_every_picture_in_docs_is_shown():
    text = "".join(read(path) for path in PAGES.values())
    pictures = [path for path in DOCS.rglob("*") if path.suffix in (".svg", ".png", ".gif")]
    assert pictures
    for picture in pictures:
        assert picture.name in text, f"{picture.name} is shown on no page"


def in_nav(entry):
    if isinstance(entry, str):
        return [entry]
    return [page for each in (entry.values() if isinstance(entry, dict) else entry) for page in in_nav(each)]


def test_every_page_is_in_the_index_and_in_the_navigation():
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    linked = {link.partition("#")[0] for link in LINK.findall(read(INDEX))}
    assert pages - {"index.md"} <= linked
    assert set(in_nav(yaml.safe_load(read(ROOT / "mkdocs.yml"))["nav"])) == pages


# ---- the README, and the site


def test_the_readme_is_short_and_can_be_pasted():
    text = read(README)
    assert len(text.splitlines()) <= 150
    assert not RUN_HASH.search(text)


@pytest.mark.parametrize("page", PAGES)
def test_lines_are_at_most_120_characters(page):
    text = HELP.sub("", FENCE.sub("", read(PAGES[page])))
    long = [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|") and "](" not in line]
    assert not long


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed")
def test_the_site_builds(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").is_file()


if __name__ == "__main__":
    for path in PAGES.values():
        path.write_text(cli_page() if path == CLI else with_help(read(path)), encoding="utf-8")
