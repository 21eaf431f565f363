"""What the configurations of searches have in common: the space, the method, and the rules that stop."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from darts_cli import DartsError
from darts_cli.guard import rules
from darts_cli.methods.catalogue import INPUTS
from darts_cli.methods.spec import Spec, read
from darts_cli.schema import Config, Setting
from darts_cli.settings.shared import check_tokens
from darts_cli.spaces.choose import choose, is_shipped
from darts_cli.spaces.space import DEFAULTS, Space
from darts_cli.text import counted


class SearchConfig(Config):
    """The configuration of a search, which has a space."""

    domain: ClassVar[str]

    def __post_init__(self):
        for name in ("space", "operations", "nodes", "method"):
            self._check_one(self.settings()[name])
        self._set("method", str(read(self.method, self.domain)))
        named, searched = choose(self.domain, self.space, self.operations, self.nodes)
        if self.operations is None and self.spec.without_none and named.keep is not None and "none" in named.operations:
            self._set("operations", ",".join(op for op in searched.operations if op != "none"))
            named, searched = choose(self.domain, self.space, self.operations, self.nodes)
        self._set("space", named.name if is_shipped(named) else named.to_dict())
        if self.operations is not None:
            self._set("operations", ",".join(searched.operations))
        super().__post_init__()
        if self.domain == "rnn":
            check_tokens(self.dataset, self.tokens)
        if self.exact and (self.precision != "fp32" or self.compile):
            raise DartsError("--unrolled exact: needs --precision fp32 and --no-compile", exit_code=2)
        for part in ("max-skips", "skip-dropout"):
            if part in self.spec.parts and not self._has_skips():
                raise DartsError(f"--method: {part}: no edge of this search has a skip connection", exit_code=2)
        if getattr(self, "stop", "").startswith("skips") and not self._has_skips():
            raise DartsError("--stop skips: no edge of this search has a skip connection", exit_code=2)
        if "uniform" in self.spec.parts:
            self._check_inputs()
        narrow = self.spec.parts.get("narrow")
        if narrow:
            self._check_stages(int(narrow["second"]), int(narrow["third"]))

    def _has_skips(self) -> bool:
        return "skip_connect" in self.searched.operations

    def _check_inputs(self) -> None:
        """Check that the architectures which `uniform` draws have as many inputs as the cells that are derived."""
        keep = self.searched.keep
        for cell in self.searched.cells:
            if INPUTS.get(cell) != keep:
                drawn = counted(INPUTS[cell], "input") if cell in INPUTS else "all inputs"
                kept = "all" if keep is None else keep
                said = f"draws {drawn} for every node of {cell} cells, but this space keeps {kept}; use another method"
                raise DartsError(f"--method: {self.spec.name or 'uniform'}: {said}", exit_code=2)

    def _check_stages(self, second: int, third: int) -> None:
        """Check that every stage has an epoch, and fewer operations than the one before."""
        whole, stages = min(len(ops) for cell in self.searched.cells for ops in self.searched.choices(cell)), 3 if third else 2
        if not whole > second > third:
            raise DartsError(
                f"--method: narrow keeps {second}, then {third} operations of {whole}; every stage must keep fewer", exit_code=2
            )
        if self.searched.keep is not None and (third or second) < 2:
            raise DartsError(f"--method: narrow: the last stage must keep at least 2 operations, not {third}", exit_code=2)
        if self.epochs < stages:
            raise DartsError(f"--epochs {self.epochs}: narrow has {stages} stages, each of which needs an epoch", exit_code=2)

    @property
    def exact(self) -> bool:
        """Whether the second order is without the finite difference of eq. 8."""
        return self.unrolled == "exact"

    @property
    def order(self) -> str:
        """The order of the hypergradient, in words."""
        return "exact second" if self.exact else "second" if self.unrolled else "first"

    def stopped(self, records: Sequence[Mapping]) -> tuple[int, int] | None:
        """The epoch after which the search has stopped, and the one whose cells it takes, from 0; None while it goes on."""
        return None

    def ending(self, records: Sequence[Mapping]) -> str:
        """That a rule has ended the search, and whose cells it takes; nothing where none has."""
        found = self.stopped(records)
        if found is None:
            return ""
        return f"The search stopped after epoch {found[0] + 1}, by {self.stop}; the cells are those of epoch {found[1] + 1}."

    @property
    def searched(self) -> Space:
        """The space that is searched: with the operations and the nodes that are set."""
        return choose(self.domain, self.space, self.operations, self.nodes)[1]

    def among(self) -> str:
        """Where and how the search differs from DARTS, in words; nothing where it does not."""
        default = self.space == DEFAULTS[self.domain] and self.operations is None and self.nodes is None
        parts = [] if default else [f"in the space {self.searched.name}"]
        parts += [] if self.method == "darts" else [f"by {self.method}"]
        return "".join(f", {part}" for part in parts)

    @property
    def spec(self) -> Spec:
        """The method: its parts and its recipe."""
        return read(self.method, self.domain)

    def default(self, setting: Setting) -> object:
        if setting.name == "space":
            return DEFAULTS[self.domain]
        of_method = self.spec.recipe if self.domain == "cnn" else {}
        own = any(name in (setting.recipes or {}) for name in self.recipe_names())
        return of_method[setting.name] if setting.name in of_method and not own else super().default(setting)

    def compared(self) -> dict:
        values = super().compared()
        if isinstance(self.space, dict):  # what a file is called changes nothing
            values["space"] = {key: value for key, value in self.space.items() if key != "name"}
        return values

    def recipe_names(self) -> list[str]:
        return [self.dataset, self.space if isinstance(self.space, str) else self.space["macro"]]


class GuardedSearch(SearchConfig):
    """A search with a recipe, which may stop, or go back, by `--stop` and `--then`."""

    def default(self, setting: Setting) -> object:
        if setting.name == "max_images" and self.subset is not None:  # each names a part of the images
            return None
        return super().default(setting)

    def recipe_names(self) -> list[str]:
        names = super().recipe_names()
        return [*(f"small {name}" for name in names), "small", *names] if self.recipe == "small" else names

    def stopped(self, records: Sequence[Mapping]) -> tuple[int, int] | None:
        if self.then == "regularise" and not self._regularises(records):
            return None
        return rules.parse(self.stop).stopped(records, self.eigenvalue_every)

    def _regularises(self, records: Sequence[Mapping]) -> bool:
        return rules.regularises(self.weight_decay, self.drop_path, rules.times_regularised(records))

    def ends(self, records: Sequence[Mapping]) -> bool:
        """Whether the search has stopped, for good."""
        return self.then == "end" and self.stopped(records) is not None

    def candidates(self, records: Sequence[Mapping]) -> set[int]:
        """The finished epochs, from 0, to which a stop may still go back."""
        over = self.then == "end" or not self._regularises(records)
        return set() if over else rules.parse(self.stop).candidates(records, self.eigenvalue_every)

    def regularisation(self, records: Sequence[Mapping]) -> tuple[float, float]:
        """The weight decay, and the drop-path of the last epoch, of the epoch after these; see --then regularise."""
        return rules.regularised(self.weight_decay, self.drop_path, rules.times_regularised(records))
