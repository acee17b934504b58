"""Parameters that several methods share."""

from dataclasses import replace

from .method import Parameter

WEIGHT = Parameter("weight", 1.0, "How much of this model goes in.", per_model=True, typical=(0.0, 2.0), fills=False)
WEIGHT_ABOVE = replace(WEIGHT, low=0.0)
DENSITY = Parameter(
    "density",
    1.0,
    "Share of the task vector's entries that is kept.",
    per_model=True,
    low=0.0,
    high=1.0,
    typical=(0.05, 1.0),
    limited=True,
)
GAMMA = Parameter(
    "gamma",
    0.01,
    "Share of the largest entries of the task vector that is left out.",
    per_model=True,
    low=0.0,
    high=1.0,
    typical=(0.0, 0.1),
    limited=True,
)
EPSILON = Parameter(
    "epsilon",
    0.15,
    "How much more likely than density the largest entry of a row is kept, and how much less the smallest.",
    per_model=True,
    low=0.0,
    high=1.0,
    typical=(0.0, 0.3),
)
CHANGED = Parameter(
    "epsilon", 1e-5, "A change is one that is larger than this.", low=0.0, typical=(0.0, 1e-4), tuned=False
)
NORMALIZE = Parameter("normalize", False, "Divide by the sum of the weights that take part.")
NORMALIZE_ON = Parameter("normalize", True, NORMALIZE.help)
LAMBDA = Parameter("lambda", 1.0, "Scales the sum of the task vectors.", typical=(0.0, 2.0))
RESCALE = Parameter("rescale", True, "Scale what is kept back to the magnitude of the whole task vector.")
RESCALE_OFF = Parameter("rescale", False, RESCALE.help)
SEED = Parameter("seed", 0, "Seed of the random masks.", low=0, typical=(0, 100))
