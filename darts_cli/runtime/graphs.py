"""`--cuda-graphs`: a step is recorded once, as a CUDA graph, and then replayed.

A step launches thousands of kernels, each of which costs Python more time than a GPU needs for a small one. A graph launches
all of them at once: the same kernels, on the same memory. So whatever Python decides in a step must be the same in all steps
that replay it: the sizes of tensors, learning rates, and which operations are computed. Random numbers differ from replay to
replay as they do from step to step; they may be seeded before a step, but not within one.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from darts_cli.runtime.copies import copy_into
from darts_cli.text import first_line

WARM_UP = 3  # steps that are computed as they are before one is recorded: kernels are chosen, optimisers make their state
MOST = 64  # graphs that are kept
Call = Callable[[], object]


class Steps:
    """The steps of a run, replayed where they repeat.

    step      tensors and other values, nested -> nested tensors; it changes tensors in place. All that it depends on is in its
              arguments, or stays as it is for as long as this object is used
    wanted    whether to record steps at all
    say       told in one line when a step cannot be recorded; it and those after it are then computed as they are
    """

    def __init__(self, step: Callable, device: torch.device, wanted: bool, say: Callable[[str], None]):
        self.step, self.say = step, say
        self.recorder = recorder(device) if wanted else None
        self._seen: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, Graph] = {}

    def __call__(self, *given):
        """A step; its results are the caller's to keep."""
        if self.recorder is None or torch.is_anomaly_enabled():  # which looks at every number
            return self.step(*given)
        kind = _kind(given)
        if kind in self._graphs:
            return self._graphs[kind](given)
        self._seen[kind] += 1
        if self._seen[kind] <= WARM_UP or len(self._graphs) == MOST:
            return self.recorder.warm_up(lambda: self.step(*given))
        try:
            graph = Graph(self.step, given, self.recorder)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.recorder = None
            reason = first_line(str(error)) or type(error).__name__
            self.say(f"--cuda-graphs: the step cannot be recorded ({reason}); every step is computed as it is")
            return self.step(*given)
        self._graphs[kind] = graph
        return graph(given)


class Graph:
    """A recorded step, with the memory of its arguments and its results."""

    def __init__(self, step: Callable, given: Sequence, recorder: "CudaRecorder"):
        self._given = _copied(given)
        self._replay, self._results = recorder.record(lambda: step(*self._given))

    def __call__(self, given: Sequence):
        copy_into(_tensors(given), _tensors(self._given))
        self._replay()
        return _copied(self._results)


class CudaRecorder:
    """Records what is launched on CUDA. All graphs of a recorder share the memory of what a step forgets.

    Warm-up and recording have a stream of their own, as PyTorch advises.
    """

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, call: Call):
        """Compute it as it is."""
        now = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(now)
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*capturable=True")  # Adam expects to be recorded at once
            found = call()
        now.wait_stream(self.stream)
        return found

    def record(self, call: Call) -> tuple[Callable[[], None], object]:
        """What replays it, and where its results then are. Nothing is computed yet."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            results = call()
        return graph.replay, results


def recorder(device: torch.device) -> CudaRecorder | None:
    """The recorder of a device; None where it has none."""
    return CudaRecorder(device) if device.type == "cuda" else None


def notes(wanted: bool, device: torch.device, anomalies: bool, repeats: bool = True) -> list[str]:
    """What a run with `--cuda-graphs` says at its start, where it records nothing.

    anomalies    whether every number is looked at
    repeats      whether the steps of an epoch differ in nothing but their tensors
    """
    reasons = {
        f"there are none on {device}": recorder(device) is None,
        "not together with --detect-anomaly": anomalies,
        "the steps of this search draw random numbers, or leave operations out": not repeats,
    }
    why = [reason for reason, applies in reasons.items() if applies]
    return [f"--cuda-graphs: {why[0]}; every step is computed as it is"] if wanted and why else []


def _tensors(nested) -> list[torch.Tensor]:
    return [value for value in tree_leaves(nested) if isinstance(value, torch.Tensor)]


def _copied(nested):
    """The same nesting with copies of the tensors."""
    return tree_map_only(torch.Tensor, lambda tensor: tensor.detach().clone(), nested)


def _kind(value) -> Hashable:
    """What steps of one graph have in common: all of their arguments but the numbers in tensors."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, tuple | list):
        return tuple(map(_kind, value))
    return (value.start, value.stop, value.step) if isinstance(value, slice) else value
