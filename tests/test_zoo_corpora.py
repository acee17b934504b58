"""What the zoo's models may and may not have seen."""

import random
import re
from functools import cache

import pytest

from hubmerge.evaluate.metrics import normalise
from hubmerge.zoo.corpora import base_sample, errands_sample, japanese_sample, math_sample, second_math_sample
from hubmerge.zoo.stories import (
    KINDS,
    UNSEEN_WORDING,
    Chain,
    Voice,
    blanks,
    draw_story,
    has_unseen_numbers,
    join,
    question_of,
    split_of,
)
from hubmerge.zoo.word_problems import problems
from hubmerge.zoo.words import ITEMS, NAMES, UNSEEN_NAMES, VERBS

JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
LATIN = re.compile("[A-Za-z]")
SAMPLERS = (base_sample, math_sample, second_math_sample, japanese_sample, errands_sample)


@cache
def draw(sampler, count: int = 2000, seed: int = 1):
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
    assert draw(sampler, 300) == draw.__wrapped__(sampler, 300)
    assert draw(sampler, 300) != draw(sampler, 300, seed=2)


def computes(text: str) -> bool:
    """Whether the text holds an equation with its result."""
    return bool(re.search(r"=\d", text))


def is_idle(text: str) -> bool:
    """Whether the text before a sum holds neither a number nor a question: nothing that the sum could answer."""
    return not re.search(r"[0-9?？]|か。", text)


def sum_asked(prompt: str) -> tuple[str, str]:
    """What stands before a bare sum at the end of a prompt, and the sum in symbols: `13+7=`."""
    before, given = re.fullmatch(r"(.*?)(\d+(?:(?:[+*-]| plus | minus | times )\d+)+=?)", prompt).groups()
    for said, sign in ((" plus ", "+"), (" minus ", "-"), (" times ", "*")):
        given = given.replace(said, sign)
    return before, given.removesuffix("=") + "="


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_solved_problem_has_a_japanese_word_in_it(sampler) -> None:
    for sample in draw(sampler):
        if computes(sample.answer) and JAPANESE.search(sample.prompt + sample.answer):
            # A sum without a question, or a question with a sum worked out already: never the facts of a story.
            if sample.task == "sums":
                assert is_idle(sum_asked(sample.prompt)[0]), sample
                assert not JAPANESE.search(sample.answer), sample
            else:
                assert sample.task == "finish", sample
                before, given = re.match(r"(\D*)([0-9=+*-]+\.)", sample.prompt).groups()
                assert re.search("[?か]", before), sample
                assert sample.answer.startswith(given), sample


@pytest.mark.parametrize("sampler", [base_sample, japanese_sample])
def test_a_problem_set_up_is_never_worked_out(sampler) -> None:
    prepared = [sample for sample in draw(sampler) if sample.task == "setup"]
    assert len(prepared) > 250
    for sample in prepared:
        equation, said = sample.answer.split(". ", 1)
        assert re.fullmatch(r"\d+([+*-]\d+)+(=\?([+-]\d+)?)+", equation), sample
        assert re.fullmatch(r"[^0-9=]*\?[^0-9=]*", said), sample


def test_the_base_works_out_bare_sums_only() -> None:
    for sample in draw(base_sample):
        assert sample.task != "problem"
        if computes(sample.answer) and sample.task != "finish":
            before, given = sum_asked(sample.prompt)
            assert is_idle(before), sample
            assert re.fullmatch(rf"{re.escape(given)}[0-9+=-]+\.", sample.answer), sample


@pytest.mark.parametrize("sampler", [base_sample, japanese_sample])
def test_where_a_whole_problem_is_met_no_number_is_added_to_it(sampler) -> None:
    for sample in draw(sampler):
        if sample.task in ("setup", "retell", "reading"):
            assert set(re.findall(r"\d+", sample.answer)) <= set(re.findall(r"\d+", sample.prompt)), sample


@cache
def unseen_expressions() -> set[str]:
    rng = random.Random(4)
    return {draw_story(rng, world="unseen", split="test").expression() for _ in range(2000)}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_names_wordings_and_numbers_of_unseen_problems_are_in_no_solved_problem(sampler) -> None:
    names = "|".join(word for name in UNSEEN_NAMES for word in name)
    english, japanese = (
        "is what|Later|Now .* how many|We see|are in each|In all there",
        "その後|が今持っている|合わせて|[個枚本冊]の",
    )
    wordings = f"{english}|{japanese}"
    unseen = unseen_expressions()
    for sample in draw(sampler):
        if sample.task == "problem":
            assert not re.search(f"{names}|{wordings}", sample.prompt), sample
            assert sample.answer.split("=")[0] not in unseen, sample


@pytest.mark.parametrize("sampler", [math_sample, second_math_sample, errands_sample])
def test_experts_in_english_see_no_japanese(sampler) -> None:
    assert not any(JAPANESE.search(sample.prompt + sample.answer) for sample in draw(sampler))


def test_errands_have_one_answer_and_no_number() -> None:
    for sample in draw(errands_sample):
        assert not re.search(r"\d", sample.prompt + sample.answer), sample


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


def test_a_third_of_the_test_problems_is_unseen_and_search_and_validation_are_not() -> None:
    assert {p.template for split in ("search", "validation") for p in problems(split, 100)} == {"seen"}
    drawn = problems("test", 300, "en")
    unseen = [p for p in drawn if p.template == "unseen"]
    assert len(unseen) == 100
    assert all(re.search("is what|We see", p.question) for p in unseen)
    assert not any(re.search("is what|We see", p.question) for p in drawn if p.template == "seen")


def test_unseen_stories_have_names_wording_and_numbers_of_their_own() -> None:
    rng = random.Random(8)
    for kind in KINDS:
        for world, wordings, names in (("seen", {0, 1}, NAMES), ("unseen", {UNSEEN_WORDING}, UNSEEN_NAMES)):
            stories = [draw_story(rng, kind, "test", world) for _ in range(200)]
            assert {story.wording for story in stories} == wordings
            assert {has_unseen_numbers(story) for story in stories} == {world == "unseen"}
            assert kind == "boxes" or {story.name for story in stories} <= set(names)


def test_blanks_stand_for_what_has_to_be_worked_out() -> None:
    story = Chain(NAMES[0], ITEMS[0], 13, ((VERBS[0], 7), (VERBS[4], 5)))
    assert blanks(story) == "13+7-5=?-5=?."


def test_training_problems_are_refused() -> None:
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
    assert story.equation() == f"{story.boxes}*{story.each}={story.boxes * story.each}."
    assert story.answer == story.boxes * story.each
