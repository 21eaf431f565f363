"""What search methods cost here, and what their papers report. Plain data: no torch.

COST         the time of a first-order step for an image, as a share of that of DARTS, and peak memory: docs/methods.md
PUBLISHED    the test error on CIFAR-10, in per cent, of cells trained at full size, as the papers say; unless said, ± is the
             deviation over trainings of one cell, which was chosen among several
"""

_AT_64 = "{} of the time of DARTS, peak memory {} GB, at batch 64"
COST = {
    "darts": "a step of batch 64 takes 6.1 s on two threads of a CPU, peak memory 3.9 GB",
    "pc-darts": "0.48 of the time of DARTS by image, peak memory 3.6 GB, at batch 256",
    "fair-darts": _AT_64.format(0.91, 3.9),
    "gdas": _AT_64.format(0.27, 1.7),
    "drnas": _AT_64.format(1.11, 3.9),
    "sdarts-rs": _AT_64.format(1.05, 3.9),
    "sdarts-adv": _AT_64.format(3.56, "5.0"),
    "beta-darts": _AT_64.format(0.92, 3.9),
    "darts-minus": _AT_64.format(1.13, 4.1),
    "p-darts": "0.62, 1.06 and 1.12 of the time of DARTS in the stages, peak memory 4.5 GB, at batch 64",
    "darts-pt": _AT_64.format(1.08, "4.0") + "; and 7 evaluations of the validation half for each of 34 decisions",
    "random-sharing": _AT_64.format("0.10", 1.4),
}
PUBLISHED = {
    "darts": "3.00 ± 0.14, second order 2.76 ± 0.09, the best cell of 4 searches",
    "pc-darts": "2.57 ± 0.07, the best cell of 4 searches",
    "fair-darts": "2.54 ± 0.05, the mean of 7 runs",
    "gdas": "2.93; 2.82 with a fixed reduction cell",
    "drnas": "2.46 ± 0.03, with the stages of the paper, in the network of full size",
    "sdarts-rs": "2.67 ± 0.03, the best cell of 4 searches",
    "sdarts-adv": "2.61 ± 0.02, the best cell of 4 searches",
    "beta-darts": "2.53 ± 0.08",
    "darts-minus": "2.59 ± 0.08, the mean of 7 runs, of which none was chosen",
    "p-darts": "2.50",
    "darts-pt": "2.61 ± 0.08; 2.87 with alphas that are never trained",
    "random-sharing": "2.85 ± 0.08, the mean of 10 trainings; 2.71, the best",
}
