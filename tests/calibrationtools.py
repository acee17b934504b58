"""What models were measured to do: where it is kept in a test, and read."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from hubmerge.stream.statistics import Statistics
from hubmerge.stream.weights import Reads


def measured_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps what is measured below a folder, and says where."""
    monkeypatch.setattr(constants, "HF_HOME", str(folder / "home"))
    return folder / "home" / "hubmerge" / "statistics"


def read(statistics: Statistics, name: str) -> torch.Tensor:
    """A statistic in the units that it was measured in."""
    shape = statistics.shapes[name]
    unit = statistics._record["mean"] if statistics.kind == "fisher" else 1.0
    return statistics.read(name, 0, shape.numel() if isinstance(shape, torch.Size) else size_of(shape), READS).view(
        shape
    ) * float(unit)


def size_of(shape: tuple[int, ...]) -> int:
    return int(torch.tensor(shape).prod())


READS = Reads(lambda extent: torch.empty(0))
