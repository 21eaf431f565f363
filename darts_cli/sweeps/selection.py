"""Many seeds, short trainings, the best cell: how the paper chooses what it evaluates (sec. 3.2).

config.yaml       the settings
seed-N/           the search with that seed, an ordinary run folder
select/seed-N/    the short training of its cells; select/random-K/ that of random cells
selection.yaml    candidates, validation curves, scores and their comparison, without clock times: equal for equal runs
genotype.yaml     the winner
report.md         protocol and result; the SVG files beside it are what it shows
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import yaml

from darts_cli import DartsError, files, genotype
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.describe import FIGURES
from darts_cli.formats import nasbench201
from darts_cli.genotype import Genotype, random_genotype
from darts_cli.runs.shown.table import Row
from darts_cli.runs.task import Task
from darts_cli.spaces.space import Space
from darts_cli.sweeps.estimate import estimate
from darts_cli.sweeps.pool import Job, Pool
from darts_cli.sweeps.ranking import MEASURES, Candidate, Measure, compare, judged, rank, remarks, score, spread, summary
from darts_cli.sweeps.reports.selection import illustrate, report, table_of
from darts_cli.sweeps.seeds import HERE, Placement, seed_options
from darts_cli.sweeps.sweep import Sweep, SweepConfig, curve, short_options, short_settings, training
from darts_cli.text import counted, table

EPOCHS = {"cnn": 100, "rnn": 300}  # of the paper's short trainings
TABLE_EPOCHS = 12  # of those that NAS-Bench-201 has


def select(
    config: SearchCNN | SearchRNN,
    domain: str,
    seeds: Sequence[int],
    *,
    epochs: int | None = None,
    settings: Mapping[str, object] | None = None,
    from_table: bool = False,
    random_cells: int = 0,
    placement: Placement = HERE,
    folder: str | None = None,
    quiet: bool = False,
) -> tuple[Genotype | None, Sweep]:
    """Search with every seed, train the cells for `epochs`, and choose; or resume all this in that folder.

    `settings` are those of the trainings that are not by the recipe of the data set, such as {"channels": 8}.
    `from_table` takes validation accuracies after 12 epochs from NAS-Bench-201, in whose space the search must be, in place of
    the trainings.

    Returns the winner and the sweep. With epochs 0 nothing is trained, and only a single seed has a winner. Raises DartsError
    when every search or every training fails, and when interrupted.
    """
    choice = {"epochs": epochs, "settings": settings, "from_table": from_table, "random_cells": random_cells}
    short = short_training(config, domain, **choice)
    config, epochs = replace(config, seed=seeds[0]), short.epochs if short else 0
    given = short_settings(settings, Task("select", domain).config)
    settings = SweepConfig(
        config,
        name=f"seeds{len(seeds)}",
        options=(
            seed_options(seeds),
            "--select-from-table" if from_table else f"--select-epochs {epochs}",
            *short_options(given),
            f"--random-cells {random_cells}",
            *placement.options(),
        ),
        settings={
            **{"seeds": list(seeds), "select_epochs": epochs, "random_cells": random_cells, "select_from_table": from_table},
            "select_settings": given or None,
            **({"benchmark_data": config.benchmark_data} if from_table else {}),
        },
        replaced=("seed",),
    )
    sweep = Sweep(Task("search", domain, "seeds"), settings, folder, placement=placement)
    searches = [Job(f"seed-{seed}", Task("search", domain), replace(config, seed=seed)) for seed in seeds]
    drawn = [Candidate(f"random-{seed}", seed, _draw(config.searched, seed)) for seed in range(random_cells)]
    sweep.load_data()
    with Pool(sweep, placement, quiet) as pool:
        sweep.start()
        selection = _Selection(sweep, pool, MEASURES[domain], short, config.benchmark_data if from_table else None)
        trainings = [selection.job(job.name) for job in searches] if short else []
        trainings += [selection.job(cell.name, cell.cells) for cell in drawn] if short else []
        estimate(pool, [*searches, *trainings])
        searched = selection.search(searches)
        winner = selection.choose(searched, drawn) if short or from_table else selection.write_unranked(searched)
        return winner, sweep


def short_training(
    config: SearchCNN | SearchRNN,
    domain: str,
    *,
    epochs: int | None = None,
    settings: Mapping[str, object] | None = None,
    from_table: bool = False,
    random_cells: int = 0,
) -> TrainCNN | TrainRNN | None:
    """The configuration of the short trainings, of the values of the options; None where there are none.

    Raises DartsError for options that contradict each other.
    """
    kind = Task("select", domain).config
    given = short_settings(settings, kind)
    if from_table:
        _check_table(config, epochs, given)
        return None
    epochs = EPOCHS[domain] if epochs is None else epochs
    if random_cells and not epochs:
        raise DartsError("--random-cells: nothing is trained with --select-epochs 0; leave one of them out", exit_code=2)
    if given and not epochs:
        raise DartsError("--select-settings: nothing is trained with --select-epochs 0; leave one of them out", exit_code=2)
    return training(config, kind, given, epochs=epochs) if epochs else None


def _check_table(config: SearchCNN, epochs: int | None, given: Mapping) -> None:
    if epochs is not None or given:
        name = "--select-settings" if epochs is None else "--select-epochs"
        raise DartsError(f"--select-from-table: takes the place of trainings; leave {name} out", exit_code=2)
    if not nasbench201.holds(config.searched):
        raise DartsError("--select-from-table: the table has the cells of --space nas-bench-201 only", exit_code=2)


def _draw(space: Space, seed: int) -> Genotype:
    source = f"drawn uniformly from the search space, seed {seed}"
    return replace(random_genotype(space, random.Random(seed)), source=source)


def _row(entry: dict, kind: str) -> Row:
    """A candidate in TensorBoard's table: its seed and kind, its score, and the operations that pass their input on."""
    scores = {name: entry[name] for name in ("score", "spread", "rank") if entry.get(name) is not None}
    if "genotype" in entry:
        cells = Genotype.from_dict(entry["genotype"])
        figure = FIGURES[cells.macro]
        scores |= {f"{figure.identities} in {name}": cell.count(figure.identity) for name, cell in cells.cells.items()}
    return Row(entry["name"], {"kind": kind, "seed": entry["seed"]}, scores)


@dataclass(frozen=True)
class _Selection:
    """The steps of a selection, and what they write."""

    sweep: Sweep
    pool: Pool
    measure: Measure
    short: TrainCNN | TrainRNN | None  # the configuration of the short trainings
    table: str | None  # the data set whose accuracies in NAS-Bench-201 take their place

    def job(self, name: str, cells: Genotype | None = None) -> Job:
        return Job(f"select/{name}", Task("select", self.sweep.task.domain), self.short, cells)

    def search(self, jobs: Sequence[Job]) -> list[Candidate]:
        """Search; returns a candidate for each job. Raises DartsError when every search fails."""
        failed = self.pool.run(jobs)
        candidates = []
        for job in jobs:
            reason = f"the search failed: {failed[job.name]}" if job.name in failed else None
            cells = None if reason else genotype.load(self.pool.folder / job.name)
            candidates.append(Candidate(job.name, job.config.seed, cells, failed=reason))
        self._check_left(candidates, [candidate for candidate in candidates if candidate.cells])
        return candidates

    def choose(self, searched: Sequence[Candidate], drawn: Sequence[Candidate]) -> Genotype:
        """Train the candidates and the random cells, write how they compare, and return the winner."""
        jobs = [self.job(candidate.name, candidate.cells) for candidate in (*searched, *drawn) if candidate.cells]
        failed = {} if self.table else self.pool.run(jobs)
        searched = rank([self._with_curve(candidate, failed) for candidate in searched], self.measure)
        drawn = [self._with_curve(candidate, failed) for candidate in drawn]
        trained = [candidate for candidate in searched if candidate.curve]
        self._check_left(searched, trained)
        comparison = {
            "searched": summary(searched, self.measure),
            "random": summary(drawn, self.measure),
            "first_two": compare(trained[0], trained[1], self.measure) if len(trained) > 1 else None,
        }
        reasons = remarks(TABLE_EPOCHS if self.table else self.short.epochs, comparison, self.measure)
        rule = self.measure.rule.format(counted(len(judged(trained[0].curve, self.measure)), "epoch").removeprefix("1 "))
        content = {
            "domain": self.sweep.task.domain,
            "winner": trained[0].name,
            "protocol": {"measure": self.measure.name, "rule": rule, "training": self._training()},
            "candidates": [self._entry(candidate, number) for number, candidate in enumerate(searched, 1)],
            "random_cells": [self._entry(candidate) for candidate in drawn],
            **comparison,
            "remarks": reasons,
        }
        self._write(content, trained[0], [*searched, *drawn], self._comparison(comparison, reasons, rule))
        return trained[0].cells

    def write_unranked(self, searched: Sequence[Candidate]) -> Genotype | None:
        """Write the candidates where nothing is trained; returns the cells of a single seed."""
        winner = searched[0] if len(searched) == 1 else None
        content = {"domain": self.sweep.task.domain, "winner": winner and winner.name, "protocol": None}
        content |= {"candidates": [self._entry(candidate) for candidate in searched], "random_cells": []}
        self._write(content, winner, searched, "Nothing was trained, so nothing was chosen.")
        return winner and winner.cells

    def _with_curve(self, candidate: Candidate, failed: dict[str, str]) -> Candidate:
        if candidate.cells is None:
            return candidate
        if self.table:
            cell = nasbench201.cell_of(candidate.cells)
            accuracy = nasbench201.load(TABLE_EPOCHS).accuracy(cell, self.table, "valid")
            return replace(candidate, curve=(accuracy / 100,))
        name = f"select/{candidate.name}"
        if name in failed:
            return replace(candidate, failed=failed[name])
        return replace(candidate, curve=curve(self.pool.folder / name, self.measure.name))

    def _check_left(self, candidates: Sequence[Candidate], left: Sequence[Candidate]) -> None:
        if not left:
            reasons = "; ".join(f"{candidate.name}: {candidate.failed}" for candidate in candidates)
            raise DartsError(f"{self.sweep.folder}: every candidate failed ({reasons}); to retry: {self.sweep.resume()}")

    # ---- selection.yaml and report.md

    def _training(self) -> dict:
        """How the candidates were trained, in settings."""
        if self.table:
            return {"table": "NAS-Bench-201", "dataset": self.table, "epochs": TABLE_EPOCHS}
        return {name: value for name, value in self.short.compared().items() if value is not None}

    def _write(self, content: dict, winner: Candidate | None, candidates: Sequence[Candidate], text: str) -> None:
        form = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
        files.write(self.sweep.folder / "selection.yaml", form)
        if winner:
            genotype.save(winner.cells, self.sweep.folder / "genotype.yaml")
        self.sweep.show(
            [*(_row(e, "searched") for e in content["candidates"]), *(_row(e, "random") for e in content["random_cells"])]
        )
        rows = table_of(self.sweep.folder, candidates, self.measure, self.short)
        pictures = illustrate(self.sweep, candidates, winner, self.measure)
        self.sweep.report(report(self.sweep, rows, text, winner, pictures))
        self.pool.say(table(rows))

    def _entry(self, candidate: Candidate, number: int | None = None) -> dict:
        entry: dict = {"name": candidate.name, "seed": candidate.seed}
        if candidate.curve:
            entry |= {"rank": number} if number else {}
            entry |= {"score": score(candidate.curve, self.measure), "spread": spread(candidate.curve, self.measure)}
            entry |= {self.measure.name: list(candidate.curve)}
        if candidate.failed:
            entry["failed"] = candidate.failed
        if candidate.cells:
            entry |= {"hash": candidate.cells.hash(), "genotype": candidate.cells.to_dict()}
        return entry

    def _comparison(self, comparison: dict, reasons: Sequence[str], rule: str) -> str:
        """How the candidates were trained and compare, in words."""
        show = self.measure.show
        means = "; ".join(
            f"{name} {show(part['mean'])}, deviation {show(part['deviation'])} over {part['trained']}"
            for name, part in comparison.items()
            if name != "first_two" and part["trained"]
        )
        if self.table:
            lines = [f"The validation accuracies are those after {TABLE_EPOCHS} epochs on {self.table}, from NAS-Bench-201."]
        else:
            epochs, seed = self.short.epochs, self.short.seed
            lines = [f"Each candidate was trained for {counted(epochs, 'epoch')} with seed {seed}, without the test part."]
        lines += [f"{means}."]
        first_two = comparison["first_two"]
        if first_two and first_two["apart"] is not None:
            difference, noise = show(first_two["difference"]), show(first_two["noise"])
            lines.append(f"The first two are {difference} apart, {first_two['apart']:.1f} times the noise of {noise}.")
        lines += [f"**{reason}**" for reason in reasons]
        if self.table:
            return "\n".join(lines) + "\n\nThe highest wins; random cells never do."
        definitions = f"""

Score: {self.measure.name.replace("_", " ")}, {rule}; random cells never win. Spread: sample deviation of the judged epochs.
Noise: the root of the mean of the squared spreads of two candidates. It is the noise between epochs, not between seeds.
Parameters: of the network of the short training, for ten classes."""
        return "\n".join(lines) + definitions
