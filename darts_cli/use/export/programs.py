"""Programs that run without this package: torch.export, and ONNX."""

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import torch

from darts_cli import DartsError
from darts_cli.use.export.subject import Call, Subject

MAX_BATCH = 2**31 - 1  # without a bound, PyTorch 2.6 finds that slices do not work for every size


def program(subject: Subject) -> torch.export.ExportedProgram:
    """The network as a program of torch.export, for any batch size."""
    batch = torch.export.Dim("batch", max=MAX_BATCH)
    example = tuple(tensor.clone() for tensor in subject.calls[len(subject.calls) // 2])  # of more than one image or stream
    shapes = ({0: batch},) if subject.domain == "cnn" else ({1: batch}, {1: batch})
    with torch.no_grad():
        exported = torch.export.export(subject.module, example, dynamic_shapes=shapes, strict=False)
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    return exported


# ---- torch.export


def write_torch(subject: Subject, path: Path) -> None:
    """A program that `torch.export.load` reads; the metadata are its extra file metadata.json."""
    metadata = {key: json.loads(value) for key, value in subject.metadata().items()}
    torch.export.save(program(subject), path, extra_files={"metadata.json": json.dumps(metadata, indent=1)})


def torch_outputs(path: Path, calls: list[Call]) -> list[Call]:
    """The outputs of the program in a file."""
    module = torch.export.load(path).module()
    with torch.no_grad():
        return [_as_tuple(module(*call)) for call in calls]


def _as_tuple(outputs) -> Call:
    return outputs if isinstance(outputs, tuple) else (outputs,)


# ---- ONNX


def write_onnx(subject: Subject, path: Path) -> None:
    """An ONNX model, checked; the metadata are its metadata_props."""
    import onnx

    with warnings.catch_warnings():  # the exporter's use of its own packages
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        try:
            model = torch.onnx.export(
                program(subject), dynamo=True, verbose=False, input_names=subject.inputs, output_names=subject.outputs
            ).model_proto
        except RuntimeError as error:
            raise _unfit(error) from None
    _tidy(model.graph)
    onnx.helper.set_model_props(model, subject.metadata())
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _unfit(error: Exception) -> DartsError:
    """The error for an exporter that fails, as PyTorch 2.6 does with an onnxscript that is much newer."""
    versions = f"torch {version('torch')}, onnxscript {version('onnxscript')}, onnx {version('onnx')}"
    return DartsError(
        f"--format onnx: {versions} do not work together ({type(error).__name__}); install releases of about the same date"
    )


def _tidy(graph) -> None:
    """Call the free size `batch`, and leave out what the exporter notes about its own steps."""
    for values in (graph.node, graph.initializer, graph.input, graph.output):
        for value in values:
            value.ClearField("metadata_props")
    for value in (*graph.input, *graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = "batch"
    graph.ClearField("metadata_props")
    graph.ClearField("value_info")


def onnx_outputs(path: Path, calls: list[Call]) -> list[Call]:
    """The outputs of the model in a file, by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(call: Call) -> Call:
        given = {name: tensor.contiguous().numpy() for name, tensor in zip(names, call, strict=True)}
        return tuple(map(torch.from_numpy, session.run(None, given)))

    return [run(call) for call in calls]
