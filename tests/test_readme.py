"""The README stays true: its help texts, its commands, its table. Run as a script, it writes the help texts anew."""

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from darts_cli.cli import main
from darts_cli.genotype import load, save

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"<!-- help: (darts[a-z ]*) -->\n(?:```text\n[^`]*```\n)?")
COMMAND = re.compile(r"^    (darts .*?) *(?:#.*)?$|`(darts [^`]*)`", re.MULTILINE)


def help_text(command):
    _, *words = command.split()
    result = CliRunner().invoke(main, [*words, "--help"], prog_name="darts", terminal_width=100)
    return result.output.strip()


def with_help(text):
    return BLOCK.sub(lambda block: f"<!-- help: {block[1]} -->\n```text\n{help_text(block[1])}\n```\n", text)


def test_the_help_texts_are_those_of_the_commands():
    text = README.read_text(encoding="utf-8")
    assert len(BLOCK.findall(text)) >= 3
    assert with_help(text) == text, "run `make readme`"


def commands():
    text = re.sub(r"```text.*?```", "", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    return sorted({(indented or quoted) for indented, quoted in COMMAND.findall(text)})


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_parses(command, tmp_path, monkeypatch):
    """Down to the last option; nothing is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text("epochs: 3")
    run = tmp_path / "runs" / "search-cnn-cifar10-seed2-1a2b3c4d"
    run.mkdir(parents=True)
    save(load("nasnet"), run / "genotype.yaml")
    run = tmp_path / "runs" / "search-rnn-pydoc-seed3-1a2b3c4d"
    run.mkdir(parents=True)
    save(load("enas"), run / "genotype.yaml")
    _, *words = shlex.split(command)
    group = main
    while isinstance(group, click.Group):
        group = group.commands[words.pop(0)]
    group.make_context("darts", words)


def test_enough_commands_are_found():
    assert {"darts search cnn --unrolled", "darts genotype list"} <= set(commands())


if __name__ == "__main__":
    README.write_text(with_help(README.read_text(encoding="utf-8")), encoding="utf-8")
