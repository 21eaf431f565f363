"""Settings: ranges, the options made of them, and the file that sets their defaults."""

import dataclasses
import pydoc
import re
import shlex
from dataclasses import dataclass

import click
import pytest
import yaml
from click.testing import CliRunner

from darts_cli import DartsError
from darts_cli.cli import main
from darts_cli.commands.options import SECTIONS, Sectioned, options
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.runs.task import CONFIGS
from darts_cli.schema import option_name, setting


def parsed(*args, kind=SearchCNN):
    """The configuration that the command line makes."""

    @click.command(cls=Sectioned)
    @options(kind)
    def show(**settings):
        click.echo(repr(kind(**settings)))

    result = CliRunner().invoke(show, list(args), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_the_defaults_are_the_papers():
    expected = {
        "epochs": 50,
        "batch_size": 64,
        "layers": 8,
        "channels": 16,
        "lr": 0.025,
        "lr_min": 0.001,
        "momentum": 0.9,
        "weight_decay": 3e-4,
        "grad_clip": 5,
        "alpha_lr": 3e-4,
        "alpha_betas": (0.5, 0.999),
        "alpha_weight_decay": 1e-3,
        "seed": 2,
        "train_portion": 0.5,
        "alpha_scale": 1e-3,
        "cutout": 0,
        "unrolled": False,
    }
    config = SearchCNN()
    assert {name: getattr(config, name) for name in expected} == expected
    assert parsed() == repr(config)


@pytest.mark.parametrize("command", ["search cnn", "search rnn", "train cnn", "train rnn"])
def test_the_help_has_every_option_once_in_its_section(command):
    stage, domain = command.split()
    params = main.commands[stage].commands[domain].params
    settings = CONFIGS[stage, domain].settings().values()
    assert {param.name for param in params} >= {setting.name for setting in settings if not setting.hidden}
    sections = " ".join(SECTIONS.values()).split()
    assert all(sections.count(param.name) == 1 for param in params)
    text = CliRunner().invoke(main, [stage, domain, "--help"], terminal_width=100).output
    assert all(f"\n  {param.opts[0]}" in text and param.help.split()[0] in text for param in params)
    assert [line for line in text.splitlines() if line.rstrip(":") in SECTIONS] == [
        f"{title}:" for title in SECTIONS if title not in ("Space", "Architecture") or stage == "search"
    ]


def test_the_help_shows_defaults_and_ranges():
    text = " ".join(CliRunner().invoke(main, ["train", "cnn", "--help"], terminal_width=100).output.split())
    for extra in (
        "[default: 600 (imagenet: 250; digits: 30; nas-bench-201: 200); x>=1]",
        "[default: 0.2 (imagenet, nas-bench-201: 0.0); 0<=x<1]",
        "[default: 0 (imagenet with cosine: 5); x>=0]",
        "[default: on (digits, nas-bench-201: off; folder: where it fits)]",
        "[default: 0.0 0.0 0.0 0.0 (imagenet: 0.4 0.4 0.4 0.2); x>=0]",
        "[default: download to ./data]",
    ):
        assert extra in text


def test_the_help_leaves_out_bounds_that_are_only_guards():
    text = " ".join(CliRunner().invoke(main, ["train", "rnn", "--help"], terminal_width=100).output.split())
    assert "[default: 20.0 (pydoc: 10.0); x>0]" in text  # of --lr, less than 10**9
    assert "mean and deviation. [default: 1; x>=1]" in text  # of --repeats, at most 10,000
    assert "[default: 0.1 (pydoc: 0.0); 0<=x<1]" in text


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("epochs", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("layers", 2, "at least 3"),
        ("channels", 5, "a multiple of 2"),
        ("channels", 0, "at least 2"),
        ("lr", 0.0, "more than 0"),
        ("lr", float("inf"), "finite"),
        ("epochs", "many", "a whole number"),
        ("epochs", 2**63, "at most 9223372036854775807"),
        ("unrolled", 1, "true or false"),
        ("lr", float("nan"), "more than 0"),
        ("momentum", 1.0, "less than 1"),
        ("alpha_betas", (0.5, 1.0), "less than 1"),
        ("alpha_betas", (0.5,), "2 numbers"),
        ("train_portion", 1.0, "less than 1"),
        ("train_portion", 0.0, "more than 0"),
        ("seed", -1, "at least 0"),
        ("cutout", 3, "a multiple of 2"),
        ("dataset", "mnist", "one of cifar10"),
        ("lr_min", 0.1, "at most the initial learning rate"),
    ],
)
def test_values_out_of_range(name, value, rule):
    with pytest.raises(DartsError, match=rf"{option_name(name)} .*must be {rule}") as error:
        SearchCNN(**{name: value})
    assert error.value.exit_code == 2


def test_flag_over_file_over_default(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("epochs: 7\nlr: 1e-1\nalpha-betas: [0.4, 0.9]\nunrolled: true\ndata: null\nlayers: 6\n")
    expected = SearchCNN(epochs=7, lr=0.1, alpha_betas=(0.4, 0.9), unrolled=True, layers=3)
    assert parsed("--layers", "3", "--config", str(path)) == repr(expected)
    assert parsed("--config", str(path), "--layers", "3", "--no-unrolled") == repr(
        dataclasses.replace(expected, unrolled=False)
    )


@pytest.mark.parametrize("given", [{"grad_clip": float("inf")}, {"lr": 3.0}])
def test_the_settings_of_a_run_are_a_file_of_settings(tmp_path, given):
    config = SearchCNN(**given)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert parsed("--config", str(tmp_path / "config.yaml")) == repr(config)


@pytest.mark.parametrize("given", [{"warmup": 0}, {"warmup": 5}, {"warmup": 0, "epochs": 3}, {"lr": 0.01, "lr_min": 0.001}])
@pytest.mark.parametrize("schedule", ["cosine", "exponential"])
def test_the_arguments_say_all_that_differs(given, schedule):
    """Also where a default depends on another setting than the data set: the warm-up of ImageNet on the schedule."""
    config = TrainCNN(dataset="imagenet", schedule=schedule, **given)
    assert parsed(*shlex.split(" ".join(config.arguments("runs/a"))), kind=TrainCNN) == repr(config)


def test_the_originals_spellings():
    args = "--batch_size 96 --init_channels 8 --learning_rate 0.1 --learning_rate_min 0.01 --arch_learning_rate 0.2"
    expected = SearchCNN(batch_size=96, channels=8, lr=0.1, lr_min=0.01, alpha_lr=0.2)
    result = CliRunner().invoke(main, ["search", "cnn", *args.split(), "--epochs", "0"])
    assert "0 is not in the range x>=1" in result.stderr  # so everything before was understood
    assert parsed(*args.replace("_", "-").split()) == repr(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochss: 3", "unknown key 'epochss' (did you mean epochs?); see darts search cnn --help"),
        ("zzz: 3", "unknown key 'zzz'; there are dataset, space"),
        ("epochs: [3]", "epochs: must be a whole number, not [3]"),
        ("layers: 0", "layers: must be at least 1, not 0; see darts search cnn --help"),
        ("epochs: 2.5", "epochs: must be a whole number, not 2.5"),
        ("lr: " + 400 * "9", "lr: must be a number, not "),
        ("epochs: true", "epochs: must be a whole number, not True"),
        ("momentum:", "momentum: must be a number, not None"),
        ("unrolled: 1", "unrolled: must be true or false or exact, not 1"),
        ("alpha_betas: [0.5]", "alpha_betas: must be 2 numbers, not [0.5]"),
        ("dataset: 3", "dataset: must be text, not 3"),
        ("data: 3", "data: must be text, not 3"),
        ("epochs: one", "epochs: must be a whole number, not 'one'"),
        ("dataset: wt2", "dataset: must be one of cifar10"),
        ("command: train cnn\nepochs: 3", "holds the settings of darts train cnn"),
        ("command: search rnn --seeds\nepochs: 3", "holds the settings of darts search rnn"),
        ("- epochs", "must be a mapping of settings"),
        ("epochs: 3\nepochs: 4", "the key 'epochs' is given twice"),
        ("epochs: {", "not valid YAML"),
    ],
)
def test_a_wrong_file_names_file_key_and_remedy(tmp_path, text, message):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    result = CliRunner().invoke(main, ["search", "cnn", "--config", str(path)], prog_name="darts")
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith(f"error: {path}: ")
    assert message in result.stderr


@pytest.mark.parametrize("kind", [SearchCNN, TrainCNN, SearchRNN, TrainRNN])
def test_help_of_a_configuration_says_what_each_setting_is(kind):
    text = pydoc.render_doc(kind, renderer=pydoc.plaintext)
    for name, one in kind.settings().items():
        assert one.hidden or re.search(rf"{name} +{re.escape(one.help)}", text), name


def test_the_small_recipe_gives_sizes_and_options_win():
    small, paper = SearchCNN(recipe="small"), SearchCNN()
    assert (small.epochs, small.max_images, small.layers, small.channels) == (8, 4000, 3, 8)
    sizes = ("recipe", "epochs", "max_images", "layers", "channels")
    assert dataclasses.replace(paper, **{name: getattr(small, name) for name in sizes}) == small, "nothing else differs"
    assert SearchCNN(recipe="small", space="nas-bench-201").layers == 1
    assert SearchCNN(recipe="small", dataset="digits").epochs == 8, "it comes before the recipe of a data set"
    assert SearchCNN(recipe="small", method="drnas").lr == 0.1, "a method keeps its own"
    assert SearchCNN(recipe="small", subset=0.5).max_images is None, "both would name a part of the images"
    given = SearchCNN(recipe="small", epochs=3, layers=4, max_images=9)
    assert (given.epochs, given.layers, given.max_images, given.channels) == (3, 4, 9, 8)
    assert small.hash() != paper.hash()


@pytest.mark.parametrize("given", [{}, {"space": "nas-bench-201"}, {"method": "darts", "epochs": 50}, {"subset": 0.5}])
def test_the_small_recipe_is_repeated_by_its_name(tmp_path, given):
    config = SearchCNN(recipe="small", **given)
    words = shlex.split(" ".join(config.arguments("runs/a")))
    assert words.count("small") == 1
    assert len(words) <= 4 + 2 * len(given), "what the recipe says need not be said"
    assert parsed(*words) == repr(config)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert parsed("--config", str(tmp_path / "config.yaml")) == repr(config)


def test_a_setting_of_a_later_version_leaves_hashes_as_they_are():
    """Only what is not the default counts."""

    @dataclass(frozen=True)
    class Later(SearchCNN):
        new: bool = setting(False, "Something new.")

    for given in ({}, {"dataset": "digits"}, {"epochs": 3, "alpha_betas": (0.5, 0.9)}):
        assert Later(**given).hash() == SearchCNN(**given).hash()
    assert Later(new=True).hash() != SearchCNN().hash()
    assert SearchCNN(epochs=50).hash() == SearchCNN().hash() != SearchCNN(epochs=5).hash()


def test_the_hash_is_of_what_changes_the_result():
    config = SearchCNN()
    for same in ({"data": "x"}, {"device": "cpu"}, {"checkpoint_minutes": 1.0}, {"log_every": 1}):
        assert SearchCNN(**same).hash() == config.hash()
    for other in ({"epochs": 49}, {"unrolled": True}, {"seed": 3}, {"split_seed": 1}, {"precision": "bf16"}, {"cutout": 16}):
        assert SearchCNN(**other).hash() != config.hash()
