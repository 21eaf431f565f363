"""What a shell completes: published names, run folders and files."""

import glob
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from darts_cli.genotype import names
from darts_cli.spaces import space as spaces

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".tar")
GENOTYPE_SUFFIXES = (".yaml", ".yml")


class Dataset(click.Choice):
    """The name of a data set; of ImageNet, which some commands do not take, what to name instead."""

    def convert(self, value, param, ctx):
        if value == "imagenet" and "folder" in self.choices and value not in self.choices:
            remedy = "use --dataset folder --data DIR --image-size 64, which reads DIR/train, perhaps with --subset 0.1"
            self.fail(f"'imagenet' is for trainings and evaluations; {remedy}", param, ctx)
        return super().convert(value, param, ctx)


class Spelling(click.ParamType):
    """Text that spells a published name, a run folder or a file. Where none of them matches, the shell completes file names."""

    def __init__(self, metavar: str, *, published=False, domain=None, run_files=(), suffixes=(), fallback="file", spaces=False):
        self.name = metavar
        self.published = published  # whether published names fit
        self.spaces = spaces  # whether names of search spaces fit
        self.domain = domain  # of which domain; None: both
        self.run_files = run_files  # a run folder fits if it has one of these files
        self.suffixes = suffixes  # of files that fit
        self.fallback = fallback  # what the shell completes: "file" or "dir"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        spellings = dict.fromkeys([*self._names(incomplete), *self._paths(incomplete)])
        return [*map(CompletionItem, spellings)] or [CompletionItem(incomplete, type=self.fallback)]

    def _names(self, incomplete: str) -> list[str]:
        if self.spaces:
            return [name for name in spaces.names() if name.startswith(incomplete)]
        known = names(self.domain) if self.published else []
        short = [name.rpartition("/")[2] for name in known]
        known += [name for name in short if short.count(name) == 1]
        lower = [name.lower() for name in known if name.lower().startswith(incomplete)]
        return lower or [name for name in known if name.startswith(incomplete)]

    def _paths(self, incomplete: str) -> Iterator[str]:
        for pattern in (glob.escape(incomplete) + "*", "runs/*"):
            for path in sorted(glob.glob(pattern)):
                fits = path.endswith(self.suffixes) or any(Path(path, name).exists() for name in self.run_files)
                if fits and path.startswith(incomplete):
                    yield path


FILE = Spelling("FILE")
DIR = Spelling("DIR", fallback="dir")
GENOTYPE = Spelling("NAME|FILE|RUN", published=True, run_files=("genotype.yaml",), suffixes=GENOTYPE_SUFFIXES)
CHECKPOINT = Spelling("RUN|FILE", run_files=("checkpoint.pt", "best.pt"), suffixes=CHECKPOINT_SUFFIXES)
SUBJECT = Spelling("GENOTYPE|RUN", published=True, run_files=("config.yaml",), suffixes=GENOTYPE_SUFFIXES)
SPACE = Spelling("NAME|FILE|RUN", spaces=True, run_files=("config.yaml",), suffixes=GENOTYPE_SUFFIXES)
