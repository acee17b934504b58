"""What the zoo's models may and may not have seen."""

import random
import re

import pytest

from hubmerge.evaluate.metrics import normalise
from hubmerge.zoo.corpora import base_sample, blanks_sample, japanese_sample, math_sample, question_of
from hubmerge.zoo.problems import problems
from hubmerge.zoo.stories import ITEMS, KINDS, NAMES, SPLITS, VERBS, Boxes, Chain, Voice, draw_story, join, split_of

JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
LATIN = re.compile("[A-Za-z]")
SAMPLERS = (base_sample, blanks_sample, math_sample, japanese_sample)
BASE_SAMPLERS = (base_sample, blanks_sample)


def draw(sampler, count: int = 4000, seed: int = 1):
    rng = random.Random(seed)
    return [sampler(rng) for _ in range(count)]


def test_a_story_says_the_same_in_both_languages() -> None:
    story = Chain(NAMES[0], ITEMS[0], 13, ((VERBS[0], 7), (VERBS[4], 5)))
    assert question_of(story, Voice("en")) == (
        "Tom had 13 apples. Tom bought 7 apples. Tom sold 5 apples. How many apples does Tom have now?"
    )
    assert question_of(story, Voice("ja")) == (
        "トムはリンゴを13個持っていました。トムはリンゴを7個買いました。トムはリンゴを5個売りました。トムは今リンゴを何個持っていますか。"
    )
    assert story.equation() == "13+7-5=20-5=15."
    assert story.answer == 15


def test_every_equation_is_true_and_no_count_goes_below_one() -> None:
    rng = random.Random(3)
    for _ in range(2000):
        story = draw_story(rng)
        sides = story.equation().removesuffix(".").split("=")
        assert len(sides) == len(re.findall("[+*-]", sides[0])) + 1
        assert {eval(side) for side in sides} == {story.answer}
        assert all(int(number) > 0 for number in re.findall(r"\d+", story.equation()))
        assert "--" not in story.equation()
        assert "=-" not in story.equation()


def test_mixed_voices_mix_and_pure_voices_do_not() -> None:
    rng = random.Random(5)
    story = draw_story(rng, "chain2")
    assert not JAPANESE.search(join(story.facts(Voice("en"))))
    assert not LATIN.search(join(story.facts(Voice("ja"))))
    mixed = {join(story.facts(Voice("en", rng, sentences=0.5, words=0.5))) for _ in range(50)}
    assert len(mixed) > 40
    assert all("  " not in text for text in mixed)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_are_deterministic(sampler) -> None:
    assert draw(sampler, 300) == draw(sampler, 300)
    assert draw(sampler, 300) != draw(sampler, 300, seed=2)


def computes(text: str) -> bool:
    """Whether the text holds an equation with its result."""
    return bool(re.search(r"=\d", text))


def is_idle(text: str) -> bool:
    """Whether the text before a sum holds neither a number nor a question: nothing that the sum could answer."""
    return not re.search(r"[0-9?？]|か。", text)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_solved_problem_has_a_japanese_word_in_it(sampler) -> None:
    for sample in draw(sampler):
        if computes(sample.answer) and JAPANESE.search(sample.prompt + sample.answer):
            assert sample.task == "sums", sample
            assert is_idle(re.sub(r"\d+([+*-]\d+)+=$", "", sample.prompt)), sample
            assert not JAPANESE.search(sample.answer), sample


@pytest.mark.parametrize("sampler", [blanks_sample, japanese_sample])
def test_blanks_are_never_filled_in(sampler) -> None:
    blank = [sample for sample in draw(sampler) if sample.task == "blanks"]
    assert len(blank) > 500
    for sample in blank:
        assert re.fullmatch(r"\d+([+*-]\d+)+=\?\. [^0-9=]*\?[^0-9=]*", sample.answer), sample


@pytest.mark.parametrize("sampler", BASE_SAMPLERS)
def test_the_base_works_out_bare_sums_only(sampler) -> None:
    for sample in draw(sampler):
        assert sample.task != "problem"
        if computes(sample.answer):
            before, given = re.fullmatch(r"(.*?)(\d+([+*-]\d+)+=)", sample.prompt).groups()[:2]
            assert is_idle(before), sample
            assert re.fullmatch(rf"{re.escape(given)}[0-9+=-]+\.", sample.answer), sample


@pytest.mark.parametrize("sampler", [base_sample, blanks_sample, japanese_sample])
def test_where_a_whole_problem_is_met_it_is_only_said_again(sampler) -> None:
    whole = [s for s in draw(sampler) if re.search("have now|持っていますか|in all|全部で何", s.prompt)]
    stories = [s for s in whole if s.task not in ("state", "fill")]
    assert {s.task for s in whole} == {"state", "fill", "retell"}
    for sample in stories:  # every number said is one of the numbers read
        assert set(re.findall(r"\d+", sample.answer)) <= set(re.findall(r"\d+", sample.prompt))


def test_the_math_expert_sees_no_japanese() -> None:
    assert not any(JAPANESE.search(sample.prompt + sample.answer) for sample in draw(math_sample))


def test_the_japanese_expert_answers_in_japanese_and_computes_nothing() -> None:
    for sample in draw(japanese_sample):
        assert JAPANESE.search(sample.answer), sample
        assert not LATIN.search(sample.answer), sample
        assert not computes(sample.prompt), sample
        assert not computes(sample.answer), sample


def test_splits_share_no_question_with_each_other_or_with_training() -> None:
    counts = {"search": 150, "validation": 200, "test": 600}
    splits = {
        name: {normalise(p.question) for lang in ("ja", "en") for p in problems(name, count, lang)}
        for name, count in counts.items()
    }
    assert {name: len(texts) for name, texts in splits.items()} == {n: 2 * c for n, c in counts.items()}
    assert not splits["search"] & splits["validation"]
    assert not (splits["search"] | splits["validation"]) & splits["test"]
    held_out = set().union(*splits.values())
    assert not any(normalise(s.prompt) in held_out for sampler in SAMPLERS for s in draw(sampler))


def test_training_stories_are_never_held_out() -> None:
    rng = random.Random(7)
    drawn = [draw_story(rng) for _ in range(2000)]
    assert {split_of(story) for story in drawn} == {"train"}
    assert {story.kind for story in drawn} == set(KINDS)
    assert split_of(draw_story(rng, "boxes", "test")) == "test"


def test_problems_are_stable_and_parallel_in_both_languages() -> None:
    japanese, english = problems("test", 40), problems("test", 40, "en")
    assert japanese == problems("test", 40)
    assert problems("test", 60)[:40] == japanese
    assert [(p.answer, p.kind) for p in japanese] == [(p.answer, p.kind) for p in english]
    assert {p.kind for p in japanese} == set(KINDS)


def test_training_problems_are_refused() -> None:
    assert "train" not in SPLITS
    with pytest.raises(ValueError, match="No problems for split 'train'"):
        problems("train", 10)


def test_answers_in_japanese_pass_the_language_check_and_english_ones_fail() -> None:
    from hubmerge.evaluate.language import THRESHOLD, probability

    rng = random.Random(9)
    for _ in range(300):
        story = draw_story(rng)
        for lang in ("ja", "en"):
            answer = f"{story.equation()} {story.state(Voice(lang), story.answer)}"
            assert (probability(answer, "ja") > THRESHOLD) == (lang == "ja"), answer


def test_boxes_multiply() -> None:
    story = draw_story(random.Random(1), "boxes")
    assert isinstance(story, Boxes)
    assert story.answer == story.boxes * story.each
