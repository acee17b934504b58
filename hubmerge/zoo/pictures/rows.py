"""The questions of ja-vlm-bench as rows: each split's scenes, what is asked of them, and their pictures."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .questions import Question, questions
from .scenes import KINDS, Part, Scene, draw_scene

SEED = 1911
SCENES = {"train": 160, "validation": 40, "test": 200}
"""Pictures of each kind in a split."""
ASKED = 2
"""Questions about each picture."""


@dataclass(frozen=True)
class Row:
    """A question about a picture, with its answer, in Japanese and English.

    Attributes:
        id: split, kind, number of the picture and `a` or `b`: `test-menu-0007-b`.
        scene: what the picture shows; the rows of one picture have the same.
        kind: one of `scenes.KINDS`.
        template: what is asked, whatever the phrasing: `menu-price`.
    """

    id: str
    scene: Scene
    kind: str
    template: str
    question: str
    question_en: str
    answer: str
    answer_en: str


def rows(split: str, scenes: Mapping[str, int] = SCENES) -> Iterator[Row]:
    """The rows of a split, those of a picture one after another; always the same, fewer scenes being the first."""
    for kind in KINDS:
        rng, seen = random.Random(f"{SEED} {split} {kind}"), set[tuple[Part, ...]]()
        while len(seen) < scenes[split]:
            scene = draw_scene(rng, kind, split)
            if scene.parts not in seen:
                asked = questions(rng, scene, ASKED * len(seen), ASKED)
                for letter, question in zip("ab", asked, strict=True):
                    yield _row(f"{split}-{kind}-{len(seen):04}-{letter}", scene, question)
                seen.add(scene.parts)


def _row(id: str, scene: Scene, question: Question) -> Row:
    answer = question.answer
    return Row(id, scene, scene.kind, question.template, question.ja, question.en, answer.ja, answer.en)
