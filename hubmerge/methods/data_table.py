"""The entries of the table of methods that look at what models do with texts."""

from .method import Method, Parameter
from .parameters import WEIGHT_ABOVE

DATA = (
    Method(
        "regmean",
        "data",
        "The matrices whose outputs are nearest to those of every model on that model's own texts.",
        "https://arxiv.org/abs/2212.09849",
        (
            WEIGHT_ABOVE,
            Parameter(
                "alpha",
                0.9,
                "How much of what is off the diagonal of a Gram matrix counts; 0: each input by itself.",
                low=0.0,
                high=1.0,
                typical=(0.5, 1.0),
            ),
        ),
        base="none",
        measures="regression",
        unit="row",
        statistic="gram",
        formula="(sum weight model G) (sum weight G)^-1, G = alpha X^T X + (1 - alpha) diag(X^T X), X the inputs of a "
        "linear module",
        use="Models tuned on different data of which a few hundred texts each are at hand (`calibration`). Embeddings, "
        "norms and biases are averaged.",
    ),
    Method(
        "fisher",
        "data",
        "Weighted average in which each number counts by how much its model's predictions depend on it.",
        "https://arxiv.org/abs/2111.09832",
        (
            WEIGHT_ABOVE,
            Parameter(
                "floor", 1e-6, "The least that a number counts; 1 is the mean of a model.", low=1e-30, tuned=False
            ),
        ),
        base="none",
        statistic="fisher",
        formula="sum(weight F model) / sum(weight F), F = max(floor, mean over texts of (d log p / d model)^2)",
        use="As regmean; all of a model is weighed, embeddings and norms too, but for a mixture's experts, which are "
        "averaged. Measuring takes gradients.",
    ),
)
