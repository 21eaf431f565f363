"""Whose folder a run folder is: config.yaml, written once and compared with every command that names the folder."""

import errno
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from darts_cli import DartsError, files
from darts_cli import genotype as genotypes
from darts_cli.genotype import Genotype
from darts_cli.runs.task import Task
from darts_cli.schema import Config, option_name
from darts_cli.spaces.rules import genotype_problems


@dataclass(frozen=True)
class Identity:
    """A task, its configuration (or that of a sweep), the cells it trains if any, and the folder it belongs to."""

    task: Task
    config: Config
    genotype: Genotype | None
    folder: Path
    named: bool  # whether the folder was given with --run

    @classmethod
    def of(cls, task: Task, config: Config, folder: str | Path | None, genotype: Genotype | None) -> "Identity":
        """Without a folder it is runs/STAGE-DOMAIN-DATASET-seedN-HASH: equal settings and cells find the same folder again."""
        default = Path("runs") / config.folder_name(task.command, genotype)
        return cls(task, config, genotype, default if folder is None else Path(folder), folder is not None)

    def check(self) -> None:
        """Raises DartsError when the folder cannot be used, or belongs to another run, naming what differs."""
        path = self.folder / "config.yaml"
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise DartsError(f"{self.folder}: is a file, not a run folder; choose another folder with --run")
            if not path.exists():
                self._check_unused()
                return
        except OSError as error:
            raise self._unusable(error) from None
        data = files.read_yaml(path)
        if not isinstance(data, dict) or "command" not in data:
            raise DartsError(f"{path}: is not the configuration of a run; choose another folder with --run")
        if data["command"] != str(self.task):
            raise DartsError(f"{self.folder}: is the run folder of darts {data['command']}; choose another folder with --run")
        if not self.same_cells(data.get("genotype")):
            raise DartsError(f"{self.folder}: is a run of another --genotype; choose another folder with --run")
        known = self.config.completed(data)
        named = {"space": self.config.space} if hasattr(self.config, "space") else {}  # compared without its name
        differing = [
            f"{option_name(key)} was {_shown(known[key], named.get(key))}, now {_shown(named.get(key, value))}"
            for key, value in self.config.compared().items()
            if _compared(known[key]) != _compared(value)
        ]
        if differing:
            raise DartsError(f"{self.folder}: is a run with other settings ({'; '.join(differing)}); {self._remedy(known)}")

    def write(self, environment: dict[str, str], fingerprint: str) -> None:
        """Write config.yaml, or in one that is there only where the data are now; write the cells that are trained.

        Raises DartsError as `check` does, and when config.yaml names another fingerprint of the data.
        """
        self.check()  # again: another run may have started here since
        path = self.folder / "config.yaml"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise PermissionError(errno.EACCES, "Permission denied")
            exists = path.exists()
        except OSError as error:
            raise self._unusable(error) from None
        data_folder = self.config.data and os.path.abspath(self.config.data)  # so that eval finds it from anywhere
        if exists:
            content = files.read_yaml(path)
            known = content.get("environment") if isinstance(content, dict) else None
            if not isinstance(known, dict) or known.get("data") != fingerprint:
                raise DartsError(
                    f"{self.folder}: is a run on other data with the same settings; choose another folder with --run"
                )
            if content.get("data") != data_folder:
                files.write(path, yaml.safe_dump(content | {"data": data_folder}, sort_keys=False))
        else:
            cells = {} if self.genotype is None else {"genotype": self.genotype.to_dict()}
            content = {"command": str(self.task), **cells, **self.config.to_dict(), "data": data_folder}
            content["environment"] = environment | {"data": fingerprint}
            files.write(path, yaml.safe_dump(content, sort_keys=False))
        if self.genotype is not None:
            genotypes.save(self.genotype, self.folder / "genotype.yaml")

    def _remedy(self, known: dict) -> str:
        """What to do about settings that differ from those of the run."""
        changed = {key for key, value in self.config.compared().items() if _compared(known[key]) != _compared(value)}
        if changed == {"epochs"} and self.task.sweep is None and known["epochs"] < self.config.epochs:
            return "add --extend to go on from its last epoch, or choose another folder with --run"
        if self.task.stage == "train" and self.task.sweep is None:
            start = f"to begin with its weights --init-from {shlex.quote(str(self.folder))}"
            return f"choose another folder with --run, and {start}"
        return "choose another folder with --run"

    def check_extension(self) -> None:
        """Raises DartsError where the folder has no run from which nothing differs but that this one has more epochs."""
        path = self.folder / "config.yaml"
        if not self.named:
            raise DartsError("--extend: name the folder of the run that is to go on with --run", exit_code=2)
        if not path.exists():
            raise DartsError(f"--extend: {self.folder} holds no run that could go on; name its folder with --run", exit_code=2)
        content = files.read_yaml(path)
        epochs = content.get("epochs") if isinstance(content, dict) else None
        if type(epochs) is not int or epochs > self.config.epochs:
            raise DartsError(f"--extend: {self.folder} has {epochs} epochs; give more with --epochs", exit_code=2)
        replace(self, config=replace(self.config, epochs=epochs)).check()

    def extend(self) -> None:
        """Give the run in the folder the epochs of this configuration; config.yaml notes how many it had."""
        path = self.folder / "config.yaml"
        content = files.read_yaml(path)
        if content["epochs"] < self.config.epochs:
            extended = [*content.get("extended", []), content["epochs"]]
            files.write(path, yaml.safe_dump(content | {"epochs": self.config.epochs, "extended": extended}, sort_keys=False))

    def about(self) -> dict:
        """What every checkpoint says of its run, besides the data set."""
        cells = None if self.genotype is None else self.genotype.to_dict()
        return {"command": str(self.task), "config": self.config.compared(), "genotype": cells}

    def same_cells(self, data: object) -> bool:
        """Whether these are, in plain form, the cells that this run trains; None is those of a search."""
        if self.genotype is None:
            return data is None
        return not genotype_problems(data) and Genotype.from_dict(data) == self.genotype

    def repeat(self) -> str:
        """The command that repeats this run in another folder; of a run that was extended, its commands one after another.

        It needs nothing of this folder but a space that was read from a file.
        """
        former = self.extended()
        cells = self.genotype and self.genotype.to_json()
        if not former:
            return self._command(self.config, cells)
        epochs = (*former, self.config.epochs)
        first, *others = [f"{self._command(replace(self.config, epochs=some), cells)} --run again" for some in epochs]
        return " && ".join([first, *(f"{command} --extend" for command in others)])

    def extended(self) -> list[int]:
        """The epochs that the run had before it was given more; none where it was not."""
        path = self.folder / "config.yaml"
        content = files.read_yaml(path) if path.exists() else None
        return (isinstance(content, dict) and content.get("extended")) or []

    def resume(self) -> str:
        """The command that resumes this run."""
        command = self._command(self.config, str(self.folder / "genotype.yaml"))
        return f"{command} --run {shlex.quote(str(self.folder))}" if self.named else command

    def _command(self, config: Config, cells: str | None) -> str:
        """The command of a configuration, which trains these cells if any, or published ones by their name."""
        genotype = [] if self.genotype is None else [f"--genotype {shlex.quote(self.published_name().lower() or cells)}"]
        return " ".join([f"darts {self.task.command}", *genotype, *config.arguments(self.folder)])

    def published_name(self) -> str:
        """Of a training of published cells: DOMAIN/NAME; otherwise nothing."""
        name = f"{self.genotype.domain}/{self.genotype.name}"
        return name if name in genotypes.names() and genotypes.load(name) == self.genotype else ""

    def _check_unused(self) -> None:
        if self.folder.exists() and any(not path.name.startswith(".") for path in self.folder.iterdir()):
            raise DartsError(f"{self.folder}: holds other files and no config.yaml; choose a new or empty folder with --run")
        above = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        if not os.access(above, os.W_OK):
            raise PermissionError(errno.EACCES, "Permission denied")

    def _unusable(self, error: OSError) -> DartsError:
        return DartsError(f"{self.folder}: cannot be used as run folder ({error.strerror}); choose another folder with --run")


def _shown(value: object, other: object = None) -> object:
    """A value in a message: a space by its name, which another one may have too."""
    if not isinstance(value, dict):
        return value
    if "cells" not in value:  # no space
        return ",".join(f"{name}={item}" for name, item in value.items())
    name = value.get("name", "one without a name")
    return f"another {name}" if isinstance(other, dict) and other.get("name") == value.get("name") else name


def _compared(value: object) -> object:
    """A value as it is compared: a space without its name."""
    return {key: item for key, item in value.items() if key != "name"} if isinstance(value, dict) else value


def environment_of(folder: Path) -> str:
    """What config.yaml of a run says of the program and the machine, in words."""
    path = folder / "config.yaml"
    known = files.read_yaml(path).get("environment") if path.exists() else None
    values = known.items() if isinstance(known, dict) else ()
    return ", ".join(f"{name} {value}" for name, value in values if name != "data")
