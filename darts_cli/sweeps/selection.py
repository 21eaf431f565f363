"""Many seeds, short trainings, the best cell: how the paper chooses what it evaluates (sec. 3.2).

config.yaml       what was asked
seed-N/           the search of that seed, an ordinary run folder
select/seed-N/    the short training of the cells it found; select/random-K/ that of random ones
selection.yaml    candidates, validation curves, scores and their comparison, without clock times: equal for equal runs
genotype.yaml     the winner
report.md         protocol and result
"""

import random
from collections.abc import Sequence
from dataclasses import replace

import yaml

from darts_cli import DartsError, files, genotype
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.describe import collapsed
from darts_cli.genotype import Genotype, random_genotype
from darts_cli.sweeps.pool import Crew, Job
from darts_cli.sweeps.ranking import MEASURES, RULES, Candidate, compare, judged, rank, remarks, score, spread, summary
from darts_cli.sweeps.seeds import at_a_time, seed_options
from darts_cli.sweeps.sweep import Asked, Whole, curve, estimate, training

EPOCHS = {"cnn": 100, "rnn": 300}  # the paper's short trainings
TRAININGS = {"cnn": TrainCNN, "rnn": TrainRNN}


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
        further={"seeds": list(seeds), "select_epochs": epochs, "random_cells": random_cells},
        without=("seed",),
    )
    whole = Whole(f"search {domain} --seeds", asked, folder)
    searches = [Job(f"seed-{seed}", f"search {domain}", replace(config, seed=seed)) for seed in seeds]
    whole.check_data(domain)
    with Crew(whole.folder, whole.repeat(), parallel, config.device, quiet) as crew:
        whole.begin()
        if short is None:
            estimate(crew, searches)
            return _unranked(whole, domain, _found(crew, searches)), whole
        drawn = [Candidate(f"random-{k}", k, _draw(domain, k)) for k in range(random_cells)]
        estimate(crew, [*searches, *(_job(job.name, domain, short) for job in searches), *_jobs(drawn, domain, short)])
        found = _found(crew, searches)
        _check_left(whole, found, [each for each in found if each.cells])
        failed = crew.run(_jobs([*found, *drawn], domain, short))
        found, drawn = ([_trained(crew, each, domain, failed) for each in some] for some in (found, drawn))
        return _chosen(whole, domain, rank(found, domain), drawn, short), whole


def _draw(domain: str, seed: int) -> Genotype:
    source = f"drawn uniformly from the search space, seed {seed}"
    return replace(random_genotype(domain, random.Random(seed)), source=source)


def _job(name: str, domain: str, short: TrainCNN | TrainRNN, cells: Genotype | None = None) -> Job:
    return Job(f"select/{name}", f"select {domain}", short, cells)


def _jobs(candidates: Sequence[Candidate], domain: str, short: TrainCNN | TrainRNN) -> list[Job]:
    return [_job(each.name, domain, short, each.cells) for each in candidates if each.cells]


def _found(crew: Crew, searches: Sequence[Job]) -> list[Candidate]:
    """What the searches, which are done here, have found."""
    failed = crew.run(searches)
    return [
        Candidate(job.name, job.config.seed, None, failed=f"the search failed: {failed[job.name]}")
        if job.name in failed
        else Candidate(job.name, job.config.seed, genotype.load(crew.folder / job.name))
        for job in searches
    ]


def _trained(crew: Crew, candidate: Candidate, domain: str, failed: dict[str, str]) -> Candidate:
    """The candidate with the curve of its training."""
    name = f"select/{candidate.name}"
    if candidate.cells is None:
        return candidate
    if name in failed:
        return replace(candidate, failed=failed[name])
    return replace(candidate, curve=curve(crew.folder / name, MEASURES[domain]))


def _check_left(whole: Whole, found: Sequence[Candidate], left: Sequence[Candidate]) -> None:
    """Raises DartsError when no candidate is left."""
    if not left:
        reasons = "; ".join(f"{each.name}: {each.failed}" for each in found)
        raise DartsError(f"{whole.folder}: no candidate is left ({reasons}); the same command tries again: {whole.repeat()}")


def _unranked(whole: Whole, domain: str, found: list[Candidate]) -> Genotype | None:
    """Write what was found where nothing is trained; returns the cells of a single seed."""
    _check_left(whole, found, [each for each in found if each.cells])
    winner = found[0] if len(found) == 1 else None
    content = {"domain": domain, "winner": winner and winner.name, "protocol": None}
    content |= {"candidates": [_entry(each, domain) for each in found], "random_cells": []}
    _write(whole, content, winner, domain, found, "Nothing was trained, so nothing was chosen.")
    return winner and winner.cells


def _chosen(whole: Whole, domain: str, found: list[Candidate], drawn: list[Candidate], short: TrainCNN | TrainRNN) -> Genotype:
    """Write how the ranked candidates and the random cells compare; returns the winner."""
    valid = [each for each in found if each.curve]
    _check_left(whole, found, valid)
    rule = RULES[domain].format(len(judged(valid[0].curve, domain)))
    comparison = {
        "searched": summary(found, domain),
        "random": summary(drawn, domain),
        "first_two": compare(valid[0], valid[1], domain) if len(valid) > 1 else None,
    }
    said = remarks(short.epochs, comparison, domain)
    content = {
        "domain": domain,
        "winner": valid[0].name,
        "protocol": {"measure": MEASURES[domain], "rule": rule, "training": _plain(short)},
        "candidates": [_entry(each, domain, i) for i, each in enumerate(found, 1)],
        "random_cells": [_entry(each, domain) for each in drawn],
        **comparison,
        "remarks": said,
    }
    _write(whole, content, valid[0], domain, [*found, *drawn], _comparison(comparison, said, rule, domain, short))
    return valid[0].cells


def _write(
    whole: Whole, content: dict, winner: Candidate | None, domain: str, candidates: Sequence[Candidate], text: str
) -> None:
    """Write selection.yaml, the winner's genotype.yaml and the report."""
    form = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    files.write(whole.folder / "selection.yaml", form)
    if winner:
        genotype.save(winner.cells, whole.folder / "genotype.yaml")
    whole.report(_report(whole, domain, candidates, text, winner))


def _plain(config: TrainCNN | TrainRNN) -> dict:
    return {name: value for name, value in config.compared().items() if value is not None}


def _entry(candidate: Candidate, domain: str, place: int | None = None) -> dict:
    entry: dict = {"name": candidate.name, "seed": candidate.seed}
    if candidate.curve:
        entry |= {"rank": place} if place else {}
        entry |= {"score": score(candidate.curve, domain), "spread": spread(candidate.curve, domain)}
        entry |= {MEASURES[domain]: list(candidate.curve)}
    if candidate.failed:
        entry["failed"] = candidate.failed
    if candidate.cells:
        entry |= {"hash": candidate.cells.hash(), "genotype": candidate.cells.to_dict()}
    return entry


# ---- what is said


def _shown(value: float | None, domain: str) -> str:
    if value is None:
        return "none"
    return f"{100 * value:.2f} %" if domain == "cnn" else f"{value:.2f}"


def _comparison(comparison: dict, said: Sequence[str], rule: str, domain: str, short: TrainCNN | TrainRNN) -> str:
    """How the candidates were trained and compare, in words."""
    means = "; ".join(
        f"{name} {_shown(each['mean'], domain)}, deviation {_shown(each['deviation'], domain)} over {each['trained']}"
        for name, each in comparison.items()
        if name != "first_two" and each["trained"]
    )
    lines = [f"Each was trained for {short.epochs} epochs with seed {short.seed}; the test part was not opened.", f"{means}."]
    first_two = comparison["first_two"]
    if first_two and first_two["apart"] is not None:
        difference, noise = (_shown(first_two[name], domain) for name in ("difference", "noise"))
        lines.append(f"The first two are {difference} apart, {first_two['apart']:.1f} times the noise of {noise}.")
    lines += [f"**{each}**" for each in said]
    measure = MEASURES[domain].replace("_", " ")
    return (
        "\n".join(lines)
        + f"""

Score: {measure}, {rule}; random cells never win. Spread: sample deviation of the epochs that tell the score, or lie around it.
Noise: the root of the mean of the squared spreads of two candidates. It is that of epochs, not that of the training's seed."""
    )


def _report(whole: Whole, domain: str, candidates: Sequence[Candidate], text: str, winner: Candidate | None) -> str:
    rows = "\n".join(
        f"| {each.name} | {each.cells.hash() if each.cells else ''} | "
        + (
            f"{_shown(score(each.curve, domain), domain)} | {_shown(spread(each.curve, domain), domain)} |"
            if each.curve
            else f"{each.failed or 'found'} | |"
        )
        for each in candidates
    )
    cells = f"## The winner, {winner.name}\n\n```yaml\n{winner.cells.to_yaml()}```\n\n" if winner else ""
    if winner and collapsed(winner.cells):
        cells += f"**Warning:** {collapsed(winner.cells)}\n\n"
    return f"""# Selection of cells on {whole.config.dataset}

{text}

| candidate | hash | score | spread |
| --- | --- | --- | --- |
{rows}

{cells}Repeat with:

    {whole.repeat()}
"""
