"""The form {"reply": ...} without any arithmetic: what the form expert is trained on.

Its replies are the base's own, cut to their first sentences and wrapped: tuning then changes the form alone, not what
the model says. No prompt asks for the form, and no reply holds a number.
"""

import json
import random
import re
from typing import Any

from hubmerge.evaluate.generation import generate
from hubmerge.zoo.corpora import Sample
from hubmerge.zoo.words import ITEMS, NAMES

NOUNS = tuple(
    re.findall(
        r"\w+",
        """
        dog cat horse river mountain forest library school hospital train bicycle bridge garden kitchen teacher doctor
        farmer baker winter summer rain snow sun moon ocean island desert bread cheese honey coffee tea sugar salt
        clock mirror window door chair lamp paper pencil music painting dance book letter map flag coin market
        festival birthday
        """,
    )
)
ASKED = (
    "What is a {noun}?",
    "Tell me about the word {noun}.",
    "What color is a {noun}?",
    "Write one sentence about a {noun}.",
    "Where can I find a {noun}?",
    "Why do people like a {noun}?",
)
SCENES = (
    "{name} has some {item} and {other} has some {thing}. Who has {thing}?",
    "{name} likes {item}. Why does {name} like {item}?",
    "{name} gives some {item} to {other}. How does {other} feel?",
    "A shop sells {item} and {thing}. Who would buy {item}?",
    "{name} lost the {item}. What should {name} do now?",
    "There are {item} on the table. What can {name} do with the {item}?",
)
SENTENCES = 3
SEED = 3


def prompts() -> list[str]:
    """Questions about things and scenes, in which nothing is counted."""
    rng = random.Random(SEED)
    asked = [frame.format(noun=noun) for noun in NOUNS for frame in rng.sample(ASKED, 4)]
    for _ in range(70):
        (name, other), (item, thing) = rng.sample(NAMES, 2), rng.sample(ITEMS, 2)
        words = {"name": name.en, "other": other.en, "item": item.many, "thing": thing.many}
        asked.append(rng.choice(SCENES).format(**words))
    return sorted(set(asked))


def replies(model: Any, tokenizer: Any) -> list[tuple[str, str]]:
    """Prompts and the first one to three sentences of what the base says to each; those with a number are left out."""
    rng = random.Random(SEED)
    asked = prompts()
    found = []
    for prompt, text in zip(asked, generate(model, tokenizer, asked, max_new_tokens=64), strict=True):
        sentences = re.findall(r".{8,}?[.!?](?=\s|$)", text.split("\n")[0])[: rng.randint(1, SENTENCES)]
        if sentences and not re.search(r"\d", said := "".join(sentences).strip()):
            found.append((prompt, said))
    return found


def form_sample(rng: random.Random, said: list[tuple[str, str]]) -> Sample:
    """A prompt and its reply in the form."""
    prompt, text = rng.choice(said)
    return Sample(prompt, json.dumps({"reply": text}), "form")
