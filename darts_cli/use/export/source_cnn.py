"""The text of a convolutional network for `darts export --format source`."""

import inspect

from darts_cli import DartsError
from darts_cli.cnn import nasbench201
from darts_cli.cnn.evaluate import Trained
from darts_cli.genotype import Cell
from darts_cli.use.export.modules import MODULES

# Each operation's constructor, but that of a skip connection of stride 1.
CALLS = {
    "none": "Zero(stride={stride})",
    "max_pool_3x3": "nn.MaxPool2d(3, stride={stride}, padding=1)",
    "avg_pool_3x3": "nn.AvgPool2d(3, stride={stride}, padding=1, count_include_pad=False)",
    "skip_connect": "FactorizedReduce(C, C)",
    "sep_conv_3x3": "SepConv(C, 3, stride={stride})",
    "sep_conv_5x5": "SepConv(C, 5, stride={stride})",
    "sep_conv_7x7": "SepConv(C, 7, stride={stride})",
    "dil_conv_3x3": "DilConv(C, 3, stride={stride})",
    "dil_conv_5x5": "DilConv(C, 5, stride={stride})",
    "conv_7x1_1x7": "FactorizedConv(C, stride={stride})",
    "nor_conv_1x1": "NorConv(C, C, 1, stride={stride})",
    "nor_conv_3x3": "NorConv(C, C, 3, stride={stride})",
}

CELL = '''class {name}(nn.Module):
    def __init__(self, {arguments}):
        super().__init__()
{preprocessing}        self.edges = nn.ModuleList(
            [
{edges}
            ]
        )

    def forward(self, {inputs}) -> Tensor:
        """{shapes}"""
{prepared}{nodes}
        return {output}'''

NETWORK = '''class Network(nn.Module):
    def __init__(self):
        super().__init__(){buffers}
        self.stem = {stem}
        self.cells = nn.ModuleList(
            [
{cells}
            ]
        )
{last}        self.classifier = nn.Linear({features}, {classes})
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """{images} (B, 3, {height}, {width}) -> logits (B, {classes})."""
{normalised}        {states} = self.stem(images.contiguous(memory_format=torch.channels_last))
        for cell in self.cells:
            {step}
        return self.classifier({output}.mean(dim=(2, 3)))'''

BUFFERS = """
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", 255 * torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)"""


def blocks(trained: Trained, preprocessing: bool) -> list[str]:
    """The classes of a trained network: its operations, its cells, and Network.

    Raises DartsError for an operation of another package.
    """
    operations = {edge.op for cell in trained.genotype.cells.values() for node in cell.nodes for edge in node}
    foreign = sorted(operations - set(CALLS))
    if foreign:
        raise DartsError(f"--format source: {', '.join(foreign)} comes from another package, whose source is not copied")
    write = _nas_bench_201 if isinstance(trained.network, nasbench201.Network) else _darts
    classes = write(trained, preprocessing)
    for module in reversed(MODULES):  # there, every module comes before those that use it
        if any(f"{module.__name__}(" in text for text in classes):
            classes = [inspect.getsource(module).rstrip(), *classes]
    return classes


# ---- networks


def _darts(trained: Trained, preprocessing: bool) -> list[str]:
    cells, C_before = trained.genotype.cells, trained.sizes["channels"]
    rows, cases = [], {}
    imagenet = trained.sizes["stem"] == "imagenet"
    halve = imagenet  # whether the first input has twice the height and width of the second
    for cell in trained.network.cells:
        first, second = cell.preprocess0, cell.preprocess1.point
        C_prev_prev = first.conv_1.in_channels if halve else first.point.in_channels
        kind = "reduce" if second.out_channels > C_before else "normal"
        rows.append((kind, f"{C_prev_prev}, {second.in_channels}, {second.out_channels}", halve))
        cases.setdefault(kind, set()).add(halve)
        halve, C_before = kind == "reduce", second.out_channels
    names = {"normal": "NormalCell", "reduce": "ReductionCell"}
    calls = [f"{names[kind]}({sizes}{f', halve={halve}' if len(cases[kind]) > 1 else ''})," for kind, sizes, halve in rows]
    network = _network(
        trained,
        preprocessing,
        calls,
        stem=f"ImageNetStem({trained.sizes['channels']})" if imagenet else _stem(3 * trained.sizes["channels"]),
        states="s0, s1" if imagenet else "s0 = s1",
        step="s0, s1 = s1, cell(s0, s1)",
        last="",
        output="s1",
    )
    return [*(_cell(names[kind], cells[kind], kind == "reduce", cases[kind]) for kind in sorted(cases)), network]


def _nas_bench_201(trained: Trained, preprocessing: bool) -> list[str]:
    cell, C, calls = trained.genotype.cells["cell"], trained.sizes["channels"], []
    for module in trained.network.cells:
        residual = isinstance(module, nasbench201.ResidualBlock)
        calls.append(f"{'ResidualBlock' if residual else 'Cell'}({C}),")
        C *= 2 if residual else 1
    network = _network(
        trained,
        preprocessing,
        calls,
        stem=_stem(trained.sizes["channels"]),
        states="x",
        step="x = cell(x)",
        last=f"        self.last = nn.Sequential(nn.BatchNorm2d({C}), nn.ReLU())\n",
        output="self.last(x)",
    )
    return [_single_input_cell(cell), network]


def _stem(C: int) -> str:
    return f"nn.Sequential(nn.Conv2d(3, {C}, 3, padding=1, bias=False), nn.BatchNorm2d({C}))"


def _network(trained: Trained, preprocessing: bool, cells: list[str], **texts: str) -> str:
    """The class Network; `texts` are the parts in which the two kinds of networks differ."""
    height, width = trained.data["size"]
    return NETWORK.format(
        buffers=BUFFERS if preprocessing else "",
        cells=_indented(cells),
        features=trained.network.classifier.in_features,
        classes=trained.sizes["num_classes"],
        images="Bytes, or values from 0 to 255" if preprocessing else "Normalised images",
        height=height,
        width=width,
        normalised="        images = (images.float() - self.mean) / self.deviation\n" if preprocessing else "",
        **texts,
    )


# ---- cells


def _cell(name: str, cell: Cell, reduction: bool, cases: set[bool]) -> str:
    """A cell of two inputs; `cases` are the values of `halve` that the network needs."""
    by_case = {True: "FactorizedReduce(C_prev_prev, C)", False: "ReLUConvBN(C_prev_prev, C)"}
    both = len(cases) == 2
    first = f"{by_case[True]} if halve else {by_case[False]}" if both else by_case[next(iter(cases))]
    shape = f"(B, {len(cell.concat)} C, {'H / 2, W / 2' if reduction else 'H, W'})"
    return CELL.format(
        name=name,
        arguments=f"C_prev_prev: int, C_prev: int, C: int{', halve: bool' if both else ''}",
        preprocessing=f"        self.preprocess0 = {first}\n        self.preprocess1 = ReLUConvBN(C_prev, C)\n",
        edges=_edges(cell, inputs=2, reduction=reduction),
        inputs="s0: Tensor, s1: Tensor",
        shapes=f"The outputs of the two cells before, the last one (B, C_prev, H, W) -> {shape}.",
        prepared="        s0, s1 = self.preprocess0(s0), self.preprocess1(s1)\n",
        nodes=_nodes(cell, inputs=2),
        output=f"torch.cat([{', '.join(f's{i}' for i in cell.concat)}], dim=1)",
    )


def _single_input_cell(cell: Cell) -> str:
    return CELL.format(
        name="Cell",
        arguments="C: int",
        preprocessing="",
        edges=_edges(cell, inputs=1, reduction=False),
        inputs="s0: Tensor",
        shapes="(B, C, H, W) -> (B, C, H, W).",
        prepared="",
        nodes=_nodes(cell, inputs=1),
        output=f"s{len(cell.nodes)}",
    )


def _edges(cell: Cell, inputs: int, reduction: bool) -> str:
    rows = []
    for i, node in enumerate(cell.nodes, inputs):
        for op, j in node:
            stride = 2 if reduction and j < inputs else 1
            call = "nn.Identity()" if op == "skip_connect" and stride == 1 else CALLS[op].format(stride=stride)
            rows.append(f"{call},  # s{j} -> s{i}")
    return _indented(rows)


def _nodes(cell: Cell, inputs: int) -> str:
    lines, edge = [], 0
    for i, node in enumerate(cell.nodes, inputs):
        terms = [f"self.edges[{k}](s{j})" for k, (_, j) in enumerate(node, edge)]
        lines.append(f"        s{i} = {' + '.join(terms)}")
        edge += len(node)
    return "\n".join(lines)


def _indented(rows: list[str]) -> str:
    return "\n".join(f"                {row}" for row in rows)
