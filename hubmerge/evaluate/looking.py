"""Metrics of pictures that a model has made, by another model that looks at them.

classifier: org/classifier                # P(answer), the answer being one of the classifier's labels
classifier: {model: org/classifier, value: right}     # 1 where the answer is the likeliest label
clip: org/clip                            # the cosine of picture and answer, below 0 as 0
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import SourceError, TaskError
from ..guesses import guess
from ..reference import ModelRef
from .examples import TASK, Example
from .fitting import shape_errors

if TYPE_CHECKING:
    from ..hub.source import Source

TOGETHER = 64
"""Pictures that are looked at at a time."""

VALUES = ("probability", "right")


@dataclass(frozen=True)
class Classifier:
    """Whether a picture shows what it should, by an image classifier of transformers: `model`, pinned; its `labels`."""

    model: str
    value: str
    labels: tuple[str, ...]

    @property
    def says(self) -> str:
        """What the score is, where it is not what the metric says."""
        return "the share of pictures that show what they should, to a classifier" if self.value == "right" else ""

    @classmethod
    def open(cls, given: Mapping[str, Any], token: str | None) -> "Classifier":
        """What a task's `classifier:` names. Raises `TaskError`, `SourceError` or `HubError`."""
        from ..hub.auto_class import auto_class

        if (value := given.get("value", VALUES[0])) not in VALUES:
            raise TaskError(
                f"classifier.value must be one of {', '.join(VALUES)}, got {value!r}{guess(value, VALUES)}."
            )
        source = _source(given, ("model", "value"), "classifier", token)
        if (kind := auto_class(source.config)) != "AutoModelForImageClassification":
            raise TaskError(f"{source.name} is a {kind}, which gives pictures no labels; name an image classifier.")
        labels = source.config.get("id2label")
        if not isinstance(labels, Mapping) or not labels:
            raise TaskError(f"config.json of {source.name} names no labels (id2label); name another classifier.")
        named = tuple(str(label) for _, label in sorted(labels.items(), key=lambda pair: int(pair[0])))
        return cls(str(source.pinned), value, named)

    def flaw(self, example: Example) -> str | None:
        """Why an example cannot be asked with it."""
        if example.answer in self.labels:
            return None
        some = ", ".join(self.labels[:8]) + (", ..." if len(self.labels) > 8 else "")
        return f"is {example.answer[:60]!r}, which is no label of the classifier ({some})"

    def grade(self, pictures: Sequence[Any], examples: Sequence[Example]) -> list[float]:
        """What each picture is worth, 0..1."""
        import torch

        found: list[float] = []
        for few, asked in _batches(pictures, examples):
            model, inputs = _given(self.model, images=few)
            with shape_errors(self.model), torch.inference_mode():
                likely = model(**inputs).logits.float().softmax(-1)
            wanted = torch.tensor([self.labels.index(one.answer) for one in asked], device=likely.device)
            right = likely.argmax(-1) == wanted if self.value == "right" else likely.gather(1, wanted[:, None])[:, 0]
            found += right.float().tolist()
        return found


@dataclass(frozen=True)
class ClipScore:
    """How near a picture is to its answer's words: the cosine of what CLIP, SigLIP and the like make of both.

    Hessel et al. 2021, https://arxiv.org/abs/2104.08718, without the factor of 2.5. `model`: pinned.
    """

    model: str

    @classmethod
    def open(cls, given: Mapping[str, Any], token: str | None) -> "ClipScore":
        """What a task's `clip:` names. Raises `TaskError`, `SourceError` or `HubError`."""
        from ..hub.auto_class import task_of

        source = _source(given, ("model",), "clip", token)
        if task_of(source.config) != "zero-shot-image-classification" or "text_config" not in source.config:
            raise TaskError(f"{source.name} does not compare pictures with words; name a CLIP or SigLIP model.")
        return cls(str(source.pinned))

    def flaw(self, example: Example) -> str | None:
        """Why an example cannot be asked with it."""
        return None if example.answer.strip() else "is empty, so there is nothing to compare a picture with"

    def grade(self, pictures: Sequence[Any], examples: Sequence[Example]) -> list[float]:
        """What each picture is worth, 0..1."""
        import torch

        found: list[float] = []
        for few, asked in _batches(pictures, examples):
            texts = [one.answer for one in asked]
            # SigLIP was trained on texts filled up to the same length; to others that makes no difference.
            model, inputs = _given(self.model, images=few, text=texts, padding="max_length", truncation=True)
            with shape_errors(self.model), torch.inference_mode():
                made = model(**inputs)
            both = (torch.nn.functional.normalize(one.float(), dim=-1) for one in (made.image_embeds, made.text_embeds))
            found += torch.stack(list(both)).prod(0).sum(-1).clamp(0, 1).tolist()
        return found


Looking = Classifier | ClipScore
LOOKING: Mapping[str, type[Classifier] | type[ClipScore]] = {"classifier": Classifier, "clip": ClipScore}
"""What looks at pictures, by the key of a task."""


def _source(given: Mapping[str, Any], keys: Sequence[str], key: str, token: str | None) -> "Source":
    from ..hub.source import open_source  # what reads a search alone does without the Hub

    TASK.require_known(given, keys, f"the task's {key}")
    if not isinstance(name := given.get("model"), str) or not name.strip():
        raise TaskError(f"`{key}` of the task must name a model, as in `{key}: org/name`.")
    return open_source(ModelRef.parse(name), token=token)


def _batches(pictures: Sequence[Any], examples: Sequence[Example]) -> Iterator[tuple[list[Any], Sequence[Example]]]:
    for at in range(0, len(pictures), TOGETHER):
        yield list(pictures[at : at + TOGETHER]), examples[at : at + TOGETHER]


def _given(name: str, **what: Any) -> tuple[Any, dict[str, Any]]:
    """The model of this name, and what it is given of pictures and texts."""
    from ..stream.architecture import transformers_errors

    model, processor = _opened(name)
    with transformers_errors(f"The processor of {name} does not take the pictures"):
        return model, dict(processor(return_tensors="pt", **what).to(model.device))


@lru_cache(maxsize=2)
def _opened(name: str) -> tuple[Any, Any]:
    """A model that looks and its processor. Raises `SourceError` where transformers cannot build it of its weights."""
    import torch
    import transformers

    from ..hub.source import open_source
    from ..stream.architecture import read_architecture, transformers_errors
    from ..stream.carried import Carried
    from ..stream.mapped import map_tensors
    from .models import best_device, load_processor, loading

    source = open_source(ModelRef.parse(name))
    stated = source.config.get("architectures")
    kind = getattr(transformers, str(stated[0]) if isinstance(stated, list) and stated else "", None)
    if kind is None:
        raise SourceError(f"config.json of {source.name} names no class that transformers has; name another model.")
    config, state = read_architecture(source.config), dict(map_tensors(source))
    with transformers_errors(f"transformers cannot load {source.name}"), loading():
        model, told = kind.from_pretrained(
            None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
        )
    if missing := sorted(told["missing_keys"]):
        raise SourceError(f"{source.name} lacks {missing[0]}, so it would answer at random; name a whole model.")
    return model.to(best_device()).eval(), load_processor(Carried(source))
