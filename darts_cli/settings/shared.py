"""Settings that configurations share; each makes a field of a class."""

from functools import partial

from darts_cli import DartsError
from darts_cli.formats.sizes import MAX_PAD_PIXELS, RESIZES, size_of
from darts_cli.schema import Config, setting

TOKENS = ("words", "characters")
BENCHMARK_DATA = ("cifar10", "cifar100", "imagenet16-120")  # for which NAS-Bench-201 has true accuracies

images = partial(
    setting, None, "Folder of the data set.", default_text="download to ./data", changes_result=False, metavar="DIR"
)
texts = partial(
    setting,
    None,
    "Folder with train.txt, valid.txt and test.txt, or one text file, to be split 8:1:1.",
    changes_result=False,
    metavar="DIR",
)
streams = partial(
    setting, help="Number of parallel streams the text is split into.", aliases=("--batch",), recipes={"pydoc": 32}
)
tokens = partial(setting, "words", "What a text is read as: words between blanks, or characters.", choices=TOKENS)
accumulate = partial(setting, 1, "Parts to compute a batch in, to save memory; BatchNorm sees one part at a time.", ge=1)
batch_chunks = partial(setting, 1, "Parts to compute a batch in, to save memory.", ge=1)
space = partial(
    setting, None, "Search space: a name of darts space list, a file, or the run of a search.", mapping=True, metavar="SPACE"
)
recipe = partial(setting, "paper", "Defaults of the paper, or of a small search, minutes on a CPU.", choices=("paper", "small"))
method = partial(setting, "darts", "Search method; see darts method list.", metavar="METHOD")
operations = partial(setting, None, "Operations to search with, some of those of the space.", metavar="A,B,...")
nodes = partial(setting, None, "Nodes of a cell.", default_text="those of the space", ge=1, le=32)
unrolled = partial(
    setting,
    False,
    "Second order: unroll one weight step (eq. 8); `exact` differentiates again instead, slower.",
    words=("exact",),
    metavar="[exact]",
)
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
subset = partial(
    setting, None, "Share of the training set to use, drawn by --split-seed.", default_text="all of it", gt=0, le=1
)
pad = partial(
    setting,
    None,
    "Pixels of zeros around an image before it is cropped to its size at random; 0 crops nothing.",
    default_text="an eighth of the shorter side",
    ge=0,
    le=MAX_PAD_PIXELS,
)
image_size = partial(
    setting,
    None,
    "Size that the images of a folder are brought to: N for squares, or height x width.",
    default_text="the most common, or 64 for photographs of many sizes",
    metavar="N|HxW",
)
resize = partial(
    setting,
    "squeeze",
    "How images of a folder with another size are fitted: squeezed, cropped in the middle, or padded with black.",
    choices=RESIZES,
)
split = partial(
    setting,
    "random",
    "How --train-portion splits: stratified keeps the shares of the classes in both parts.",
    choices=("stratified", "random"),
    recipes={"folder": "stratified"},
)
flip = partial(setting, True, "Mirror half of the images, left to right.", recipes={"digits": False, "svhn": False})
label_smoothing = partial(
    setting,
    0.0,
    "Share of a label that is spread over all classes.",
    aliases=("--label-smooth",),
    recipes={"imagenet": 0.1},
    ge=0,
    lt=1,
)
color_jitter = partial(
    setting,
    (0.0, 0.0, 0.0, 0.0),
    "Random change of brightness, contrast, saturation and hue (hue: at most 0.5); ImageNet only.",
    recipes={"imagenet": (0.4, 0.4, 0.4, 0.2)},
    ge=0,
)
text_lr = partial(setting, 20.0, gt=0, lt=10**9)
schedule = partial(
    setting,
    "cosine",
    "Learning rate over the epochs: half a cosine, or a constant factor per epoch.",
    choices=("cosine", "exponential"),
    recipes={"imagenet": "exponential"},
)
workers = partial(
    setting,
    None,
    "Processes that read the images of ImageNet; 0 reads in the main process.",
    default_text="one per CPU, at most 8",
    changes_result=False,
    ge=0,
)
auxiliary = partial(
    setting,
    True,
    "Train a second classifier in the middle of the network, for 32x32 images or ImageNet.",
    recipes={"digits": False, "folder": None, "nas-bench-201": False},
)
drop_path = partial(
    setting,
    help="Probability of dropping an edge in the last epoch; it rises linearly from 0.",
    aliases=("--drop-path-prob",),
    ge=0,
    lt=1,
)
stop = partial(
    setting,
    "never",
    "When to stop, with earlier cells: never, skips:N, eigenvalue:FACTOR or discretisation:POINTS.",
    metavar="RULE",
)
then = partial(
    setting,
    "end",
    "What follows a stop: the end or, regularise, going back and on with three times the weight decay (or, with"
    " --drop-path, 0.2 more of it).",
    choices=("end", "regularise"),
)
eigenvalue_every = partial(setting, help="Epochs from one Hessian eigenvalue to the next; 0: none.", ge=0)
benchmark_data = partial(
    setting,
    None,
    "In nas-bench-201: data set whose true accuracies are shown.",
    default_text="that of the search, or cifar10",
    choices=BENCHMARK_DATA,
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
precision = partial(
    setting, "fp32", "Arithmetic of the network; tf32 is for CUDA, bf16 uses autocast.", choices=("fp32", "tf32", "bf16")
)
deterministic = partial(setting, True, "The same bits every time; off lets CUDA take kernels that are faster and less exact.")
compiled = partial(setting, False, "Compile the cells with torch.compile: minutes at first, then less time for a step.")
cuda_graphs = partial(
    setting,
    False,
    "Record a step once as a CUDA graph and replay it: fewer launches, more memory.",
    changes_result=False,
)
device = partial(setting, "auto", "Device to run on: auto, cpu, cuda, cuda:N or mps.", changes_result=False, metavar="DEVICE")
minutes = partial(
    setting, 10.0, "Save a checkpoint every N minutes within an epoch.", changes_result=False, infinite=True, ge=0
)
log_every = partial(setting, 50, "Log metrics every N steps.", changes_result=False, ge=1)
tensorboard = partial(setting, False, "Write event files for TensorBoard into the run folder too.", changes_result=False)
anomaly = partial(
    setting, False, "Find the operation that first produces NaN or infinity; several times slower.", changes_result=False
)


def check_images(config: Config) -> str | None:
    """The image size as the configuration keeps it, HxW. Raises DartsError where the data set leaves no choice, where a part of
    it is asked for twice, or where a batch has fewer images than parts."""
    if config.accumulate > config.batch_size:
        raise DartsError(f"--accumulate {config.accumulate}: must be at most --batch-size {config.batch_size}", exit_code=2)
    if config.max_images is not None and config.subset is not None:
        raise DartsError(f"--subset {config.subset:g}: not together with --max-images {config.max_images}; both name a part", 2)
    if config.dataset == "imagenet" and config.pad is not None:
        raise DartsError(f"--pad {config.pad}: not for imagenet, whose images are cropped and scaled at random", exit_code=2)
    if config.dataset == "folder":
        return None if config.image_size is None else "x".join(map(str, size_of(config.image_size)))
    for name, given in (("--image-size", config.image_size is not None), ("--resize", config.resize != RESIZES[0])):
        if given:
            raise DartsError(f"{name}: only for --dataset folder; the images of {config.dataset} have a size of their own", 2)
    return None


def check_tokens(dataset: str, tokens: str) -> None:
    """Raise DartsError where the data set's words are given."""
    if dataset != "text" and tokens != "words":
        raise DartsError(f"--tokens {tokens}: only for --dataset text; {dataset} is a text of words", exit_code=2)
