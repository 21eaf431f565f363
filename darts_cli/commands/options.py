"""The options of `search` and `train`: one for every setting of a configuration, and a YAML file that sets their defaults."""

import platform
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource

from darts_cli import DartsError, __version__, files
from darts_cli.commands.completion import CHECKPOINT, DIR, FILE, GENOTYPE_SUFFIXES, SPACE, Dataset, Spelling
from darts_cli.formats.genotypes import load
from darts_cli.genotype import Genotype, checked, is_name
from darts_cli.runs.task import CONFIGS
from darts_cli.schema import Config, Setting, option_name
from darts_cli.sweeps.seeds import seed_options

# The sections of --help, with the options in each, in order; the first section has what everybody needs.
SECTIONS = {
    "Options": "genotype dataset data space spaces method methods recipe unrolled epochs seed run config help",
    "Data": "tokens batch_size eval_batch_size bptt train_portion split split_seed max_images subset image_size resize flip pad"
    " cutout color_jitter",
    "Space": "operations nodes benchmark_data",
    "Network": "layers channels dim init_op auxiliary auxiliary_weight drop_path"
    " dropout dropouth dropoutx dropouti dropoute init_from",
    "Weights": "lr lr_min schedule lr_decay warmup momentum nesterov weight_decay grad_clip label_smoothing ar tar"
    " asgd_after asgd_below patience roll_backs",
    "Architecture": "alpha_lr alpha_betas alpha_weight_decay alpha_clip alpha_scale",
    "Run": "stop then eigenvalue_every seeds select_epochs select_settings select_from_table random_cells repeats"
    " parallel engine extend checkpoint_minutes log_every tensorboard quiet seconds as_json",
    "Machine": "device precision deterministic compile cuda_graphs recompute fit_memory accumulate batch_chunks workers "
    "detect_anomaly",
}
_GUARD = 10_000  # an upper bound from here on only guards against waste, and --help leaves it out
_TYPES = {"DIR": DIR, "RUN|FILE": CHECKPOINT, "SPACE": SPACE}  # of settings that are text, by metavar
_RUN = "darts_cli.commands.options.run"  # where a context keeps the run folder that the cells come from
_NOT_SETTINGS = ("command", "environment", "extended")  # keys of a run's config.yaml that are neither settings nor options
# keys that are options, but no settings
_OPTIONS_ONLY = ("genotype", "seeds", "select_epochs", "select_settings", "select_from_table", "random_cells", "repeats")


class Switch(click.ParamType):
    """On, off (spelled --no-NAME too), or one of some words."""

    name = "switch"

    def __init__(self, words: tuple[str, ...]):
        self.words = words

    def convert(self, value, param, ctx):
        values = {"on": True, "off": False, True: True, False: False} | {word: word for word in self.words}
        if value not in values:
            self.fail(f"{value!r}: must be on, off, {', '.join(self.words)}, or nothing, which is on", param, ctx)
        return values[value]


class Sectioned(click.Command):
    """A command whose --help has the sections of the table above."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = [param.opts[0][2:] for param in self.params if isinstance(param.type, Switch)]
        off = {f"--no-{name}": f"--{name}=off" for name in switches}
        return super().parse_args(ctx, [off.get(arg.replace("_", "-"), arg) for arg in args])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {param.name: param.get_help_record(ctx) for param in self.params}
        records["help"] = self.get_help_option(ctx).get_help_record(ctx)
        for title, names in SECTIONS.items():
            rows = [records[name] for name in names.split() if name in records]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class SectionedGroup(click.Group):
    """A group of such commands."""

    command_class = Sectioned


class Option(click.Option):
    """An option whose --help has no RANGE in its metavar, no parentheses around a default that is given as text, and no upper
    bound that is only a guard."""

    def make_metavar(self, ctx: click.Context) -> str:
        return super().make_metavar(ctx).replace(" RANGE", "")

    def get_help_extra(self, ctx: click.Context) -> dict:
        extra = super().get_help_extra(ctx)
        if "range" in extra and (self.type.max or 0) >= _GUARD:
            extra["range"] = f"x>{'' if self.type.min_open else '='}{self.type.min}"
        return extra | {"default": self.show_default} if isinstance(self.show_default, str) else extra


option = partial(click.option, cls=Option)
trained_network = option(
    "--checkpoint",
    "--model-path",
    type=CHECKPOINT,
    required=True,
    help="Run folder of a training, a checkpoint in one, one of the original code, or a safetensors file of darts export.",
)


class GenotypeType(Spelling):
    """A published name, a run folder, or a file or text in any notation, read as the Genotype; also its plain form in a run's
    config.yaml."""

    def __init__(self, domain: str):
        super().__init__(
            "NAME|FILE|RUN", published=True, domain=domain, run_files=("genotype.yaml",), suffixes=GENOTYPE_SUFFIXES
        )

    def convert(self, value, param, ctx) -> Genotype:
        if isinstance(value, Genotype):
            return value
        if isinstance(value, dict):
            return checked(value, "--config: genotype", self.domain)
        cells = load(str(value), self.domain)
        if ctx is not None and not is_name(str(value)) and files.is_file(Path(value) / "config.yaml"):
            ctx.meta[_RUN] = Path(value)
        return cells


def on_the_same_data(settings: dict) -> dict:
    """The settings of a training; where its cells come from a run folder, with the data of that run, unless the command line
    names another data set."""
    context = click.get_current_context()
    if _RUN not in context.meta:
        return settings
    run = files.read_yaml(context.meta[_RUN] / "config.yaml")
    of_run = {
        name: run[name] for name in ("dataset", "data", "tokens") if isinstance(run, dict) and isinstance(run.get(name), str)
    }
    given = {name: settings[name] for name in of_run if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if given.get("dataset", of_run.get("dataset")) != of_run.get("dataset"):
        return settings
    return settings | of_run | given


def version(ctx: click.Context, _param, wanted: bool) -> None:
    """Print what a bug report needs: versions and devices."""
    if not wanted or ctx.resilient_parsing:
        return
    import torch

    from darts_cli.runtime.device import devices

    click.echo(f"darts {__version__}\ntorch {torch.__version__}\npython {platform.python_version()}")
    click.echo(f"devices {' '.join(devices())}")
    ctx.exit()


def options(config: type[Config], *others: Callable, without: Sequence[str] = ()) -> Callable:
    """Decorator: an option for every setting of the configuration but those `without`, --config FILE, and other options.

    The command gets the settings by name.
    """
    help = "YAML file of settings, also the config.yaml of a run; options on the command line override it."
    file = option("--config", type=FILE, is_eager=True, expose_value=False, callback=partial(_read_config, config), help=help)

    def decorate(command: Callable) -> Callable:
        settings = [setting for setting in config.settings().values() if not (setting.hidden or setting.name in without)]
        for decorator in (*map(_option, settings), file, *others):
            command = decorator(command)
        return command

    return decorate


def run_options(name: str) -> tuple[Callable, Callable]:
    """The options of every run besides its settings; the name of its folder begins with `name`."""
    folder = option("--run", type=DIR, show_default=f"runs/{name}-DATASET-seedN-HASH", help="Run folder.")
    return folder, option("--quiet", is_flag=True, help="Print errors and the result only.")


extend_option = option(
    "--extend", is_flag=True, help="Let the run in --run go on to --epochs, with the schedules of a run that long."
)
fit_option = option(
    "--fit-memory",
    metavar="auto|SIZE",
    help="Compute batches in as few parts as fit into memory: into what is free, or into a size such as 8GiB.",
)
_SHARE = "Runs at a time on a machine; auto is one per GPU, or one per 4 CPU threads."
parallel_option = option("--parallel", metavar="N|auto", show_default="1", help=_SHARE)
engine_option = option(
    "--engine",
    metavar="local|ray[:HOST:PORT]|slurm",
    show_default="local",
    help="Where the runs work: on this machine, on a Ray cluster, or as a job array of Slurm.",
)


def only_with(option: str, **others: object) -> None:
    """Refuse other options that have no meaning without this option."""
    for name, value in others.items():
        if value is not None:
            raise DartsError(f"{option_name(name)}: only together with {option}", exit_code=2)


def check_no_extension(extend: bool, sweep: str, fit_memory: str | None = None) -> None:
    """Refuse --extend and --fit-memory for a sweep."""
    if extend:
        raise DartsError(f"--extend: a single run only, not with {sweep}", exit_code=2)
    if fit_memory is not None:
        raise DartsError(f"--fit-memory: a single run only, not with {sweep}; fit one, and give its parts here", exit_code=2)


def setting_option(config: type[Config], name: str) -> Callable:
    """The option of a single setting."""
    return _option(config.settings()[name])


def _option(setting: Setting) -> Callable:
    name = option_name(setting.name)
    attributes = {"help": setting.help, "show_default": _shown_default(setting)}
    attributes["default"] = None if setting.depends else setting.default
    if setting.words:
        return option(name, type=Switch(setting.words), is_flag=False, flag_value="on", metavar=setting.metavar, **attributes)
    if setting.type is bool:
        return option(f"{name}/--no-{name[2:]}", **attributes)
    attributes |= {"type": _click_type(setting), "nargs": setting.count or 1, "metavar": setting.metavar}
    if setting.flag_value is not None:
        attributes |= {"is_flag": False, "flag_value": setting.flag_value}
    return option(name, *setting.aliases, setting.name, **attributes)


def _click_type(setting: Setting) -> click.ParamType | type:
    if setting.choices:
        return (Dataset if setting.name == "dataset" else click.Choice)(setting.choices)
    if setting.type not in (int, float):
        return _TYPES.get(setting.metavar, setting.type)
    kind = click.IntRange if setting.type is int else click.FloatRange
    low = setting.gt if setting.ge is None else setting.ge
    high = setting.lt if setting.le is None else setting.le
    return kind(low, high, min_open=setting.gt is not None, max_open=setting.lt is not None)


def _shown_default(setting: Setting) -> str | None:
    """The default as --help shows it, if at all: 600 (imagenet: 250; digits: 30)."""
    if not setting.recipes:
        plain = setting.default is None or isinstance(setting.default, bool)
        return setting.default_text or (None if plain else _shown(setting, setting.default))
    datasets: dict[str, list[str]] = {}  # the data sets of each default
    for dataset, value in setting.recipes.items():
        datasets.setdefault(_shown(setting, value), []).append(dataset)
    recipes = "; ".join(f"{', '.join(names)}: {value}" for value, names in datasets.items())
    return f"{setting.default_text or _shown(setting, setting.default)} ({recipes})"


def _shown(setting: Setting, value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "where it fits" if setting.type is bool else "none"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _read_config(config: type[Config], ctx: click.Context, _param, path: str | None) -> None:
    """Make the values in the file the defaults of this command. Raises DartsError with file, key and remedy."""
    if path is None:
        return
    data = files.read_yaml(path)
    if not isinstance(data, dict):
        raise DartsError(f"{path}: must be a mapping of settings, such as `epochs: 50`", exit_code=2)
    command = str(data.get("command")).partition(" --")[0]
    if CONFIGS.get(tuple(command.split()), config) is not config:
        raise DartsError(f"{path}: holds the settings of darts {command}; name a file of {ctx.command_path}", exit_code=2)
    settings, others = {}, {}
    for key, value in data.items():
        name = str(key).replace("-", "_")
        if name in _OPTIONS_ONLY and any(param.name == name for param in ctx.command.params):
            others |= _seeds(value) if name == "seeds" else {name: value}
        elif name not in _NOT_SETTINGS:
            settings[key] = value
    try:
        checked = config.check(settings)
        _check_offered(config, ctx, checked)
        ctx.default_map = checked | others
    except DartsError as error:
        raise DartsError(f"{path}: {error}; see {ctx.command_path} --help", exit_code=2) from None


def _check_offered(config: type[Config], ctx: click.Context, values: dict) -> None:
    """Raises DartsError for a setting that is not the default, and that this command does not have."""
    offered = {param.name for param in ctx.command.params}
    for name, value in values.items():
        setting = config.settings()[name]
        if name not in offered and not setting.hidden and value not in (setting.default, setting.default_text):
            raise DartsError(f"{name}: is no setting of {ctx.command_path}", exit_code=2)


def _seeds(value: object) -> dict:
    """The options of `seeds` in a file: a list, as the config.yaml of a sweep has it, or what --seeds takes."""
    if isinstance(value, list) and value and all(type(seed) is int for seed in value):
        return {"seed": value[0], "seeds": seed_options(value).split()[1]}
    return {"seeds": str(value)}
