"""Many seeds, short trainings, the best cell: how the paper chooses what it evaluates (sec. 3.2).

config.yaml       what was asked
seed-N/           the search of that seed, an ordinary run folder
select/seed-N/    the short training of the cells it found; select/random-K/ that of random ones
selection.yaml    candidates, validation curves, scores and their comparison, without clock times: equal for equal runs
genotype.yaml     the winner
report.md         protocol and result
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import yaml

from darts_cli import DartsError, files, genotype
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.genotype import Genotype, random_genotype
from darts_cli.jobs import Crew, Job
from darts_cli.seeds import at_a_time, seed_options
from darts_cli.structure import collapsed
from darts_cli.whole import Asked, Whole, curve, estimate, training

LAST = 5  # epochs at the end of a curve that tell its noise
EPOCHS = {"cnn": 100, "rnn": 300}  # the paper's short trainings
TRAININGS = {"cnn": TrainCNN, "rnn": TrainRNN}
MEASURES = {"cnn": "valid_accuracy", "rnn": "valid_perplexity"}
RULES = {"cnn": f"mean of the last {LAST} epochs; the highest wins", "rnn": "lowest of all epochs; the lowest wins"}


@dataclass(frozen=True)
class Candidate:
    """Cells and how their short training went; without a curve where it, or the search, failed, or none was asked for."""

    name: str
    seed: int
    cells: Genotype | None
    curve: tuple[float, ...] = ()  # of every epoch: validation accuracy, or perplexity of a word
    failed: str | None = None


def score(curve: Sequence[float], domain: str) -> float:
    """What candidates are ranked by.

    cnn: the mean validation accuracy of the last five epochs, more is better: the learning rate ends at zero there, and a mean
    is less noisy than the last. rnn: the lowest validation perplexity, less is better: a training keeps that epoch's network.
    """
    return statistics.mean(curve[-LAST:]) if domain == "cnn" else min(curve)


def spread(curve: Sequence[float]) -> float | None:
    """Sample deviation of the last five epochs (or of all, if fewer); None of a single one."""
    return statistics.stdev(curve[-LAST:]) if len(curve) > 1 else None


def rank(candidates: Sequence[Candidate], domain: str) -> list[Candidate]:
    """The best first; ties in the order given; those without a curve, or with one that is not finite, last."""

    def key(candidate: Candidate) -> float:
        if not candidate.curve or not all(map(math.isfinite, candidate.curve)):
            return math.inf
        value = score(candidate.curve, domain)
        return -value if domain == "cnn" else value

    return sorted(candidates, key=key)


def compare(first: Candidate, second: Candidate, domain: str) -> dict:
    """How far apart two candidates are.

    The difference of their scores; the noise, which is the root of the mean of their squared spreads; and the ratio of the two,
    None where there is no noise to divide by.
    """
    difference = abs(score(first.curve, domain) - score(second.curve, domain))
    spreads = [spread(each.curve) for each in (first, second)]
    noise = None if None in spreads else math.sqrt(statistics.mean(each**2 for each in spreads))
    return {"difference": difference, "noise": noise, "apart": difference / noise if noise else None}


def summary(candidates: Sequence[Candidate], domain: str) -> dict:
    """Mean and sample deviation of the scores of those that were trained."""
    scores = [score(each.curve, domain) for each in candidates if each.curve]
    mean = statistics.mean(scores) if scores else None
    return {"trained": len(scores), "mean": mean, "deviation": statistics.stdev(scores) if len(scores) > 1 else None}


# ---- the protocol


def select(
    config: SearchCNN | SearchRNN,
    domain: str,
    seeds: Sequence[int],
    *,
    epochs: int | None = None,
    random_cells: int = 0,
    parallel: str | int = 1,
    folder: str | None = None,
    quiet: bool = False,
) -> tuple[Genotype | None, Whole]:
    """Search with every seed, train what was found for `epochs`, and choose; or go on with all this in that folder.

    Returns the winner and the folder. Without epochs nothing is trained, and only a single seed has a winner. Raises DartsError
    when no search, or no training, succeeds, and when interrupted.
    """
    epochs = EPOCHS[domain] if epochs is None else epochs
    if random_cells and not epochs:
        raise DartsError("--random-cells: nothing is trained with --select-epochs 0; leave one of them out", exit_code=2)
    config = replace(config, seed=seeds[0])
    short = training(config, TRAININGS[domain], epochs=epochs) if epochs else None
    asked = Asked(
        config,
        name=f"seeds{len(seeds)}",
        options=(*seed_options(seeds), f"--select-epochs {epochs}", f"--random-cells {random_cells}", *at_a_time(parallel)),
        further={
            "seeds": list(seeds),
            "select_epochs": epochs,
            "random_cells": random_cells,
        },
        without=("seed",),
    )
    whole = Whole(f"search {domain} --seeds", asked, folder)
    searches = [Job(f"seed-{seed}", f"search {domain}", replace(config, seed=seed)) for seed in seeds]
    drawn = [Candidate(f"random-{k}", k, _draw(domain, k)) for k in range(random_cells)]
    whole.check_data(domain)
    with Crew(whole.folder, whole.repeat(), parallel, config.device, quiet) as crew:
        whole.begin()
        planned = [_job(f"{job.name}", domain, short, None) for job in searches] if short else []
        planned += [_job(each.name, domain, short, each.cells) for each in drawn]
        estimate(crew, [*searches, *planned])
        failed = crew.run(searches)
        found = [_found(crew, job, failed.get(job.name)) for job in searches]
        if short and any(each.cells for each in found):
            failed |= crew.run([_job(each.name, domain, short, each.cells) for each in (*found, *drawn) if each.cells])
            found, drawn = ([_trained(crew, each, domain, failed) for each in some] for some in (found, drawn))
        return _conclude(whole, domain, rank(found, domain), drawn, short), whole


def _draw(domain: str, seed: int) -> Genotype:
    source = f"drawn uniformly from the search space, seed {seed}"
    return replace(random_genotype(domain, random.Random(seed)), source=source)


def _job(name: str, domain: str, short: TrainCNN | TrainRNN, cells: Genotype | None) -> Job:
    return Job(f"select/{name}", f"select {domain}", short, cells)


def _found(crew: Crew, job: Job, reason: str | None) -> Candidate:
    cells = None if reason else genotype.load(crew.folder / job.name)
    return Candidate(job.name, job.config.seed, cells, failed=reason and f"the search failed: {reason}")


def _trained(crew: Crew, candidate: Candidate, domain: str, failed: dict[str, str]) -> Candidate:
    """The candidate with the curve of its training."""
    name = f"select/{candidate.name}"
    if candidate.cells is None:
        return candidate
    if name in failed:
        return replace(candidate, failed=failed[name])
    return replace(candidate, curve=curve(crew.folder / name, MEASURES[domain]))


def _conclude(
    whole: Whole, domain: str, found: list[Candidate], drawn: list[Candidate], short: TrainCNN | TrainRNN | None
) -> Genotype | None:
    """Write what came out; returns the winner. Raises DartsError when there is no candidate left."""
    valid = [each for each in found if each.curve]
    if not valid and (short or not any(each.cells for each in found)):
        reasons = "; ".join(f"{each.name}: {each.failed}" for each in found)
        raise DartsError(f"{whole.folder}: no candidate is left ({reasons}); the same command tries again: {whole.repeat()}")
    winner = (valid[0] if short else found[0] if len(found) == 1 else None) if found else None
    comparison = {"searched": summary(found, domain), "random": summary(drawn, domain)}
    comparison["first_two"] = compare(valid[0], valid[1], domain) if len(valid) > 1 else None
    content = {
        "domain": domain,
        "winner": winner and winner.name,
        "protocol": short and {"measure": MEASURES[domain], "rule": RULES[domain], "training": _plain(short)},
        "candidates": [_entry(each, domain, i if each.curve or not short else None) for i, each in enumerate(found, 1)],
        "random_cells": [_entry(each, domain, None) for each in drawn],
        **(comparison if short else {}),
    }
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    files.write(whole.folder / "selection.yaml", text)
    if winner:
        genotype.save(winner.cells, whole.folder / "genotype.yaml")
    whole.report(_report(whole, domain, found, drawn, comparison, short, winner))
    return winner and winner.cells


def _plain(config: TrainCNN | TrainRNN) -> dict:
    return {name: value for name, value in config.compared().items() if value is not None}


def _entry(candidate: Candidate, domain: str, place: int | None) -> dict:
    entry: dict = {"name": candidate.name, "seed": candidate.seed}
    if candidate.curve:
        entry |= {"rank": place} if place else {}
        entry |= {"score": score(candidate.curve, domain), "spread": spread(candidate.curve)}
        entry |= {MEASURES[domain]: list(candidate.curve)}
    if candidate.failed:
        entry["failed"] = candidate.failed
    if candidate.cells:
        entry |= {"hash": candidate.cells.hash(), "genotype": candidate.cells.to_dict()}
    return entry


def _shown(value: float | None, domain: str) -> str:
    if value is None:
        return "none"
    return f"{100 * value:.2f} %" if domain == "cnn" else f"{value:.2f}"


def _report(
    whole: Whole,
    domain: str,
    found: list[Candidate],
    drawn: list[Candidate],
    comparison: dict,
    short: TrainCNN | TrainRNN | None,
    winner: Candidate | None,
) -> str:
    rows = "\n".join(
        f"| {each.name} | {each.cells.hash() if each.cells else ''} | "
        + (
            f"{_shown(score(each.curve, domain), domain)} | {_shown(spread(each.curve), domain)} |"
            if each.curve
            else f"{each.failed or 'found'} | |"
        )
        for each in (*found, *drawn)
    )
    if not short:
        text = "Nothing was trained, so nothing was chosen."
    else:
        means = "; ".join(
            f"{name} {_shown(each['mean'], domain)}, deviation {_shown(each['deviation'], domain)} over {each['trained']}"
            for name, each in comparison.items()
            if name != "first_two" and each["trained"]
        )
        text = f"Each was trained for {short.epochs} epochs with seed {short.seed}; the test part was not opened.\n{means}."
        first_two = comparison["first_two"]
        if first_two and first_two["apart"] is not None:
            difference, noise = (_shown(first_two[name], domain) for name in ("difference", "noise"))
            text += f"\nThe first two are {difference} apart, {first_two['apart']:.1f} times the noise of {noise}."
    cells = f"## The winner, {winner.name}\n\n```yaml\n{winner.cells.to_yaml()}```\n\n" if winner else ""
    if winner and collapsed(winner.cells):
        cells += f"**Warning:** {collapsed(winner.cells)}\n\n"
    return f"""# Selection of cells on {whole.config.config.dataset}

{text}
Score: {MEASURES[domain].replace("_", " ")}, {RULES[domain]}. Spread: deviation of the last {LAST} epochs;
noise: the root of the mean of the squared spreads of two candidates. Random cells never win.

| candidate | hash | score | spread |
| --- | --- | --- | --- |
{rows}

{cells}Repeat with:

    {whole.repeat()}
"""
