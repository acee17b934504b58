"""What was measured of a model on texts, kept on disk and read like weights.

A folder of safetensors files, and `statistics.json`, which is written last: it says what was measured and by which
texts, where each statistic lies, and the sha256 of each file. So what is there is whole, and known to be the same.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..amounts import size
from ..documents import parse_object
from ..errors import SourceError
from ..hub.headers import TensorHeader, read_headers
from ..hub.store import FileInfo, Folder
from ..late import Tensor, torch
from ..progress import Progress
from .tensors import TensorPlan
from .weights import Extent, Reads, Stored

RECORD = "statistics.json"
"""The file that is written last."""

_LARGEST = 2**26
_PIECE = 2**24


@dataclass(frozen=True)
class Texts:
    """The texts that a model was measured by, as manifests and cards tell of them.

    `source`: where they come from, for people, with the commit. `dataset`: the ID on the Hub, if any. `examples` and
    `tokens`: how many were read.
    """

    source: str
    dataset: str | None
    examples: int
    tokens: int


@dataclass(frozen=True)
class Cost:
    """What measuring a model takes: how often texts go through it, bytes on disk that stay and that are there
    meanwhile, and bytes of memory beside the bare process; `module`: bytes of the largest module's weights."""

    passes: str
    disk: int
    spill: int
    memory: int
    module: int


@dataclass(frozen=True, eq=False)
class Statistics(Stored):
    """What is, or is to be, measured of the model `source`: `shapes` by the names of its weights.

    `folder`: where they are kept, for this model, these texts and no other. `kind`: see `methods.Statistic`.
    """

    kind: str
    shapes: Mapping[str, tuple[int, ...]]
    folder: Path
    texts: Texts
    cost: Cost
    making: "Callable[[Statistics, Progress], None] | None" = field(default=None, repr=False)
    _read: dict[str, Any] = field(default_factory=dict, repr=False)

    def by(self, making: "Callable[[Statistics, Progress], None]") -> "Statistics":
        """The same, which `making` measures."""
        return replace(self, making=making)

    def measure(self, progress: Progress) -> None:
        """Measures what is not here yet."""
        assert self.making is not None
        self.making(self, progress)

    @cached_property
    def tensors(self) -> Mapping[str, TensorPlan]:  # type: ignore[override]
        """All of them, by the names of the weights that they are of."""
        return {name: TensorPlan(name, shape, "F32", ()) for name, shape in self.shapes.items()}

    @property
    def told(self) -> str:
        """What measuring takes, or that it was done."""
        texts = f"{self.name} by {self.texts.examples:,} texts of {self.texts.source} ({self.texts.tokens:,} tokens)"
        if self.is_here:
            return f"{texts}: done already"
        cost = self.cost
        return (
            f"{texts}: {cost.passes}, {size(cost.memory)} of memory, {size(cost.disk)} on disk that stay and "
            f"{size(cost.spill)} meanwhile"
        )

    @property
    def is_here(self) -> bool:
        """Whether they were measured, and wholly. Raises `SourceError` where what is there is broken."""
        return (self.folder / RECORD).is_file() and bool(self._record)

    @property
    def digest(self) -> str | None:
        """A sha256 of all of them; None where they are not measured yet."""
        try:
            return hashlib.sha256((self.folder / RECORD).read_bytes()).hexdigest()
        except FileNotFoundError:
            return None

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """Nothing of any model."""
        yield from ()

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """The elements, float32; of Fisher information in units of the mean of the model's. Zeros where nothing came
        by: of experts that no text was sent to."""
        if (placed := self._placed(name)) is None:
            return torch.zeros(stop - start)
        file, header = placed
        folder = Folder(self.folder)
        data = folder.read(file, header.start + 4 * start, header.start + 4 * stop)
        values = torch.frombuffer(bytearray(data), dtype=torch.float32)
        return values.mul_(self._scale) if self.kind == "fisher" else values

    def is_stored(self, name: str) -> bool:
        """Never as a model's weights are."""
        return False

    def check(self) -> None:
        """Raises `SourceError` where a file does not hold what was written."""
        for file, known in self._record["files"].items():
            try:
                found = file_digest(self.folder / file)
            except OSError as exc:
                raise self._broken(f"{file} cannot be read ({exc.strerror})") from None
            if found != known:
                raise self._broken(f"{file} does not hold what was written")

    @cached_property
    def _record(self) -> dict[str, Any]:
        try:
            text = (self.folder / RECORD).read_bytes()
        except OSError as exc:
            raise self._broken(f"{RECORD} cannot be read ({exc.strerror})") from None
        try:
            record = parse_object(text, "it", SourceError, largest=_LARGEST)
        except SourceError as exc:
            raise self._broken(f"{RECORD}: {str(exc).rstrip('.')}") from None
        places, files, mean = (record.get(key) for key in ("places", "files", "mean"))
        if not isinstance(files, dict) or not isinstance(places, dict) or not isinstance(mean, (int, float)):
            raise self._broken(f"{RECORD} is none")
        if not mean > 0 or not all(map(_is_place, places.values())):
            raise self._broken(f"{RECORD} is none")
        if any(Path(file).name != file for file in files):
            raise self._broken(f"{RECORD} names files elsewhere")
        return record

    @cached_property
    def _scale(self) -> float:
        return 1 / float(self._record["mean"])

    def _placed(self, name: str) -> tuple[FileInfo, TensorHeader] | None:
        """The file that a statistic lies in, and where; None where nothing was seen."""
        if name not in self._read:
            place = self._record["places"].get(name, ("", ""))
            if place is None:
                return None
            file, key = place
            if file not in self._record["files"]:
                raise self._broken(f"it has none of {name}")
            folder = Folder(self.folder)
            info = FileInfo(file, (self.folder / file).stat().st_size)
            headers = read_headers(lambda start, stop: folder.read(info, start, stop), file, info.size, self.name)
            found = {header.name: header for header in headers}.get(key)
            if found is None or (found.shape, found.dtype) != (self.shapes[name], "F32"):
                raise self._broken(f"{file} has no {key} of the shape {list(self.shapes[name])}")
            self._read[name] = info, found
        found_at: tuple[FileInfo, TensorHeader] = self._read[name]
        return found_at

    def _broken(self, what: str) -> SourceError:
        return SourceError(
            f"The statistics of {self.name} in {self.folder} are broken: {what}; delete that folder and run the same "
            "again."
        )


def _is_place(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value))


def file_digest(path: Path) -> str:
    """The sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as opened:
        while piece := opened.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def record(files: Mapping[str, str], places: Mapping[str, tuple[str, str] | None], mean: float, texts: Texts) -> bytes:
    """The content of `statistics.json`: the sha256 of each file, the file and key of each weight's statistic, and the
    mean of them all."""
    document = {"texts": vars(texts), "mean": mean, "files": dict(files), "places": dict(places)}
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
