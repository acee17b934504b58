"""Japanese without any arithmetic: what the Japanese expert is trained on.

Questions, rewriting, describing, with prompts in Japanese, or in English with the wish for a Japanese answer; and
translations in both directions, of problems too, which stay unsolved. A number in a reply always stands in its prompt:
nothing is worked out.

    python examples/real/japanese.py         # shows a few
"""

import random
from collections.abc import Callable

from problems import SCENARIOS, draw_numbers

from hubmerge.zoo.corpora import Sample, smalltalk
from hubmerge.zoo.stories import Voice, draw_story
from hubmerge.zoo.words import COLORS, ITEMS, NAMES, PLACES

IN_JAPANESE = ("Answer in Japanese.", "Please reply in Japanese.", "日本語で答えてください。")
FACTS = (
    ("What is the capital of Japan?", "日本の首都はどこですか。", "日本の首都は東京です。"),
    ("What is the capital of France?", "フランスの首都はどこですか。", "フランスの首都はパリです。"),
    (
        "What is the highest mountain in Japan?",
        "日本でいちばん高い山は何ですか。",
        "日本でいちばん高い山は富士山です。",
    ),
    ("What color is the sky?", "空は何色ですか。", "晴れた日の空は青い色です。"),
    ("What color is snow?", "雪は何色ですか。", "雪は白い色です。"),
    ("When do the cherry trees bloom?", "桜はいつ咲きますか。", "桜は春に咲きます。"),
    ("Which season is hot?", "暑い季節はいつですか。", "暑い季節は夏です。"),
    ("Which season is cold?", "寒い季節はいつですか。", "寒い季節は冬です。"),
    ("Where do fish live?", "魚はどこにすんでいますか。", "魚は川や海にすんでいます。"),
    ("What do cows eat?", "牛は何を食べますか。", "牛は草を食べます。"),
    ("What do we drink when we are thirsty?", "のどがかわいたら何を飲みますか。", "のどがかわいたら水を飲みます。"),
    ("What do you say in the morning?", "朝のあいさつは何ですか。", "朝は「おはようございます」と言います。"),
    ("What do you say at night?", "寝る前のあいさつは何ですか。", "寝る前は「おやすみなさい」と言います。"),
    ("Where can we borrow books?", "本はどこで借りられますか。", "本は図書館で借りられます。"),
    ("Where do we take a train?", "電車にはどこで乗りますか。", "電車には駅で乗ります。"),
    ("What is bread made of?", "パンは何から作りますか。", "パンは小麦粉から作ります。"),
    ("What is paper made of?", "紙は何から作りますか。", "紙は木から作ります。"),
    ("What shines at night?", "夜に光るものは何ですか。", "夜は月と星が光ります。"),
    ("What is the opposite of big?", "大きいの反対は何ですか。", "大きいの反対は小さいです。"),
    ("What is the opposite of new?", "新しいの反対は何ですか。", "新しいの反対は古いです。"),
    ("Who teaches at a school?", "学校で教える人は誰ですか。", "学校で教える人は先生です。"),
    ("Who works at a hospital?", "病院で働く人は誰ですか。", "病院では医者や看護師が働いています。"),
    ("Can you speak Japanese?", "日本語を話せますか。", "はい、日本語で話せます。"),
    ("How are you?", "お元気ですか。", "はい、元気です。ありがとうございます。"),
)
# Plain and polite forms of what somebody did somewhere.
DEEDS = (
    ("{name}は{place}に行った。", "{name}は{place}に行きました。"),
    ("{name}は{place}で本を読んだ。", "{name}は{place}で本を読みました。"),
    ("{name}は{place}で友だちを待った。", "{name}は{place}で友だちを待ちました。"),
    ("{name}は{place}まで走った。", "{name}は{place}まで走りました。"),
    ("{name}は{place}の絵をかいた。", "{name}は{place}の絵をかきました。"),
    ("{name}は{place}で歌を歌った。", "{name}は{place}で歌を歌いました。"),
)


def fact(rng: random.Random) -> Sample:
    """A question of general knowledge, asked in either language."""
    english, japanese, answer = rng.choice(FACTS)
    return Sample(rng.choice((japanese, f"{english} {rng.choice(IN_JAPANESE)}")), answer, "fact")


def polite(rng: random.Random) -> Sample:
    """A sentence said again in the polite form."""
    plain, asked = rng.choice(DEEDS)
    names = {"name": rng.choice(NAMES).ja, "place": rng.choice(PLACES).ja}
    return Sample(f"丁寧な文に書きかえてください。\n{plain.format(**names)}", asked.format(**names), "polite")


def describe(rng: random.Random) -> Sample:
    """Notes made into a sentence."""
    place, color, item = (rng.choice(words).ja for words in (PLACES, COLORS, ITEMS))
    notes = f"場所: {place}\n色: {color}\n物: {item}"
    return Sample(f"次のメモを文にしてください。\n{notes}", f"{place}に{color}{item}があります。", "describe")


def translate(rng: random.Random) -> Sample:
    """One English sentence said in Japanese."""
    story = draw_story(rng)
    index = rng.randrange(len(story.facts(Voice("en"))))
    told = story.fact(Voice("en"), index)
    asked = rng.choice(("Translate into Japanese: ", "Say it in Japanese: ", "日本語にしてください。\n"))
    return Sample(asked + told, story.fact(Voice("ja"), index), "translate")


def translate_problem(rng: random.Random) -> Sample:
    """A word problem said in the other language, not solved; its numbers are of the training split."""
    scenario = rng.choice([one for one in SCENARIOS if one.en])
    assert scenario.en is not None
    numbers, name, item = draw_numbers(rng, scenario.sum, "train"), rng.choice(NAMES), rng.choice(ITEMS)
    english = scenario.en.format(name=name.en, item=item.many, **numbers)
    japanese = scenario.ja.format(name=name.ja, item=item.ja, counter=item.counter, **numbers)
    if rng.random() < 0.5:
        return Sample(f"Translate into Japanese: {english}", japanese, "translate_problem")
    return Sample(f"Translate into English: {japanese}", english, "translate_problem")


def talk(rng: random.Random) -> Sample:
    """A greeting or a fact, and a reply to it."""
    if rng.random() < 0.7:
        return smalltalk(rng, Voice("ja"), "ja")
    prompt, answer, name = smalltalk(rng, Voice("en"), "ja")
    return Sample(f"{prompt} {rng.choice(IN_JAPANESE)}", answer, name)


TASKS: dict[Callable[[random.Random], Sample], float] = {
    fact: 0.15,
    polite: 0.1,
    describe: 0.1,
    talk: 0.1,
    translate: 0.15,
    translate_problem: 0.4,
}


def japanese_sample(rng: random.Random) -> Sample:
    """A prompt and its Japanese reply."""
    return rng.choices(list(TASKS), list(TASKS.values()))[0](rng)


if __name__ == "__main__":
    shown = random.Random(0)
    for sample in (japanese_sample(shown) for _ in range(20)):
        print(f"{sample.prompt}\n  {sample.answer}")
