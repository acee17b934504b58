"""A model measured, layer by layer: each step leaves a file, whole or not there, from which a run that broke goes on.

    hidden-K        what layer K is given, of all texts one after another
    slope-K         the gradient of the log-likelihood with respect to that
    layer-K         the statistics of layer K
    rest            those of all else
    statistics.json that all is there

What is between layers is deleted as soon as nothing needs it any more.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import SourceError
from ..evaluate.placement import execution_device
from ..files import TEMPORARY, atomic, write_file
from ..progress import Event, Progress
from ..recipe import Calibration
from ..stream.compute import is_finite
from ..stream.reader import check_finite
from ..stream.statistics import RECORD, Statistics, file_digest, record
from .grams import Grams
from .stack import Call, Stack, in_memory
from .texts import Row

_LABELS = "labels.json"


class Sweep:
    """The way through one model. `stored`: what its checkpoint calls a weight of it as loaded; None: it has none."""

    def __init__(
        self,
        stack: Stack,
        statistics: Statistics,
        rows: Sequence[Row],
        calibration: Calibration,
        stored: Callable[[str], str | None],
        progress: Progress,
    ) -> None:
        self.stack, self.statistics, self.rows = stack, statistics, rows
        self.labels, self.seed = calibration.labels, calibration.seed
        self.stored, self.progress = stored, progress
        self.folder = statistics.folder
        self.files: dict[str, str] = {}
        self.places: dict[str, tuple[str, str]] = {}
        self.totals: dict[str, tuple[float, int]] = {}
        self.steps = (1 if statistics.kind == "gram" else 2) * len(stack.layers) + 1
        self.done = self.kept = 0

    def run(self) -> None:
        """Measures all that is not there yet, and writes the record. Raises `SourceError` for a model that makes NaN or
        infinite values of the texts, of which nothing is kept."""
        try:
            if self.statistics.kind == "gram":
                self._grams()
            else:
                self._fisher()
        except SourceError:
            for path in self._between() + list(self.folder.glob("*.safetensors")):
                path.unlink()
            raise
        totals = [self.totals[name] for name in sorted(self.totals)]
        mean = sum(total for total, _ in totals) / max(1, sum(count for _, count in totals))
        mean = mean if mean > 0 else 1.0
        files = {name: self.files[name] for name in sorted(self.files)}
        places = {weight: self.places.get(weight) for weight in self.statistics.shapes}
        write_file(self.folder / RECORD, record(files, places, mean, self.statistics.texts))
        for path in self._between():
            path.unlink()

    def _grams(self) -> None:
        last = len(self.stack.layers)
        for number in range(last):
            if not (kept := self._is_done(name := f"layer-{number:05d}")):
                self._forward(number, watched=name)
                self._drop("hidden", number)
            self._tell(kept)
        if not self._is_done("rest"):
            outside = self._outside()
            with torch.no_grad(), in_memory(list(outside.values())), Grams(outside) as grams:
                for (ids, _), hidden in zip(self.rows, self._states("hidden", last), strict=True):
                    self.stack.end(ids, hidden)
            self._keep_grams("rest", grams)

    def _fisher(self) -> None:
        last = len(self.stack.layers)
        for number in range(last):
            kept = self._path("hidden", number + 1).exists()
            if not kept:
                self._forward(number)
            self._tell(kept)
        if not self._is_done(f"layer-{last - 1:05d}"):
            self._from_the_end(last)
        for number in reversed(range(last)):
            if not (kept := self._is_done(name := f"layer-{number:05d}")):
                self._backward(number, name)
                self._drop("slope", number + 1)
            self._tell(kept)
        if not self._is_done("rest"):
            self._rest(last)

    def _forward(self, number: int, watched: str | None = None) -> None:
        """What the next layer is given, and of the layer itself the Gram matrices under the name `watched`."""
        layer = self.stack.layers[number]
        with ExitStack() as during:
            during.enter_context(torch.no_grad())
            during.enter_context(in_memory(list(layer.modules())))
            grams = during.enter_context(Grams(self._named(number))) if watched else None
            made = (
                self.stack.run(number, hidden, calls[number])
                for hidden, calls in zip(self._states("hidden", number), self._calls, strict=True)
            )
            self._write("hidden", number + 1, made)
        if grams is not None:
            self._keep_grams(str(watched), grams)

    def _from_the_end(self, last: int) -> None:
        """The gradient with respect to what the last layer makes."""
        drawn = self._labels()

        def slopes() -> Iterator[Tensor]:
            for number, hidden in enumerate(self._states("hidden", last)):
                hidden.requires_grad_()
                ids, start = self.rows[number]
                logits = self.stack.end(ids, hidden)
                if number == len(drawn):
                    drawn.append(self._draw(number, logits))
                (slope,) = torch.autograd.grad(_log_likelihood(logits, drawn[number], start), hidden)
                yield slope
            write_file(self.folder / _LABELS, json.dumps(drawn).encode())

        if not self._path("slope", last).exists():
            with in_memory(list(self._outside().values())):
                self._write("slope", last, slopes())

    def _backward(self, number: int, name: str) -> None:
        """Fisher information of a layer's weights, and the gradient with respect to what it is given."""
        layer = self.stack.layers[number]
        with in_memory(list(layer.modules())):
            squares = _Squares(dict(self._weights(layer, f"{self.stack.prefix}{number}.")))

            def slopes() -> Iterator[Tensor]:
                above = self._states("slope", number + 1)
                for hidden, slope, calls in zip(self._states("hidden", number), above, self._calls, strict=True):
                    hidden.requires_grad_()
                    self.stack.run(number, hidden, calls[number]).backward(slope)
                    squares.add()
                    assert hidden.grad is not None
                    yield hidden.grad

            self._write("slope", number, slopes())
        self._keep_squares(name, squares)

    def _rest(self, last: int) -> None:
        """Fisher information of what is outside of the layers: what the head adds to a tied embedding's gradient, and
        what the layers give back, count together."""
        drawn = self._labels()
        outside = self._outside()
        with in_memory(list(outside.values())), self._tied():
            squares = _Squares(dict(self._weights(self.stack.model, "", set(outside.values()))))
            states = zip(self.rows, self._states("hidden", last), self._states("slope", 0), drawn, strict=True)
            for (ids, start), hidden, slope, labels in states:
                given: list[Tensor] = []
                logits = self.stack.end(ids, hidden, given.append)
                _log_likelihood(logits, labels, start).backward()
                if given[0].requires_grad:
                    given[0].backward(slope)
                squares.add()
        self._keep_squares("rest", squares)

    def _labels(self) -> list[list[int]]:
        """The tokens that gradients are taken for, of each text; of none where they are yet to be drawn."""
        if self.labels == "text":
            return [ids[start:] for ids, start in self.rows]
        try:
            found: list[list[int]] = json.loads((self.folder / _LABELS).read_bytes())
            return found
        except FileNotFoundError:
            return []

    def _draw(self, number: int, logits: Tensor) -> list[int]:
        """What the model itself would say after each token, drawn with a seed of the text's own."""
        start = self.rows[number][1]
        digest = hashlib.sha256(f"{self.seed} {number}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:6], "little"))
        self._require_finite(logits)
        chances = logits[start - 1 : -1].detach().float().softmax(-1).cpu()
        drawn: list[int] = torch.multinomial(chances, 1, generator=generator)[:, 0].tolist()
        return drawn

    @cached_property
    def _calls(self) -> list[list[Call]]:
        """How each layer is called for each text; what is alike is kept once."""
        kept: dict[object, Tensor] = {}
        found = []
        # A sweep that goes on has what the first layer is given, but not this.
        with torch.no_grad(), in_memory(list(self._outside().values())):
            for ids, _ in self.rows:
                _, calls = self.stack.begin(ids)
                found.append([Call(_shared(call.positional, kept), _shared(call.named, kept)) for call in calls])
        return found

    def _states(self, kind: str, number: int) -> Iterator[Tensor]:
        """What was written of all texts, one after another, (1, tokens, width)."""
        if kind == "hidden" and number == 0 and not self._path(kind, 0).exists():
            with torch.no_grad(), in_memory(list(self._outside().values())):
                self._write(kind, 0, (self.stack.begin(ids)[0] for ids, _ in self.rows))
        path, dtype = self._path(kind, number), self.stack.model.dtype
        each = path.stat().st_size // self.statistics.texts.tokens
        with open(path, "rb") as file:
            for ids, _ in self.rows:
                state = torch.frombuffer(bytearray(file.read(len(ids) * each)), dtype=dtype)
                yield state.view(1, len(ids), -1).to(execution_device(self.stack.model))

    def _write(self, kind: str, number: int, states: Iterator[Tensor]) -> None:
        with atomic(self._path(kind, number)) as file:
            for state in states:
                self._report()
                self._require_finite(state)
                flat = state.detach().to("cpu", self.stack.model.dtype).contiguous()
                file.write(flat.view(-1).view(torch.uint8).numpy().data)

    def _keep_grams(self, name: str, grams: Grams) -> None:
        tokens = self.statistics.texts.tokens
        self._keep(name, {key: found.div_(tokens).cpu() for key, found in grams.sums.items()}, grams.of)

    def _keep_squares(self, name: str, squares: "_Squares") -> None:
        found = {key: one.div_(len(self.rows)).cpu() for key, one in squares.sums.items()}
        self._keep(name, found, squares.of)

    def _keep(self, name: str, found: dict[str, Tensor], of: dict[str, str]) -> None:
        """Keeps statistics, `of` each weight of the loaded model the name of its own among those found."""
        known = self.statistics.shapes
        places = {weight: key for label, key in of.items() if (weight := self._weight(label)) in known}
        path = self.folder / f"{name}.safetensors"
        fresh = path.with_name(f".{path.name}{TEMPORARY}")
        used = {key: found[key] for key in dict.fromkeys(places.values())}
        for one in used.values():
            self._require_finite(one)
        total = sum(float(one.double().sum()) for one in used.values())
        facts = {"places": places, "total": total, "count": sum(one.numel() for one in used.values())}
        # All in one: several would be written in another order each time.
        save_file(used or {"nothing": torch.zeros(0)}, fresh, {"facts": json.dumps(facts)})
        os.replace(fresh, path)
        self._note(name)

    def _require_finite(self, values: Tensor) -> None:
        """Raises `SourceError` where what a model makes has NaN or infinite values, with the weight that has them."""
        if is_finite(values.detach()):
            return
        for label, weight in self.stack.model.named_parameters():
            if not weight.is_meta:
                check_finite(self.statistics.source, self.stored(label) or label, weight.detach())
        raise SourceError(
            f"{self.stack.name} makes NaN or infinite values of the texts, and is not measured; take other texts, or "
            "merge it with a method that needs no data."
        )

    def _weight(self, label: str) -> str:
        name = label if self.statistics.kind == "fisher" else f"{label}.weight"
        return self.stored(name) or name

    def _is_done(self, name: str) -> bool:
        if not (self.folder / f"{name}.safetensors").exists():
            return False
        self._note(name)
        return True

    def _note(self, name: str) -> None:
        path = self.folder / f"{name}.safetensors"
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
        self.files[path.name] = file_digest(path)
        self.places |= {weight: (path.name, key) for weight, key in facts["places"].items()}
        self.totals[name] = facts["total"], facts["count"]

    def _weights(
        self, module: nn.Module, prefix: str, among: set[nn.Module] | None = None
    ) -> Iterator[tuple[str, Any]]:
        for label, one in module.named_modules():
            for own, weight in one.named_parameters(recurse=False) if among is None or one in among else ():
                yield f"{prefix}{label}.{own}".replace("..", ".").strip("."), weight

    @contextmanager
    def _tied(self) -> Iterator[None]:
        """A head that is tied has the embedding's very parameter, however both were read."""
        model = self.stack.model
        head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
        names = {module: f"{label}.weight" for label, module in model.named_modules()}
        tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
        if head is None or not tied or self.stored(names[head]) is not None or head.weight is embedding.weight:
            yield
            return
        own, head.weight = head.weight, embedding.weight
        try:
            yield
        finally:
            head.weight = own

    def _outside(self) -> dict[str, nn.Module]:
        names = {module: label for label, module in self.stack.model.named_modules()}
        return {names[module]: module for module in self.stack.outside}

    def _named(self, number: int) -> dict[str, nn.Module]:
        prefix = f"{self.stack.prefix}{number}"
        return {f"{prefix}.{label}": module for label, module in self.stack.layers[number].named_modules() if label}

    def _path(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}-{number:05d}"

    def _drop(self, kind: str, number: int) -> None:
        self._path(kind, number).unlink(missing_ok=True)

    def _between(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.name.startswith(("hidden-", "slope-", _LABELS))]

    def _tell(self, kept: bool) -> None:
        self.done += 1
        self.kept += kept
        self._report()

    def _report(self) -> None:
        self.progress(Event("measure", self.done, self.steps, "layers", self.stack.name, kept=self.kept))


class _Squares:
    """The squares of gradients, summed up text by text; `of`: the name that the sum of each weight has, as a head that
    is tied shares one with its embedding."""

    def __init__(self, weights: dict[str, nn.Parameter]) -> None:
        names: dict[nn.Parameter, str] = {}
        self.of = {name: names.setdefault(weight, name) for name, weight in weights.items()}
        self.weights = {name: weight for weight, name in names.items()}
        self.sums = {name: torch.zeros_like(one, dtype=torch.float32) for name, one in self.weights.items()}

    def add(self) -> None:
        """Adds those of the gradients that are there now, and takes them away."""
        for name, weight in self.weights.items():
            if weight.grad is not None:
                slope = weight.grad.float()
                self.sums[name].addcmul_(slope, slope)
                weight.grad = None


def _log_likelihood(logits: Tensor, labels: Sequence[int], start: int) -> Tensor:
    """log p of the labels of a text, from the token `start` on."""
    said = logits[start - 1 : start - 1 + len(labels)].float()
    return -nn.functional.cross_entropy(said, torch.tensor(labels, device=said.device), reduction="sum")


def _shared(value: Any, kept: dict[object, Tensor]) -> Any:
    """The same with one tensor for all that are alike."""
    if isinstance(value, Tensor):
        content = value.detach().to("cpu", copy=False).contiguous()
        digest = hashlib.sha256(content.view(-1).view(torch.uint8).numpy().data).digest() if content.numel() else b""
        return kept.setdefault((digest, value.dtype, tuple(value.shape)), value)
    if isinstance(value, dict):
        return {key: _shared(item, kept) for key, item in value.items()}
    return type(value)(_shared(item, kept) for item in value) if type(value) in (tuple, list) else value
