"""The Hub and nothing else: open and pin models, read headers, push, cards, licences, search.

`open_source` reads, `Upload` and `push_folder` write, `Card` and `render` tell the story, `search_models` finds.
"""

from .answers import FileInfo
from .card import Card, CardRow, render
from .errors import explain, hub_errors
from .headers import TensorHeader
from .licences import LicenceResult, combine
from .push import PushResult, Upload, push_folder
from .search import ModelSummary, search_models
from .session import find_token
from .source import Source, open_source

__all__ = [
    "Card",
    "CardRow",
    "FileInfo",
    "LicenceResult",
    "ModelSummary",
    "PushResult",
    "Source",
    "TensorHeader",
    "Upload",
    "combine",
    "explain",
    "find_token",
    "hub_errors",
    "open_source",
    "push_folder",
    "render",
    "search_models",
]
