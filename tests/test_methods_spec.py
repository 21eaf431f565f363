"""What people write after --method: what is meant, what is refused and why."""

import json
import re
from pathlib import Path

import pytest
from conftest import darts

from darts_cli import DartsError
from darts_cli.config import SearchCNN, SearchRNN
from darts_cli.methods.catalogue import METHODS, PARTS
from darts_cli.methods.combinations import REFUSED
from darts_cli.methods.method import parse
from darts_cli.methods.results import COST, PUBLISHED
from darts_cli.methods.spec import read

METHODS_PAGE = (Path(__file__).parent.parent / "docs" / "methods.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("darts", "darts"),
        ("DARTS", "darts"),
        ("softmax", "softmax"),
        ("pc-darts", "pc-darts:k=4,warmup=15"),
        ("pc-darts:k=2", "pc-darts:k=2,warmup=15"),
        ("pc-darts:warmup=0, k=8", "pc-darts:k=8,warmup=0"),
        ("gdas:tau_start=5", "gdas:tau_start=5,tau_end=0.1"),
        ("pc-darts+beta-decay:30", "pc-darts:k=4,warmup=15+beta-decay:beta=30"),
        ("sigmoid+zero-one:10", "sigmoid+zero-one:zero_one=10"),
        ("zero-one+sigmoid", "zero-one:zero_one=10+sigmoid"),
        ("beta-decay", "softmax+beta-decay:beta=50"),
        ("darts+max-skips", "darts+max-skips:skips=2"),
        ("gdas:tau_start=1.23456789,tau_end=0.1", "gdas:tau_start=1.23456789,tau_end=0.1"),
        ("beta-decay:123456.7", "softmax+beta-decay:beta=123456.7"),
        ("drnas+dirichlet-kl:1e-3", "drnas:warmup=10+dirichlet-kl:kl=0.001"),
    ],
)
def test_the_expanded_form(text, expanded):
    spec = read(text)
    assert str(spec) == expanded
    assert read(expanded) == spec
    assert parse(text).name == expanded


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("domain", ["cnn", "rnn"])
def test_every_method_has_a_meaning_or_is_refused(name, domain):
    parts = set(read(name).parts) - set(METHODS[name].optional)
    if any(domain not in PARTS[part].domains for part in parts):
        with pytest.raises(DartsError, match="has no meaning for recurrent cells"):
            parse(name, domain)
    else:
        assert parse(name, domain).name.startswith(name)


def test_fair_darts_of_text_has_no_threshold():
    spec = read("fair-darts", "rnn")
    assert (str(spec), set(spec.parts)) == ("fair-darts:zero_one=10", {"sigmoid", "zero-one"})
    assert read(str(spec), "rnn") == spec
    assert parse("fair-darts", "rnn").derive is parse("darts", "rnn").derive


def test_there_are_enough_refused_combinations():
    assert len(REFUSED) >= 15
    for pair in REFUSED:
        assert pair <= set(PARTS)


@pytest.mark.parametrize("pair", REFUSED, ids=lambda pair: " and ".join(sorted(pair)))
def test_a_combination_without_meaning_is_refused_with_its_reason(pair):
    mixtures = [part for part in pair if PARTS[part].axis == "mixture"]
    others = [part for part in pair if PARTS[part].axis != "mixture"]
    needed = [PARTS[part].needs for part in others if PARTS[part].needs and not mixtures]
    with pytest.raises(DartsError, match=r"do not combine: \w+|both decide"):
        read("+".join([*mixtures, *dict.fromkeys(needed), *others]))


MISTAKES = {
    "": "'': a name is missing",
    " ": "' ': a name is missing",
    "+": "a name is missing; write one, such as darts, or more with [+] between",
    "dart": r"'dart': there is no method or part of this name \(did you mean darts\?\); darts method list shows all",
    "pcdarts": r"did you mean pc-darts\?",
    "pc_darts": r"did you mean pc-darts\?",
    "beta darts": r"did you mean beta-darts\?",
    "p-darts2": "there is no method or part",
    "darts+": "'darts[+]': a name is missing",
    "darts+foo": "'foo': there is no part of this name; darts method list shows all",
    "darts+pc-darts": "pc-darts is a method, the sum .*partial.*; add parts of it to another",
    "pc-darts++partial": "a name is missing",
    "pc-darts+edge-weights": "edge-weights is in pc-darts:?.* already; give its parameters there",
    "beta-darts+beta-decay:3": "beta-decay is in beta-darts already",
    "gumbel+gumbel": "gumbel is in gumbel.* already",
    "gumbel+sigmoid": "sigmoid and gumbel both decide the mixture; leave one of them out",
    "gdas+dirichlet": "dirichlet and gumbel both decide the mixture",
    "fair-darts+beta-decay": "beta-decay and zero-one both decide the penalty",
    "sdarts-rs+perturb-adversarial": "perturb-adversarial and perturb-random both decide the perturbation",
    "sigmoid+beta-decay": "beta-decay and sigmoid do not combine: log sum exp",
    "zero-one": "softmax and zero-one do not combine: softmax weights add up to 1",
    "pc-darts+auxiliary-skip": "auxiliary-skip and partial do not combine",
    "gdas+drnas": "drnas is a method, the sum dirichlet[+]alpha-warmup:10; add parts of it to another",
    "random-sharing+max-skips": "max-skips and uniform do not combine: every edge is decided",
    "random-sharing+perturb-random": "perturb-random and uniform do not combine: a drawn mixture is noise already",
    "gdas+perturb-random": "gumbel and perturb-random do not combine: a drawn mixture is noise already",
    "darts:3": "darts: no parameter '3'; it has none, written darts:parameter=value",
    "sigmoid:0.5": "sigmoid: no parameter '0.5'; it has none",
    "gdas:tau=5": r"gdas: no parameter 'tau' \(did you mean tau_end\?\); it has tau_start, tau_end",
    "gdas:5,1": "gdas: no parameter '5'",
    "gdas:tau_start=5,tau_start=6": "gdas: tau_start is given twice",
    "gdas:tau_start": "gdas: tau_start must be a number from 0.001 to 1000, not 'tau_start'",
    "gdas:tau_start=": "tau_start must be a number from 0.001 to 1000, not ''",
    "gdas:tau_start=0": "tau_start must be a number from 0.001 to 1000, not '0'",
    "gdas:tau_start=nan": "not 'nan'",
    "gdas:tau_start=inf": "not 'inf'",
    "gdas:tau_start=-1": "not '-1'",
    "gdas:tau_start=five": "not 'five'",
    "gdas:": "gdas: tau_start must be a number .* not ''",
    "pc-darts:k=1": "k must be a whole number from 2 to 64, not '1'",
    "pc-darts:k=2.5": "k must be a whole number from 2 to 64, not '2.5'",
    "pc-darts:k=1e1": "k must be a whole number from 2 to 64, not '1e1'",
    "pc-darts:warmup=-1": "warmup must be a whole number from 0 to 100000, not '-1'",
    "pc-darts+beta-decay:x": "beta-decay: beta must be a number from 0 to 1e[+]06, not 'x'",
    "beta-darts:gamma=3": "beta-darts: no parameter 'gamma'; it has beta",
    "darts;gdas": "there is no method or part of this name",
    "darts, gdas": "there is no method or part of this name",
    "gdas(tau_start=5)": "there is no method or part of this name",
    "sigmoid+max-skips:-1": "skips must be a whole number from 0 to 100, not '-1'",
    "sigmoid+threshold:2": "threshold must be a number from 0 to 1, not '2'",
    "x" * 5000: "there is no method or part of this name",
}


def test_there_are_enough_mistakes():
    assert len(MISTAKES) >= 40


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: text[:20])
def test_a_mistake_is_one_line(text):
    with pytest.raises(DartsError, match=f"^--method: .*{MISTAKES[text]}") as error:
        SearchCNN(method=text)
    assert error.value.exit_code == 2
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (SearchRNN, {"method": "pc-darts"}, "--method: partial has no meaning for recurrent cells"),
        (SearchRNN, {"method": "max-skips"}, "--method: max-skips has no meaning for recurrent cells"),
        (SearchCNN, {"method": "pc-darts", "channels": 4}, "--channels 4: must be a multiple of 8, twice the k of partial"),
        (SearchCNN, {"method": "max-skips", "space": "s4"}, "--method: max-skips: no edge of this search has a skip"),
        (SearchCNN, {"method": "skip-dropout", "operations": "sep_conv_3x3"}, "skip-dropout: no edge of this search has"),
        (
            SearchCNN,
            {"method": "pc-darts", "space": "nas-bench-201", "channels": 4},
            "--channels 4: must be a multiple of 8, twice the k of partial",
        ),
    ],
)
def test_what_does_not_fit_a_domain_or_a_network(kind, given, message):
    with pytest.raises(DartsError, match=message) as error:
        kind(**given)
    assert error.value.exit_code == 2


def test_a_recipe_changes_defaults_and_an_option_still_wins():
    config = SearchCNN(method="pc-darts")
    assert (config.batch_size, config.lr, config.lr_min, config.alpha_lr) == (256, 0.1, 0.0, 6e-4)
    assert SearchCNN(method="pc-darts", batch_size=64, lr=0.05).batch_size == 64
    assert [SearchCNN(method=name).recompute for name in ("pc-darts", "darts")] == [True, False]
    assert SearchCNN(method="gdas").epochs == 250
    assert SearchCNN(method="gdas", dataset="digits").epochs == 5  # that of the data set counts more
    assert SearchCNN(method="pc-darts").arguments("runs/a") == ["--method pc-darts:k=4,warmup=15"]
    assert SearchRNN(method="drnas").alpha_lr == SearchRNN().alpha_lr
    assert SearchCNN().compared()["method"] == "darts"


def test_some_methods_search_without_none():
    assert "none" not in SearchCNN(method="fair-darts").searched.operations
    assert SearchCNN(method="fair-darts", space="s3").searched.operations == ("skip_connect", "sep_conv_3x3")
    assert "none" in SearchCNN(method="drnas", space="nas-bench-201").searched.operations  # there it is a choice like any
    assert "none" in SearchCNN(method="fair-darts", operations="none,skip_connect").searched.operations
    assert "none" in SearchCNN(method="beta-darts").searched.operations


def test_the_commands_explain_every_method_and_part():
    listed = darts("method", "list").stdout
    for name in (*METHODS, *PARTS):
        assert f"\n{name} " in listed
        shown = darts("method", "show", name).stdout
        assert all(parameter.name in shown for parameter in PARTS.get(name, PARTS["softmax"]).parameters)
    assert "must" not in darts("method", "show", "gdas", "--json").stderr
    refused = darts("method", "show", "gdaz")
    assert (refused.exit_code, "did you mean gdas?" in refused.stderr) == (1, True)


@pytest.mark.parametrize("name", METHODS)
def test_costs_and_published_results_are_those_of_the_docs(name):
    """The table of costs has every number, that of the papers every result."""
    rows = [row for row in METHODS_PAGE.splitlines() if row.startswith(f"| `{name}`")]
    if name == "p-darts":
        rows += [row for row in METHODS_PAGE.splitlines() if row.startswith("| ... stage")]
    assert any(f"| `darts search cnn --method {name}` | {PUBLISHED[name]} |" in row for row in rows)
    words = set(" ".join(row for row in rows if "GB" in row).split())
    assert set(re.findall(r"\d+\.\d+", COST[name])) <= words
    assert COST[name] in darts("method", "show", name).stdout


def test_show_says_what_can_be_added():
    shown = json.loads(darts("method", "show", "gdas", "--json").stdout)
    added, refused = set(shown["combines with"].split(", ")), shown["does not combine with"]
    assert {"edge-weights", "narrow"} <= added
    assert not added & set(refused)
    for part in added:
        assert read(f"gdas+{part}")


def test_show_gives_the_defaults_of_the_method():
    """P-DARTS has its own warm-up and rate, which differ from those of the parts."""
    shown = darts("method", "show", "p-darts").stdout
    assert "epochs; default 10," in shown
    assert "rate before the first epoch; default 0.1," in shown
    assert "default 15," in darts("method", "show", "alpha-warmup").stdout
