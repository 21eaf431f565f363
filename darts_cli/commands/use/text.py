"""The commands `darts generate` and `darts score`."""

import json
import math
import sys
from collections import Counter

import click

from darts_cli import DartsError
from darts_cli.commands.completion import FILE
from darts_cli.commands.options import option, trained_network
from darts_cli.text import counted, harmless, hint, printable, table

device = option("--device", metavar="DEVICE", default="auto", show_default=True, help="Device: auto, cpu, cuda, cuda:N or mps.")


@click.command("generate")
@trained_network
@option(
    "--words", type=click.IntRange(1), default=50, show_default=True, help="Words to write; the end of a line counts as one."
)
@option("--prompt", default="", help="Words to go on from, with blanks between them.")
@option(
    "--temperature",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Below 1 likely words become likelier; 0 takes the likeliest.",
)
@option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the draws; the same seed, the same text.")
@device
def generate(checkpoint, words, prompt, temperature, seed, device):
    """Write text with a trained language model.

    The prompt is read as the beginning of a line, and printed with what follows.

    \b
    Example: darts generate --checkpoint runs/first-language-model --words 100 --prompt "the value of"
    """
    from darts_cli.runtime.device import chosen
    from darts_cli.use import text

    if not math.isfinite(temperature):
        raise DartsError(f"--temperature {temperature}: must be a finite number", exit_code=2)
    network = text.language_model(checkpoint, "darts generate").to(chosen(device))
    line, blank = (prompt.split(), " ") if network.tokens == "words" else (list(prompt), "")
    start = text.read(line, text.indices(network))
    _name_unknown(start.unknown, network.vocab)
    for word in text.generate(network, start.ids, words, temperature, seed):
        if word == text.EOS:
            click.echo(harmless(blank.join(line)))
            line = []
        else:
            line.append(word)
    if line:
        click.echo(harmless(blank.join(line)))


@click.command("score")
@click.argument("file", metavar="FILE|-", type=FILE)
@trained_network
@option("--carry", is_flag=True, help="Read the lines as one text, as darts eval does, instead of each on its own.")
@device
@option("--json", "as_json", is_flag=True, help="Print JSON.")
def score(file, checkpoint, carry, device, as_json):
    """Measure how well a trained language model predicts a text.

    Prints the perplexity per word of every line, how many words were predicted in it, and the perplexity of all lines.

    Every line is scored on its own, as the beginning of a text: equal lines get equal scores, in any order. Its end is
    predicted too. Blank lines are passed over.

    With --carry, all lines are one text: the network reads each with what it remembers of the lines before, blank lines are
    ends of lines, and the very first word is not predicted. The perplexity of all lines is then what darts eval computes.

    \b
    Example: darts score --checkpoint runs/first-language-model sentences.txt
    """
    from darts_cli.runtime.device import chosen
    from darts_cli.use import text

    network = text.language_model(checkpoint, "darts score").to(chosen(device))
    lines, blank = _lines(file, network.tokens), " " if network.tokens == "words" else ""
    scored = list(text.score(network, lines, carry))
    total = sum(each.sums for each in scored)
    unknown = sum((each.unknown for each in scored), Counter())
    _name_unknown(unknown, network.vocab)
    if as_json:
        rows = [
            {"line": blank.join(line), "words": int(sums[1]), "perplexity": text.perplexity(sums), "unknown": sorted(unknown)}
            for line, sums, unknown in scored
        ]
        click.echo(json.dumps({"lines": rows, "words": int(total[1]), "perplexity": text.perplexity(total)}))
        return
    shown = [(_number(each.perplexity), f"{each.words:,}", printable(blank.join(each.line))) for each in scored]
    click.echo(table([("perplexity", "words", "line"), *shown, (_number(text.perplexity(total)), f"{int(total[1]):,}", "all")]))


def _number(perplexity: float | None) -> str:
    return "-" if perplexity is None else f"{perplexity:.2f}"


def _lines(path: str, tokens: str) -> list[list[str]]:
    """The tokens of every line of a file, or of stdin. Raises DartsError when it cannot be read, or holds no words."""
    from darts_cli.rnn.texts import lines

    if path == "-":
        return list(lines(sys.stdin.buffer, "stdin", tokens))
    try:
        with open(path, "rb") as file:
            return list(lines(file, path, tokens))
    except OSError as error:
        raise DartsError(f"{path}: cannot be read ({error.strerror})") from None


def _name_unknown(unknown: Counter, vocab: list[str]) -> None:
    """Say which words the network does not know, the most frequent first."""
    if unknown:
        named = ", ".join(word if count == 1 else f"{word} ({count:,})" for word, count in unknown.most_common(10))
        more = f" and {len(unknown) - 10:,} more" if len(unknown) > 10 else ""
        done = "read as <unk>" if "<unk>" in vocab else "left out"
        hint(f"{counted(len(unknown), 'unknown word')}, {done}: {named}{more}")
