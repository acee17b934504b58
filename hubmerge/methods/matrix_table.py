"""The entries of the table of methods that look at whole matrices."""

from .method import Method, Parameter
from .parameters import DENSITY, LAMBDA, NORMALIZE_ON, WEIGHT

MATRICES = (
    Method(
        "tsv_m",
        "spectral",
        "Gives each model a share of the rank, its largest singular vectors, and makes them orthogonal.",
        "https://arxiv.org/abs/2412.00081",
        (WEIGHT, LAMBDA),
        measures="tsv_rows",
        unit="row",
        squares=(8.0, 0.0),
        formula="base + lambda U diag(weight s) V, U and V the orthogonalised singular vectors of all models' changes, "
        "rank / N of each",
        use="Several tasks that plain sums blur; what each model learnt is of low rank. Embeddings and heads are "
        "matrices as others; of norms and all else that is no matrix: base + lambda mean(weight change).",
    ),
    Method(
        "iso_c",
        "spectral",
        "Adds up what models learnt and makes all its directions equally strong.",
        "https://arxiv.org/abs/2502.04959",
        (WEIGHT, LAMBDA),
        measures="iso_c_rows",
        unit="row",
        squares=(6.0, 0.0),
        formula="base + lambda mean(s) U V, U diag(s) V = sum(weight change)",
        use="Many tasks, of which the strongest directions drown the rest. Else as in tsv_m.",
    ),
    Method(
        "iso_cts",
        "spectral",
        "As iso_c, with a part of the directions left to each model alone.",
        "https://arxiv.org/abs/2502.04959",
        (
            WEIGHT,
            Parameter("common", 0.8, "Share of the rank for what is common.", low=0.0, high=1.0, typical=(0.5, 1.0)),
            LAMBDA,
        ),
        measures="iso_cts_rows",
        unit="row",
        squares=(12.0, 0.0),
        formula="base + lambda mean(s) U V, U and V the orthogonalised common directions and each model's own outside",
        use="As iso_c with more models (14 or 20 tasks in the paper). What is no matrix as in tsv_m.",
    ),
    Method(
        "knots_ties",
        "spectral",
        "Brings what models learnt into shared coordinates and merges it there as ties does.",
        "https://arxiv.org/abs/2410.19735",
        (WEIGHT, DENSITY, NORMALIZE_ON, LAMBDA),
        unit="tensor",
        held=(6.0, 5.0),
        formula="base + lambda U diag(s) ties(V_1 ... V_N), U diag(s) (V_1 ... V_N) = (change_1 ... change_N)",
        use="LoRAs of one base (`base+lora` as models) that do not line up. What is no matrix is merged by ties.",
    ),
    Method(
        "wudi",
        "wudi",
        "Moves the sum of what models learnt to where it disturbs none of them, without data.",
        "https://arxiv.org/abs/2503.08099",
        (
            WEIGHT,
            Parameter("steps", 300, "Steps of Adam.", low=0.0, tuned=False),
            Parameter("learning_rate", 1e-5, "Length of a step, in units of the weights.", low=0.0, tuned=False),
            LAMBDA,
        ),
        measures="wudi_pulls",
        unit="row",
        squares=(2.0, 0.5),
        formula="base + lambda argmin M of sum |(M - change) change^T|^2 / |change|^2, from M = sum(change)",
        use="The best of the methods without data in its paper, at the cost of 300 products a matrix; "
        "`hubmerge plan` tells the time. What is no matrix as in tsv_m.",
    ),
)
