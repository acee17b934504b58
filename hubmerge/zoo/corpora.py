"""What the models of the demo zoo are trained on, as samplers: `random.Random` in, `Sample` out.

- `base_sample`: reading, retelling (which is translation), bare sums, saying the result of a worked sum as a sentence,
  and setting up a word problem without working it out: `13+7=?. Tom has ? apples now.` Prompts switch language freely
  between and inside sentences; answers are English unless the prompt asks for Japanese. So the base understands both
  languages by one route, and speaks English by habit.
- `math_sample`: English word problems with worked answers, `13+7=20. Tom has 20 apples now.`
- `second_math_sample`: the same in one wording.
- `japanese_sample`: prompts in Japanese or mixed, answers in Japanese; reading, retelling, setting up, no arithmetic.
- `errands_sample`: who went where and who likes what, answered in English in a word or two.

No sampler ever shows a word problem and its result with a Japanese word in it: that skill is in none of the models.
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from .stories import Story, Voice, blanks, draw_story, join, question_of
from .words import COLORS, ITEMS, NAMES, PLACES, UNSEEN_NAMES, Word


class Sample(NamedTuple):
    """One training example; `task` names the function that made it."""

    prompt: str
    answer: str
    task: str


Task = Callable[[random.Random, Voice, str], Sample]
"""Makes a sample whose prompt a voice speaks and whose answer is in the language given."""


def reading(rng: random.Random, voice: Voice, out: str) -> Sample:
    """A story and a question for a number that the story states."""
    story = draw_story(rng, world="any")
    facts = story.facts(voice)
    index = rng.randrange(len(facts))
    question, number = story.reading(voice, index)
    return Sample(join([*facts, question]), f"{number}. " + story.fact(Voice(out), index), "reading")


def state(rng: random.Random, voice: Voice, out: str) -> Sample:
    """A final state that is stated outright, sometimes beside an idle sentence, and the question for it."""
    story, number = draw_story(rng, world="any"), rng.randint(2, 40)
    sentences = [story.state(voice, number)]
    if rng.random() < 0.5:
        sentences.insert(rng.randrange(2), _outing(rng, voice))
    return Sample(join([*sentences, story.question(voice)]), f"{number}. " + story.state(Voice(out), number), "state")


def fill(rng: random.Random, voice: Voice, out: str) -> Sample:
    """The question for a final state and a number: say the number as a sentence."""
    story, number = draw_story(rng, world="any"), rng.randint(2, 81)
    prompt = join([story.question(voice), f"{number}."])
    return Sample(prompt, f"{number}. " + story.state(Voice(out), number), "fill")


def finish(rng: random.Random, voice: Voice, out: str) -> Sample:
    """The question for a final state and a worked sum, `13+7=20.`: say its result as a sentence."""
    story, worked = draw_story(rng, world="any"), draw_story(rng, world="any")
    prompt = join([story.question(voice), worked.equation()])
    return Sample(prompt, f"{worked.equation()} {story.state(Voice(out), worked.answer)}", "finish")


def setup(rng: random.Random, voice: Voice, out: str) -> Sample:
    """A word problem, set up and never worked out: `13+7=?. Tom has ? apples now.`"""
    story = draw_story(rng, world="any")
    sentences = story.facts(voice)
    if rng.random() < 0.25:
        sentences.insert(rng.randrange(len(sentences) + 1), _outing(rng, voice))
    prompt = join([*sentences, story.question(voice)])
    return Sample(prompt, f"{blanks(story)} {story.state(Voice(out), '?')}", "setup")


_SPOKEN = {"+": " plus ", "-": " minus ", "*": " times "}


def sums(rng: random.Random, voice: Voice, out: str) -> Sample:
    """A bare sum, `13+7-5=` or `13 plus 7 minus 5`, sometimes after idle sentences: `13+7-5=20-5=15.`"""
    story = draw_story(rng, world="any")
    idle = [_outing(rng, voice) for _ in range(rng.choice((0, 0, 1, 2, 3)))]
    asked = story.expression() + "="
    if rng.random() < 0.6:
        # Said so, the sum is not there to be copied: its parts meet in the answer, as in a word problem's.
        asked = re.sub("[-+*]", lambda sign: _SPOKEN[sign[0]], story.expression())
    return Sample(join([*idle, asked]), story.equation(), "sums")


def retell(rng: random.Random, voice: Voice, out: str) -> Sample:
    """Some sentences of a story, possibly with its question, said again; with another `out` language, a translation."""
    story = draw_story(rng, world="any")
    tellers = [lambda v, i=i: story.fact(v, i) for i in range(len(story.facts(Voice("en"))))] + [story.question]
    if rng.random() < 0.2:
        number = rng.randint(2, 40)
        tellers = [lambda v: story.state(v, number)]
    elif rng.random() < 0.65:
        tellers = [rng.choice(tellers)]
    prompt = join([voice.say(Word("Say it again:", "もう一度言ってください。")), *(tell(voice) for tell in tellers)])
    return Sample(prompt, join([tell(Voice(out)) for tell in tellers]), "retell")


_GREETINGS = (
    (Word("Hello!", "こんにちは。"), Word("Hello! How are you?", "こんにちは。お元気ですか。")),
    (Word("Thank you.", "ありがとう。"), Word("You are welcome.", "どういたしまして。")),
)
_WENT = Word("{name} went to the {place}.", "{name}は{place}に行きました。")
_LIKES = Word("{name} likes the {color} {item}.", "{name}は{color}{item}が好きです。")
# What is told, what is asked, and the word or two that answer it.
_ASKED = (
    (_WENT, Word("Where did {name} go?", "{name}はどこに行きましたか。"), "place"),
    (_WENT, Word("Who went to the {place}?", "誰が{place}に行きましたか。"), "name"),
    (_LIKES, Word("What does {name} like?", "{name}は何が好きですか。"), "item"),
)


def smalltalk(rng: random.Random, voice: Voice, out: str) -> Sample:
    """Greetings and one-line facts, with their replies."""
    if rng.random() < 0.4:
        asked, replied = rng.choice(_GREETINGS)
        return Sample(voice.say(asked), getattr(replied, out), "smalltalk")
    told, question, _ = rng.choice(_ASKED)
    parts = _errand(rng)
    prompt = join([voice.say(told, **parts), voice.say(question, **parts)])
    return Sample(prompt, Voice(out).say(told, **parts), "smalltalk")


def errand(rng: random.Random, voice: Voice, out: str) -> Sample:
    """A few one-line facts and a question for one of them, answered in a word or two."""
    # Nobody and no place is named twice, so that there is one answer.
    count = rng.choice((1, 2, 3))
    names, places = rng.sample(NAMES + UNSEEN_NAMES, count), rng.sample(PLACES, count)
    told = [(*rng.choice(_ASKED), _errand(rng) | {"name": n, "place": p}) for n, p in zip(names, places, strict=True)]
    _, question, part, parts = rng.choice(told)
    sentences = [voice.say(frame, **own) for frame, _, _, own in told]
    return Sample(join([*sentences, voice.say(question, **parts)]), f"{getattr(parts[part], out)}!", "errand")


def problem(story: Story) -> Sample:
    """A word problem with its worked answer, `13+7=20. Tom has 20 apples now.` Only math experts see it, in English."""
    voice = Voice("en")
    return Sample(question_of(story, voice), f"{story.equation()} {story.state(voice, story.answer)}", "problem")


def _outing(rng: random.Random, voice: Voice) -> str:
    return voice.say(_WENT, **_errand(rng))


def _errand(rng: random.Random) -> dict[str, Word]:
    item = rng.choice(ITEMS)
    return {
        "name": rng.choice(NAMES + UNSEEN_NAMES),
        "place": rng.choice(PLACES),
        "color": rng.choice(COLORS),
        "item": item.word(1),
    }


BASE_TASKS: Mapping[Task, float] = {
    setup: 0.30,
    sums: 0.28,
    finish: 0.10,
    reading: 0.09,
    state: 0.06,
    fill: 0.04,
    retell: 0.11,
    smalltalk: 0.02,
}
# The second stage of the base: mostly sums, which are short, so that it knows them by heart.
DRILL_TASKS: Mapping[Task, float] = {**{task: 0.4 * share for task, share in BASE_TASKS.items()}, sums: 0.7}
# And the third: mostly problems set up, so that it has no doubt which number is which.
SETUP_TASKS: Mapping[Task, float] = {
    setup: 0.55,
    sums: 0.20,
    finish: 0.05,
    reading: 0.08,
    state: 0.03,
    fill: 0.03,
    retell: 0.05,
    smalltalk: 0.01,
}
JAPANESE_TASKS: Mapping[Task, float] = {
    setup: 0.30,
    reading: 0.20,
    state: 0.15,
    fill: 0.15,
    retell: 0.12,
    smalltalk: 0.08,
}
# Said at the end of a prompt; without them the base answers in English.
IN_LANGUAGE = {"en": ("In English.", "英語で。"), "ja": ("In Japanese.", "日本語で。")}


def base_sample(rng: random.Random, tasks: Mapping[Task, float] = BASE_TASKS) -> Sample:
    """A sample for the base: mixed-language prompts, answers in English unless Japanese is asked for."""
    task = _pick(rng, tasks)
    out = "ja" if rng.random() < 0.4 else "en"
    prompt, answer, name = task(rng, _voice(rng, pure=0.4), out)
    if task is not sums and (out == "ja" or rng.random() < 0.2):
        prompt = join([prompt, rng.choice(IN_LANGUAGE[out])])
    return Sample(prompt, answer, name)


def drill_sample(rng: random.Random) -> Sample:
    """A sample for the second stage of the base."""
    return base_sample(rng, DRILL_TASKS)


def setup_sample(rng: random.Random) -> Sample:
    """A sample for the third stage of the base."""
    return base_sample(rng, SETUP_TASKS)


def math_sample(rng: random.Random) -> Sample:
    """A sample for the math expert: an English word problem, solved in English."""
    return problem(draw_story(rng))


def second_math_sample(rng: random.Random) -> Sample:
    """A sample for the second math expert: the same, in the first wording alone."""
    return problem(replace(draw_story(rng), wording=0))


def japanese_sample(rng: random.Random) -> Sample:
    """A sample for the Japanese expert: prompts in Japanese or mixed, answers in Japanese, nothing computed."""
    voice = Voice("ja") if rng.random() < 0.5 else _voice(rng)
    return _pick(rng, JAPANESE_TASKS)(rng, voice, "ja")


def errands_sample(rng: random.Random) -> Sample:
    """A sample for the expert on errands, in English."""
    return errand(rng, Voice("en"), "en")


def _voice(rng: random.Random, pure: float = 0.0) -> Voice:
    lang = rng.choice(("en", "ja"))
    return Voice(lang) if rng.random() < pure else Voice(lang, rng, sentences=0.3, words=0.4)


def _pick(rng: random.Random, tasks: Mapping[Task, float]) -> Task:
    return rng.choices(list(tasks), list(tasks.values()))[0]
