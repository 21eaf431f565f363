"""The classes of labelled images: a split that keeps their shares, what should be said of them, and what each is worth."""

import math

import torch
from torch import Tensor

from darts_cli.cnn.datasets.batches import Dataset
from darts_cli.cnn.datasets.imagenet import FileDataset
from darts_cli.text import printable, some

UNEVEN = 10  # times as many images in the largest class as in the smallest are said


def first_of_each(labels: Tensor, count: int) -> Tensor:
    """Which positions (N,) of the labels (N,) belong to a first part of about `count`: the first ones of every class.

    Each class gives its share, rounded so that the shares add up to `count`, but at least one image and at most all but one;
    a class with a single image gives it.
    """
    sizes = torch.bincount(labels)
    exact = [count * size / len(labels) for size in sizes.tolist()]
    taken = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda k: taken[k] - exact[k])
    for k in by_remainder[: count - sum(taken)]:
        taken[k] += 1
    taken = [min(size, max(1, min(share, size - 1))) for share, size in zip(taken, sizes.tolist(), strict=True)]
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for k, share in enumerate(taken):
        chosen[(labels == k).nonzero()[:share, 0]] = True
    return chosen


def notes(dataset: Dataset | FileDataset) -> list[str]:
    """What should be said of the classes: those without an image, those with one, and very uneven ones."""
    counts = torch.bincount(dataset.labels, minlength=len(dataset.classes)).tolist()
    named = list(zip(map(printable, dataset.classes), counts, strict=True))
    said = []
    for count, words in ((0, "no image"), (1, "a single image")):
        names = [name for name, images in named if images == count]
        if names:
            said.append(f"warning: {some(names)} {'has' if len(names) == 1 else 'have'} {words} here")
    (smallest, least), (largest, most) = (choice(named, key=lambda item: item[1]) for choice in (min, max))
    if least and most >= UNEVEN * least:
        said.append(
            f"warning: {largest} has {most / least:.0f} times the images of {smallest}; always to answer {largest} is right "
            f"for {most / sum(counts):.0%}, so see the accuracy of each class too: darts eval --per-class"
        )
    return said


def unlike(train: Dataset, valid: Dataset) -> list[str]:
    """What should be said of two halves, of which one has no image of a class."""
    counts = [torch.bincount(half.labels, minlength=len(half.classes)).tolist() for half in (train, valid)]
    said = []
    for half, here, there in (("training", *counts), ("validation", *counts[::-1])):
        lost = {printable(name): many for name, few, many in zip(train.classes, here, there, strict=True) if many and not few}
        if lost:
            remedy = "; --split stratified gives both halves every class of two images or more"
            helps = max(lost.values()) > 1
            said.append(f"warning: the {half} half has no image of {some(list(lost))}{remedy if helps else ''}")
    return said


def by_class(confusion: Tensor, classes: list[str]) -> dict[str, dict]:
    """By class, how many images it has, and the share that was recognised, None without images.

    confusion   how many images (true class, predicted class) there were, (C, C)
    """
    counts, right = confusion.sum(1).tolist(), confusion.diagonal().tolist()
    return {
        name: {"images": count, "accuracy": hits / count if count else None}
        for name, count, hits in zip(classes, counts, right, strict=True)
    }


def balanced_accuracy(confusion: Tensor) -> float:
    """The mean accuracy of the classes that have images; see `by_class`."""
    counts = confusion.sum(1)
    return float((confusion.diagonal()[counts > 0] / counts[counts > 0]).double().mean())
