"""What a search is compared with: the names under `baselines:`."""

from collections.abc import Mapping, Sequence

from ...errors import SearchError
from ...guesses import guess

UNTUNED = ("average", "task_arithmetic", "ties", "dare_ties")
"""Merges that people make without a search, nothing tuned."""
SCALED = "best_scale"
"""The merge that people make with a few tries; see compared/scales.py."""
COMPARED: Mapping[str, str] = {"random": "random search", "grid": "grid"}
"""Searchers, with the same budget, and what people are told that they are."""
BASELINES = (*UNTUNED, SCALED)
"""The default: all but the searchers."""


def require_baselines(names: Sequence[str]) -> None:
    """Raises `SearchError` for a baseline that there is none of."""
    known = (*BASELINES, *COMPARED)
    for name in names:
        if name not in known:
            raise SearchError(f"Unknown baseline {name!r}{guess(name, known)}; known: {', '.join(known)}.")
