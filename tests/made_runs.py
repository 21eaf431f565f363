"""Run folders made without a network: every epoch is invented, but written by the same Run as a real one."""

import random

import torch
import yaml

from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.genotype import load, random_genotype
from darts_cli.methods.derive import derive
from darts_cli.runs.run import Run
from darts_cli.runs.task import Task
from darts_cli.spaces.space import default

EPOCHS = 4  # not the default of a recipe: the command that repeats the run names it


def record_search(domain, folder, epochs=EPOCHS, data=None):
    """A search of which every epoch moved alpha; through the same Run as a real one."""
    config = (
        SearchCNN(dataset="digits", epochs=epochs, data=data) if domain == "cnn" else SearchRNN(dataset="pydoc", epochs=epochs)
    )
    run = Run(Task("search", domain), config, folder)
    run.start({}, {"fingerprint": "none"})
    rng = random.Random(0)
    for epoch in range(1, epochs + 1):
        run.reports.record(*search_record(domain, epoch, rng))
    return run


def search_record(domain, epoch, rng):
    """The record of an epoch, and its cells."""
    space = default(domain)
    tables = {cell: [[rng.gauss(0, 1) for _ in row] for row in space.choices(cell)] for cell in space.cells}
    weights = {cell: torch.tensor(table).softmax(-1).tolist() for cell, table in tables.items()}
    cells = derive(weights, space)
    measures = ("loss", "accuracy") if domain == "cnn" else ("loss", "perplexity")
    numbers = {f"{part}_{m}": 1 / (epoch + k + 1) for k, part in enumerate(("train", "valid")) for m in measures}
    return {
        "epoch": epoch,
        **numbers,
        "entropy": 1.0,
        "genotype": cells.to_dict(),
        "alphas": tables,
        "operation_weights": weights,
    }, cells


def record_training(domain, folder, epochs=EPOCHS, offset=0.0):
    kind = TrainCNN(dataset="digits", epochs=epochs) if domain == "cnn" else TrainRNN(dataset="pydoc", epochs=epochs)
    run = Run(Task("train", domain), kind, folder, load(f"{domain}/darts_v2"))
    run.start({}, {"fingerprint": "none"})
    for epoch in range(epochs):
        value = offset + 1 / (epoch + 2)
        if domain == "cnn":
            numbers = {"train_loss": value, "train_accuracy": 1 - value, "test_loss": value, "test_accuracy": 1 - value / 2}
        else:
            numbers = {
                "train_loss": value,
                "train_perplexity": 100 * value,
                "valid_loss": value,
                "valid_perplexity": 90 * value,
            }
        run.reports.record({"epoch": epoch + 1, **numbers})
    return run


def record_repeats(domain, folder, finished=3):
    """The folder of `darts train --repeats` with one training more than have finished."""
    for seed in range(finished + 1):
        run = record_training(domain, folder / f"seed-{seed}", offset=0.1 * seed)
        if seed < finished:
            run.reports.write("the end")
    cells = run.genotype.to_dict()
    content = {"command": f"train {domain} --repeats", "genotype": cells, "seed": 0, "repeats": finished + 1}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    (folder / "genotype.yaml").write_text(yaml.safe_dump(cells))
    (folder / "report.md").write_text("# Trainings\n\nRepeat with:\n\n    darts train cnn --repeats 4\n")


def record_sweep(domain, folder, searched=3, drawn=2):
    """The folder of a sweep over seeds as `darts search --seeds` leaves it, with invented scores; returns its selection."""
    rng, measure = random.Random(1), {"cnn": "valid_accuracy", "rnn": "valid_perplexity"}[domain]

    def entry(name, seed):
        cells, curve = random_genotype(default(domain), rng), [rng.uniform(0.5, 0.9) for _ in range(6)]
        score = {"score": curve[-1], "spread": 0.01, measure: curve}
        return {"name": name, "seed": seed, **score, "hash": cells.hash(), "genotype": cells.to_dict()}

    content = {
        "domain": domain,
        "winner": "seed-0",
        "protocol": {"measure": measure, "rule": "mean of the last 3 epochs; the highest wins", "training": {}},
        "candidates": [entry(f"seed-{seed}", seed) for seed in range(searched)],
        "random_cells": [entry(f"random-{seed}", seed) for seed in range(drawn)],
        "remarks": ["A remark <of> the sweep."],
    }
    folder.mkdir()
    (folder / "config.yaml").write_text(f"command: search {domain} --seeds\n")
    (folder / "selection.yaml").write_text(yaml.safe_dump(content))
    (folder / "genotype.yaml").write_text(yaml.safe_dump(content["candidates"][0]["genotype"]))
    (folder / "report.md").write_text("# Selection\n\nRepeat with:\n\n    darts search cnn --seeds 3\n")
    return content
