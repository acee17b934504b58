"""A candidate: what a searcher proposes and a worker measures."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ...recipe import Recipe
from ...reference import ModelRef
from .layer_path import LayerPath

Candidate = Recipe | LayerPath
"""A merge, or a path through layers; equal ones have equal `to_dict()`."""

Contestant = Candidate | ModelRef
"""What can be measured: a candidate, or a model as it is."""


def read_candidate(solution: Mapping[str, Any]) -> Candidate:
    """The candidate whose `to_dict()` is `solution`."""
    return LayerPath.from_dict(solution) if "layers" in solution else Recipe.from_dict(solution)


def candidate_key(solution: Mapping[str, Any]) -> str:
    """A sha256 of a candidate's `to_dict()`: equal for equal recipes, and for equal paths."""
    return hashlib.sha256(json.dumps(solution, sort_keys=True).encode()).hexdigest()
