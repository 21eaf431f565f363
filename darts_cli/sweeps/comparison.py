"""Methods compared: each searches each space with each seed, and what they find is judged alike.

config.yaml                 the settings
SPACE/METHOD/seed-N/        a search, an ordinary run folder
trainings/HASH/             where no table knows the cells: their short training
chosen/HASH/                of random-search: the short training that its cells are chosen by, with another seed
comparison.yaml             scores, means, intervals and differences, without clock times: equal for equal runs
report.md                   the same in words, with the cost
"""

import random
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import yaml

from darts_cli import DartsError, files, genotype
from darts_cli.formats import nasbench201
from darts_cli.genotype import Genotype, random_genotype
from darts_cli.runs import history
from darts_cli.runs.shown.table import Row
from darts_cli.runs.task import Task
from darts_cli.spaces.space import Space
from darts_cli.sweeps.estimate import estimate
from darts_cli.sweeps.pool import Job, Pool
from darts_cli.sweeps.ranking import MEASURES, score
from darts_cli.sweeps.reports.comparison import RANDOM, Config, Entry, content_of, report, word
from darts_cli.sweeps.seeds import HERE, Placement, seed_options
from darts_cli.sweeps.selection import EPOCHS, TABLE_EPOCHS
from darts_cli.sweeps.sweep import Sweep, SweepConfig, curve, short_options, short_settings, training


def compare(
    base: Config,
    configs: Mapping[tuple[str, str], Config],
    domain: str,
    seeds: Sequence[int],
    *,
    epochs: int | None = None,
    short: Mapping[str, object] | None = None,
    placement: Placement = HERE,
    folder: str | None = None,
    quiet: bool = False,
) -> tuple[dict, Sweep]:
    """Search with every method, space and seed, judge the cells, and compare; or resume all this in that folder.

    base       what all searches share
    configs    by space and method, the configuration of a search; for `random` and `random-search:N` that of any search
    epochs     of the short trainings
    short      their settings that are not by the recipe of the data set, such as {"channels": 8}

    Returns what comparison.yaml holds, and the sweep. Raises DartsError when a run fails, and when interrupted.
    """
    epochs = EPOCHS[domain] if epochs is None else epochs
    kind = Task("select", domain).config
    given = short_settings(short, kind)
    short_training = partial(training, base, kind, given, epochs=epochs)
    for config in configs.values():
        if not nasbench201.holds(config.searched):
            short_training(space=config.searched)  # refuses settings that do not fit before anything is searched
    settings = _settings(base, configs, seeds, epochs, given, placement)
    sweep = Sweep(Task("compare", domain, "seeds"), settings, folder, placement=placement)
    entries = [entry_of(*key, seed, config, epochs) for key, config in configs.items() for seed in seeds]
    searches = [Job(entry.name, Task("search", domain), entry.config) for entry in entries if entry.config]
    sweep.load_data()
    with Pool(sweep, placement, quiet) as pool:
        sweep.start()
        judge = _Judge(sweep, pool, short_training)
        if not (sweep.folder / "report.md").exists():
            estimate(pool, [*searches, *judge.trainings(entries, configs)])
        check_all_done(pool.run(searches), sweep)
        chosen = judge.choose(entries, configs)
        content = content_of(entries, chosen, judge.scores(entries, chosen, configs), configs, sweep)
    form = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    files.write(sweep.folder / "comparison.yaml", form)
    rows = [
        (space, method, cell)
        for space, found in content["spaces"].items()
        for method, result in found["methods"].items()
        for cell in result["cells"]
    ]
    sweep.show([_row(*row) for row in rows])
    sweep.report(report(content, sweep, {entry.name: history.seconds(sweep.folder / entry.name) for entry in entries}))
    return content, sweep


def _settings(
    base: Config, configs: Mapping, seeds: Sequence[int], epochs: int, given: Mapping[str, object], placement: Placement
) -> SweepConfig:
    """The configuration of the sweep; `given` are the settings of the short trainings."""
    spaces, methods = (list(dict.fromkeys(key[i] for key in configs)) for i in range(2))
    trains = not all(nasbench201.holds(config.searched) for config in configs.values())
    return SweepConfig(
        replace(base, seed=seeds[0]),
        name=f"{len(methods)}methods-seeds{len(seeds)}",
        options=(
            shlex.join(["--spaces", ",".join(spaces)]),
            shlex.join(["--methods", ",".join(methods)]),
            seed_options(seeds),
            *([f"--select-epochs {epochs}"] if trains else []),
            *short_options(given),
            *placement.options(),
        ),
        settings={
            **{"spaces": spaces, "methods": methods, "seeds": list(seeds), "select_epochs": epochs},
            "select_settings": given or None,
        },
        replaced=("seed", "method", "space"),
        unsaid=("space",),
    )


def _row(space: str, method: str, cell: Mapping) -> Row:
    """A cell in TensorBoard's table."""
    settings = {"space": word(space), "method": method, "seed": cell["seed"]}
    return Row(f"{word(space)}/{word(method)}/seed-{cell['seed']}", settings, {"score": cell["score"]})


def check_all_done(failed: Mapping[str, str], sweep: Sweep) -> None:
    """Raises DartsError where a run has failed: a comparison without it would mislead."""
    if failed:
        name, reason = next(iter(failed.items()))
        raise DartsError(f"{sweep.folder / name}: {reason}; to retry: {sweep.resume()}")


def entry_of(space: str, method: str, seed: int, config: Config, epochs: int) -> Entry:
    """What a method does in a space with a seed: a search, or the cells that it draws."""
    name, _, number = method.partition(":")
    if name not in RANDOM:
        return Entry(space, method, seed, replace(config, seed=seed))
    count = 1 if name == "random" else int(number or affordable(config, epochs))
    rng = random.Random(f"{name} {seed}")
    return Entry(space, method, seed, None, tuple(_draw(config.searched, rng, name, seed) for _ in range(count)))


def _draw(space: Space, rng: random.Random, name: str, seed: int) -> Genotype:
    return replace(random_genotype(space, rng), source=f"drawn uniformly from the search space, {name}, seed {seed}")


def affordable(config: Config, epochs: int) -> int:
    """About how many short trainings cost what a search does, whose epoch computes every operation of every edge once on all
    images."""
    space = config.searched
    operations = statistics.fmean(len(ops) for cell in space.cells for ops in space.choices(cell))
    short = TABLE_EPOCHS if nasbench201.holds(space) else epochs
    return max(2, round(config.epochs * operations / short))


def check_random(method: str) -> None:
    """Raises DartsError when this is no spelling of `random` or `random-search:N`."""
    name, colon, number = method.partition(":")
    if colon and (name != "random-search" or not (number.isascii() and number.isdigit() and int(number) > 1)):
        raise DartsError(f"--methods {method}: write random, random-search, or random-search:N with at least 2 cells", 2)


class _Judge:
    """How good cells are: by the table of NAS-Bench-201, or else by a short training."""

    def __init__(self, sweep: Sweep, pool: Pool, short: Callable[..., Config]):
        self.sweep, self.pool, self.short = sweep, pool, short
        self.measure = MEASURES[sweep.task.domain]

    def trainings(self, entries: Sequence[Entry], configs: Mapping) -> list[Job]:
        """Those that choosing and scoring need, if all cells that are not known yet are different ones."""
        jobs = {}
        for entry in entries:
            config = configs[entry.space, entry.method]
            if nasbench201.holds(config.searched):
                continue
            found = list(entry.drawn)
            if entry.config and history.complete(self.sweep.folder / entry.name):
                found = [genotype.load(self.sweep.folder / entry.name)]
            chosen = [self._job("chosen", cells, config, seed=1) for cells in found if len(found) > 1]
            scored = self._job("trainings", found[0] if len(found) == 1 else None, config, seed=0, name=entry.name)
            jobs |= {job.name: job for job in (*chosen, scored)}
        return list(jobs.values())

    def _job(self, folder: str, cells: Genotype | None, config: Config, *, seed: int, name: str = "") -> Job:
        """A short training; cells that are not known yet have the name of what finds them."""
        task = Task("select", self.sweep.task.domain)
        short = self.short(space=config.searched, seed=seed)
        return Job(f"{folder}/{cells.hash() if cells else name}", task, short, cells)

    def choose(self, entries: Sequence[Entry], configs: Mapping) -> list[Genotype]:
        """The cells of every entry; of several random ones the best by validation."""
        many = [(cells, configs[e.space, e.method]) for e in entries if len(e.drawn) > 1 for cells in e.drawn]
        scored = self._scored(many, TABLE_EPOCHS, "valid", "chosen", 1)
        best = max if self.measure.higher_is_better else min
        found = []
        for entry in entries:
            if entry.config:
                found.append(genotype.load(self.sweep.folder / entry.name))
            elif len(entry.drawn) == 1:
                found.append(entry.drawn[0])
            else:
                found.append(best(entry.drawn, key=lambda cells: scored[cells.hash()]))
        return found

    def scores(self, entries: Sequence[Entry], chosen: Sequence[Genotype], configs: Mapping) -> list[float]:
        """The score of every entry: accuracy in per cent, or perplexity."""
        of = [(cells, configs[entry.space, entry.method]) for entry, cells in zip(entries, chosen, strict=True)]
        scored = self._scored(of, 200, "test", "trainings", 0)
        return [scored[cells.hash()] for cells in chosen]

    def _scored(
        self, of: Sequence[tuple[Genotype, Config]], epochs: int, part: str, folder: str, seed: int
    ) -> dict[str, float]:
        """By hash, the scores of cells: from the table, or of short trainings in a folder, all with one seed."""
        known, jobs = {}, {}
        for cells, config in of:
            cell = nasbench201.cell_of(cells)
            if cell is not None:
                known[cells.hash()] = nasbench201.load(epochs).accuracy(cell, config.benchmark_data, part)
            else:
                jobs[cells.hash()] = self._job(folder, cells, config, seed=seed)
        check_all_done(self.pool.run(list(jobs.values())), self.sweep)
        scale = 100 if self.sweep.task.domain == "cnn" else 1
        curves = {hash: curve(self.sweep.folder / job.name, self.measure.name) for hash, job in jobs.items()}
        return known | {hash: scale * score(values, self.measure) for hash, values in curves.items()}
