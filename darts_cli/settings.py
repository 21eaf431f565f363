"""Settings that several configurations share, or that take many lines: each makes a field of a class, with what differs."""

from functools import partial

from darts_cli.schema import setting

images = partial(
    setting, None, "Folder of the data set.", default_text="download to ./data", changes_result=False, metavar="DIR"
)
texts = partial(setting, None, "Folder with train.txt, valid.txt and test.txt.", changes_result=False, metavar="DIR")
space = partial(
    setting, None, "Search space: a name of darts space list, a file, or the run of a search.", mapping=True, metavar="SPACE"
)
method = partial(setting, "darts", "Search method; see darts method list.", metavar="METHOD")
operations = partial(setting, None, "Operations to search with, some of those of the space.", metavar="A,B,...")
nodes = partial(setting, None, "Nodes of a cell.", default_text="those of the space", ge=1, le=32)
unrolled = partial(setting, False, "Use the second-order approximation (unroll one weight step).")
layers = partial(setting, help="Cells of the network; in nas-bench-201 of each stage.", ge=1)
channels = partial(
    setting, help="Channels of the first cells, an even number.", aliases=("--init-channels",), ge=2, multiple_of=2
)
dim = partial(setting, help="Size of embedding and hidden state.", aliases=("--emsize", "--nhid", "--nhidlast"), ge=1)
clip = partial(setting, help="Maximum norm of the gradient; inf turns clipping off.", infinite=True, gt=0)
cutout = partial(
    setting,
    help="Cutout size in pixels, an even number; 0 turns it off, no value means 16.",
    aliases=("--cutout-length",),
    flag_value=16,
    ge=0,
    multiple_of=2,
)
max_images = partial(setting, None, "Images of the training set to use, drawn by --split-seed.", default_text="all", ge=4)
flip = partial(setting, True, "Mirror half of the images, left to right.", recipes={"digits": False, "svhn": False})
stop = partial(
    setting,
    "never",
    "When to stop, with earlier cells: never, skips:N, eigenvalue:FACTOR or discretisation:POINTS.",
    metavar="RULE",
)
eigenvalue_every = partial(
    setting,
    None,
    "Epochs from one Hessian eigenvalue to the next; 0: none.",
    default_text="2 for --stop eigenvalue, else 0",
    ge=0,
)
benchmark_data = partial(
    setting,
    None,
    "In nas-bench-201: data set whose true accuracies are shown.",
    default_text="that of the search, or cifar10",
    choices=("cifar10", "cifar100", "imagenet16-120"),
    changes_result=False,
)
ar = partial(
    setting,
    0.0,
    "AR: coefficient of the mean square of the output (the original's --alpha).",
    aliases=("--alpha",),
    ge=0,
    lt=10**9,
)
tar = partial(
    setting,
    1e-3,
    "TAR: coefficient of the squared change of the output between time steps.",
    aliases=("--beta",),
    ge=0,
    lt=10**9,
)
init_from = partial(setting, None, "Checkpoint, ours or the original's, to take the initial weights from.", metavar="RUN|FILE")
precision = partial(setting, "fp32", "Arithmetic of the network; bf16 uses autocast.", choices=("fp32", "bf16"))
device = partial(setting, "auto", "Device to run on: auto, cpu, cuda, cuda:N or mps.", changes_result=False, metavar="DEVICE")
minutes = partial(
    setting, 10.0, "Save a checkpoint every N minutes within an epoch.", changes_result=False, infinite=True, ge=0
)
log_every = partial(setting, 50, "Log metrics every N steps.", changes_result=False, ge=1)
anomaly = partial(
    setting, False, "Find the operation that first produces NaN or infinity; several times slower.", changes_result=False
)
