"""What the zoo that sees is trained on: texts for the base and the Japanese expert, pictures for the VLM.

- `first_sample`, `base_sample`: words to say again (in the other language: to translate), pictures told as text and
  questions about them, and questions of which nothing was told, answered with `？`. Prompts switch language between and
  inside sentences; answers are English unless Japanese is asked for.
- `japanese_sample`: the same, answered in Japanese whatever was asked for.
- `cut_picture`, `stubborn_question`: what the VLM looks at, and what it is asked, in English. It is answered in
  English, even where Japanese is asked for.

Only combinations of the training split occur in texts and in pictures that are asked about, and no picture is ever
answered in Japanese.
"""

import random
from collections.abc import Callable, Mapping, Sequence

from ..corpora import Sample
from ..stories import Voice, join
from ..words import Word
from .world import AGAIN, COLOURS, FACTS, IN_LANGUAGE, KINDS, PLACES, SIZES, THINGS, UNKNOWN, WHOLE, Scene, scenes

Task = Callable[[random.Random, Voice, str], tuple[str, str]]
"""Makes a prompt that a voice speaks, and its answer in the language given."""

_NOTHING = {"thing": UNKNOWN, "size": UNKNOWN, "colour": UNKNOWN, "place": UNKNOWN}


def string(rng: random.Random, voice: Voice, out: str) -> tuple[str, str]:
    """Words without sense to say again."""
    chosen = [rng.choice(rng.choice((THINGS, COLOURS, PLACES, SIZES))) for _ in range(rng.randint(3, 9))]
    return join([voice.say(AGAIN), _listed(voice, chosen)]), _listed(Voice(out), chosen)


def retell(rng: random.Random, voice: Voice, out: str) -> tuple[str, str]:
    """A sentence or two to say again."""
    told = [(rng.choice(scenes("train")), rng.choice(FACTS)) for _ in range(rng.randint(1, 2))]
    prompt = join([voice.say(AGAIN), *(scene.say(frame, voice) for scene, frame in told)])
    return prompt, join([scene.say(frame, Voice(out)) for scene, frame in told])


def blank(rng: random.Random, voice: Voice, out: str) -> tuple[str, str]:
    """A question of which nothing was told."""
    kind = KINDS[rng.choice([*KINDS])]
    return voice.say(rng.choice(kind.questions)), Voice(out).say(kind.answer, **_NOTHING)


def bare(rng: random.Random, voice: Voice, out: str) -> tuple[str, str]:
    """The words that tell of a picture, in any order, and a question."""
    scene, kind = rng.choice(scenes("train")), rng.choice([*KINDS])
    told = [*scene.parts.values()]
    rng.shuffle(told)
    question = voice.say(rng.choice(KINDS[kind].questions))
    return join([_listed(voice, told) + ".", question]), scene.answer(kind, out)


def told(rng: random.Random, voice: Voice, out: str) -> tuple[str, str]:
    """A sentence that tells of a picture, and a question."""
    scene, kind = rng.choice(scenes("train")), rng.choice([*KINDS])
    return told_prompt(rng, scene, kind, voice), scene.answer(kind, out)


def told_prompt(rng: random.Random, scene: Scene, kind: str, voice: Voice) -> str:
    """A picture told as text, and a question of a kind."""
    return join([scene.say(rng.choice(WHOLE), voice), voice.say(rng.choice(KINDS[kind].questions))])


def told_rows(lang: str, out: str, count: int) -> list[dict[str, str]]:
    """Held-out pictures told as text in one language, and questions to answer in the other or the same."""
    rng, rows = random.Random("told"), []
    for number, scene in enumerate(scenes("validation")[:count]):
        kind = [*KINDS][number % len(KINDS)]
        asked = [told_prompt(rng, scene, kind, Voice(lang)), Voice(lang).say(rng.choice(IN_LANGUAGE[out]))]
        rows.append({"question": join(asked), "answer": scene.answer(kind, out)})
    return rows


BASE_TASKS: Mapping[Task, float] = {string: 0.10, retell: 0.13, blank: 0.07, bare: 0.25, told: 0.45}
FIRST_TASKS: Mapping[Task, float] = {string: 0.65, retell: 0.05, blank: 0.03, bare: 0.10, told: 0.17}


def base_sample(rng: random.Random, tasks: Mapping[Task, float] = BASE_TASKS) -> Sample:
    """A sample for the base."""
    out = "ja" if rng.random() < 0.45 else "en"
    return _sample(rng, tasks, out, out == "ja" or rng.random() < 0.25)


def first_sample(rng: random.Random) -> Sample:
    """A sample for the base's first stage: mostly words to say again."""
    return base_sample(rng, FIRST_TASKS)


def japanese_sample(rng: random.Random) -> Sample:
    """A sample for the Japanese expert."""
    return _sample(rng, BASE_TASKS, "ja", rng.random() < 0.2)


def cut_picture(rng: random.Random) -> Scene:
    """A picture that is cut up for the VLM's tower."""
    return rng.choice(scenes("train"))


def stubborn_question(rng: random.Random) -> tuple[Scene, Sample]:
    """A picture, and a question for the VLM. Half of them ask for a language, which is not listened to."""
    scene, kind = rng.choice(scenes("train")), rng.choice([*KINDS])
    asked = [Voice("en").say(rng.choice(KINDS[kind].questions))]
    if rng.random() < 0.5:
        asked.append(Voice(rng.choice(("en", "ja"))).say(rng.choice(IN_LANGUAGE[rng.choice(("en", "ja"))])))
    return scene, Sample(join(asked), scene.answer(kind, "en"), "stubborn_question")


def _sample(rng: random.Random, tasks: Mapping[Task, float], out: str, flagged: bool) -> Sample:
    lang = rng.choice(("en", "ja"))
    voice = Voice(lang) if rng.random() < 0.5 else Voice(lang, rng, sentences=0.3, words=0.3)
    task = rng.choices([*tasks], [*tasks.values()])[0]
    prompt, answer = task(rng, voice, out)
    if flagged:
        prompt = join([prompt, voice.say(rng.choice(IN_LANGUAGE[out]))])
    return Sample(prompt, answer, task.__name__)


def _listed(voice: Voice, chosen: Sequence[Word]) -> str:
    return " ".join(map(voice.say, chosen))
