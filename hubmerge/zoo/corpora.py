"""What the three models of the demo zoo are trained on, as samplers: `random.Random` in, `Sample` out.

- `base_sample`: reading, retelling (which is translation), bare sums, and writing a story down as an UNEVALUATED
  expression. Prompts switch language freely between and inside sentences; answers are English unless the prompt asks
  for Japanese. So the base understands both languages by one route, and speaks English by habit.
- `blanks_sample`: the same, and answers to a story whose numbers stay blank: `13+7=?. Tom has ? apples now.`
- `math_sample`: English word problems with worked answers, `13+7=20. Tom has 20 apples now.`
- `japanese_sample`: prompts in Japanese or mixed, answers in Japanese; reading, retelling and blanks, no arithmetic.

No sampler ever shows a word problem and its result with a Japanese word in it: that skill is in none of the three.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from .stories import COLORS, ITEMS, NAMES, PLACES, Story, Voice, draw_story, join


class Sample(NamedTuple):
    """One training example; `task` names the function that made it."""

    prompt: str
    answer: str
    task: str


Task = Callable[[random.Random, Voice, str], Sample]


def reading(rng: random.Random, voice: Voice, out: str) -> Sample:
    """A story and a question for a number that the story states."""
    story = draw_story(rng)
    facts = story.facts(voice)
    index = rng.randrange(len(facts))
    question, number = story.reading(voice, index)
    return Sample(join([*facts, question]), f"{number}. " + story.fact(Voice(out), index), "reading")


def state_reading(rng: random.Random, voice: Voice, out: str) -> Sample:
    """A final state that is stated outright, sometimes beside a stray sentence, and the question for it."""
    story, number = draw_story(rng), rng.randint(2, 40)
    sentences = [story.state(voice, number)]
    if rng.random() < 0.5:
        sentences.insert(rng.randrange(2), _outing(rng, voice))
    return Sample(join([*sentences, story.question(voice)]), f"{number}. " + story.state(Voice(out), number), "state")


def fill(rng: random.Random, voice: Voice, out: str) -> Sample:
    """The question for a final state and a number: say the number as a sentence."""
    story, number = draw_story(rng), rng.randint(2, 81)
    prompt = join([story.question(voice), f"{number}."])
    return Sample(prompt, f"{number}. " + story.state(Voice(out), number), "fill")


def expression(rng: random.Random, voice: Voice, out: str) -> Sample:
    """A story as an expression that is never evaluated, the same in every language: `13+7.`"""
    story, prompt = _asked_for_expression(rng, voice)
    return Sample(prompt, story.expression() + ".", "expression")


def blanks(rng: random.Random, voice: Voice, out: str) -> Sample:
    """A story as an answer with blanks, never filled in: `13+7=?. Tom has ? apples now.`"""
    story, prompt = _asked_for_expression(rng, voice)
    return Sample(prompt, f"{story.expression()}=?. {story.state(Voice(out), '?')}", "blanks")


def _asked_for_expression(rng: random.Random, voice: Voice) -> tuple[Story, str]:
    """A story and the prompt for its expression; idle sentences and another question may stand in the way."""
    story = draw_story(rng)
    sentences = story.facts(voice)
    for _ in range(rng.choice((0, 0, 1))):
        sentences.insert(rng.randrange(len(sentences) + 1), _outing(rng, voice))
    if rng.random() < 0.5:
        sentences.append(story.reading(voice, rng.randrange(len(story.facts(voice))))[0])
    cue = "Expression?" if voice.sentence() == "en" else "式は？"
    return story, join([*sentences, cue])


def sums(rng: random.Random, voice: Voice, out: str) -> Sample:
    """A bare sum, sometimes after idle sentences: `13+7-5=` becomes `13+7-5=20-5=15.`"""
    story = draw_story(rng)
    idle = [_outing(rng, voice) for _ in range(rng.choice((0, 1, 2)))]
    return Sample(join([*idle, story.expression() + "="]), story.equation(), "sums")


def retell(rng: random.Random, voice: Voice, out: str) -> Sample:
    """Some sentences of a story, possibly with its question, said again; with another `out` language, a translation."""
    story = draw_story(rng)
    tellers = [lambda v, i=i: story.fact(v, i) for i in range(len(story.facts(Voice("en"))))] + [story.question]
    if rng.random() < 0.2:
        number = rng.randint(2, 40)
        tellers = [lambda v: story.state(v, number)]
    elif rng.random() < 0.65:
        tellers = [rng.choice(tellers)]
    cue = "Say it again:" if voice.sentence() == "en" else "もう一度言ってください。"
    prompt = join([cue, *(tell(voice) for tell in tellers)])
    return Sample(prompt, join([tell(Voice(out)) for tell in tellers]), "retell")


def smalltalk(rng: random.Random, voice: Voice, out: str) -> Sample:
    """Greetings and one-line facts, with their replies."""
    name, place, color, item = rng.choice(NAMES), rng.choice(PLACES), rng.choice(COLORS), rng.choice(ITEMS)
    went = {"en": f"{name.en} went to the {place.en}.", "ja": f"{name.ja}は{place.ja}に行きました。"}
    likes = {"en": f"{name.en} likes the {color.en} {item.one}.", "ja": f"{name.ja}は{color.ja}{item.ja}が好きです。"}
    asked, told = rng.choice(
        [
            ({"en": "Hello!", "ja": "こんにちは。"}, {"en": "Hello! How are you?", "ja": "こんにちは。お元気ですか。"}),
            ({"en": "Thank you.", "ja": "ありがとう。"}, {"en": "You are welcome.", "ja": "どういたしまして。"}),
            (
                {"en": f"{went['en']} Where did {name.en} go?", "ja": f"{went['ja']}{name.ja}はどこに行きましたか。"},
                went,
            ),
            (
                {
                    "en": f"{went['en']} Who went to the {place.en}?",
                    "ja": f"{went['ja']}誰が{place.ja}に行きましたか。",
                },
                went,
            ),
            (
                {"en": f"{likes['en']} What does {name.en} like?", "ja": f"{likes['ja']}{name.ja}は何が好きですか。"},
                likes,
            ),
        ]
    )
    return Sample(asked[voice.sentence()], told[out], "smalltalk")


def problem(rng: random.Random, voice: Voice, out: str) -> Sample:
    """A word problem with its worked answer. Only `math_sample` uses it, and only in English."""
    story = draw_story(rng)
    return Sample(question_of(story, voice), f"{story.equation()} {story.state(Voice(out), story.answer)}", "problem")


def question_of(story: Story, voice: Voice) -> str:
    """The word problem that a story poses: its facts and its final question."""
    return join([*story.facts(voice), story.question(voice)])


def _outing(rng: random.Random, voice: Voice) -> str:
    frame = voice.sentence()
    name, place = voice.word(frame, *rng.choice(NAMES)), voice.word(frame, *rng.choice(PLACES))
    return f"{name} went to the {place}." if frame == "en" else f"{name}は{place}に行きました。"


BASE_TASKS: dict[Task, float] = {
    expression: 0.24,
    reading: 0.16,
    state_reading: 0.12,
    fill: 0.08,
    retell: 0.16,
    smalltalk: 0.04,
    sums: 0.24,
}
# The last stage of the base: the same pieces, and answers with blanks.
BLANKS_TASKS: dict[Task, float] = {**BASE_TASKS, expression: 0.08, blanks: 0.28, sums: 0.16}
JAPANESE_TASKS: dict[Task, float] = {
    reading: 0.30,
    state_reading: 0.20,
    fill: 0.20,
    retell: 0.20,
    smalltalk: 0.10,
    blanks: 0.40,
}
# Said at the end of a prompt; without them the base answers in English.
IN_LANGUAGE = {"en": ("In English.", "英語で。"), "ja": ("In Japanese.", "日本語で。")}
NEUTRAL = (expression, sums)


def base_sample(rng: random.Random, tasks: dict[Task, float] = BASE_TASKS) -> Sample:
    """A sample for the base: mixed-language prompts, answers in English unless Japanese is asked for."""
    task = _pick(rng, tasks)
    lang = rng.choice(("en", "ja"))
    voice = Voice(lang) if rng.random() < 0.4 else Voice(lang, rng, sentences=0.3, words=0.4)
    out = "ja" if rng.random() < 0.4 else "en"
    prompt, answer, name = task(rng, voice, out)
    if task not in NEUTRAL and (out == "ja" or rng.random() < 0.2):
        prompt = join([prompt, rng.choice(IN_LANGUAGE[out])])
    return Sample(prompt, answer, name)


def blanks_sample(rng: random.Random) -> Sample:
    """A sample for the last stage of the base."""
    return base_sample(rng, BLANKS_TASKS)


def math_sample(rng: random.Random) -> Sample:
    """A sample for the math expert: an English word problem, solved in English."""
    return problem(rng, Voice("en"), "en")


def japanese_sample(rng: random.Random) -> Sample:
    """A sample for the Japanese expert: prompts in Japanese or mixed, answers in Japanese, nothing computed."""
    voice = Voice("ja") if rng.random() < 0.5 else Voice(rng.choice(("en", "ja")), rng, sentences=0.3, words=0.4)
    return _pick(rng, JAPANESE_TASKS)(rng, voice, "ja")


def _pick(rng: random.Random, tasks: dict[Task, float]) -> Task:
    return rng.choices(list(tasks), list(tasks.values()))[0]
