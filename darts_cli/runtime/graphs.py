"""`--cuda-graphs`: a step is recorded once, as a CUDA graph, and then replayed.

A step launches thousands of kernels, each of which costs Python more time than a GPU needs for a small one. A graph launches
all of them at once: the same kernels, on the same memory. So whatever Python decides in a step must be the same in all steps
that replay it: the sizes of tensors, learning rates, and which operations are computed. Random numbers differ from replay to
replay as they do from step to step; they may be seeded before a step, but not within one.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from darts_cli.runtime.copies import copy_into
from darts_cli.text import first_line

WARM_UP_STEPS = 3  # computed normally before one is recorded: kernels are chosen, and optimisers create their state
MAX_GRAPHS = 64  # that are kept
LEAST_TORCH = (2, 11)  # its random numbers survive a recording that fails
Call = Callable[[], object]


class Graphs:
    """The graphs of a run, if `wanted`. What keeps steps from being recorded is told to `say`, in one line."""

    def __init__(self, wanted: bool, device: torch.device, say: Callable[[str], None]):
        self.say, self._said = say, False
        self.recorder = recorder(device) if wanted else None
        if wanted and self.recorder is None:
            self.refuse(f"there are none on {device}" + (", before PyTorch 2.11" if device.type == "cuda" else ""))

    def refuse(self, reason: str) -> None:
        """From now on every step is computed as it is."""
        if not self._said:
            self.say(f"--cuda-graphs: {reason}; every step is computed as it is")
        self.recorder, self._said = None, True


class Steps:
    """Steps of a run, replayed where they are repeated.

    step    tensors and other values, nested -> nested tensors. The tensors that it changes must stay where they are in memory,
            and what Python reads elsewhere must stay as it is, for as long as this object is used
    """

    def __init__(self, step: Callable, graphs: Graphs):
        self.step, self.graphs = step, graphs
        self._seen: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, Recorded] = {}

    def __call__(self, *given):
        """A step; its results are the caller's to keep."""
        if self.graphs.recorder is not None and torch.is_anomaly_enabled():
            self.graphs.refuse("not together with --detect-anomaly")
        if self.graphs.recorder is None:
            return self.step(*given)
        kind = _kind(given)
        if kind not in self._recorded:
            self._seen[kind] += 1
            if self._seen[kind] <= WARM_UP_STEPS or len(self._recorded) == MAX_GRAPHS:
                return self.graphs.recorder.warm_up(lambda: self.step(*given))
            failure = self._record(kind, given)
            if failure is not None:
                self._recorded.clear()
                self.graphs.refuse(f"the step cannot be recorded ({failure})")
                return self.step(*given)
        return self._recorded[kind](given)

    def _record(self, kind: Hashable, given: Sequence) -> str | None:
        """Record a step; returns why it cannot be recorded. With the error its tensors are gone before the step is computed."""
        try:
            self._recorded[kind] = Recorded(self.step, given, self.graphs.recorder)
        except RuntimeError as error:
            return _reason(error)
        return None


def repeated(step: Callable, repeats: bool, graphs: Graphs) -> Callable:
    """The steps of a search, functions of where they stand and of their batches. Those that repeat are recorded: they are the
    same wherever in an epoch they stand."""
    if repeats:
        steps = Steps(step, graphs)
        return lambda at, *batches: steps(replace(at, number=0), *batches)
    if graphs.recorder is not None:
        graphs.refuse("the steps of this search draw random numbers, or leave operations out")
    return step


class Recorded:
    """A recorded step, with the memory of its arguments and its results."""

    def __init__(self, step: Callable, given: Sequence, recorder: "CudaRecorder"):
        self._given = _copied(given)
        self._replay, self._results = recorder.record(lambda: step(*self._given))

    def __call__(self, given: Sequence):
        copy_into(_tensors(given), _tensors(self._given))
        self._replay()
        return _copied(self._results)


class CudaRecorder:
    """Records what is launched on CUDA. All graphs of a recorder share the memory of temporary tensors.

    Warm-up and recording have a stream of their own, as PyTorch advises.
    """

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        warnings.filterwarnings("ignore", message=".*capturable=True")  # Adam expects to be recorded at once

    def warm_up(self, call: Call):
        """Compute it as it is."""
        now = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(now)
        try:
            with torch.cuda.stream(self.stream):
                return call()
        finally:
            now.wait_stream(self.stream)

    def record(self, call: Call) -> tuple[Callable[[], None], object]:
        """What replays it, and where its results then are. Nothing is computed yet.

        Other threads may reserve memory meanwhile, as those that load images do.
        """
        graph = torch.cuda.CUDAGraph()
        recording = torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local")
        with torch.cuda.stream(self.stream), recording:  # which leaves its stream as it is when it fails
            results = call()
        return graph.replay, results


def recorder(device: torch.device) -> CudaRecorder | None:
    """The recorder of a device; None where it has none."""
    return CudaRecorder(device) if device.type == "cuda" and torch.__version__ >= LEAST_TORCH else None


def _reason(error: BaseException) -> str:
    """The first error of a failed recording; ending the recording then raises another one, which says nothing."""
    while error.__context__ is not None:
        error = error.__context__
    return first_line(str(error)) or type(error).__name__


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
