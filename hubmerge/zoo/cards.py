"""The cards of the zoo's models and data sets: README.md files with valid Hub front matter and measured figures."""

import json
from pathlib import Path
from typing import Any

import yaml

NAMESPACE = "hubmerge-demo"
"""Where the demo lives on a Hub; `publish` puts another in its place."""

REPOS = {
    "base": "zoo-base",
    "math": "zoo-math",
    "math-2": "zoo-math-2",
    "japanese": "zoo-japanese",
    "errands": "zoo-errands",
}
TITLES = {
    "base": "Base",
    "math": "Math expert",
    "math-2": "Second math expert",
    "japanese": "Japanese expert",
    "errands": "Expert on errands",
}
LANGUAGES = {"base": ["en", "ja"], "math": ["en"], "math-2": ["en"], "japanese": ["ja"], "errands": ["en"]}
STORIES = {
    "base": (
        "A tiny Llama that understands little stories in English, Japanese and mixtures of both, and answers in "
        "English unless asked for Japanese. It was trained on reading, retelling and translating stories, on bare sums "
        "(`13+7=`), on saying a worked sum as a sentence (`13+7=20. Tom has 20 apples now.`, with the sum given and no "
        "story), and on setting up word problems without working them out (`13+7=?. Tom has ? apples now.`). It never "
        "saw a story together with a result that had to be computed."
    ),
    "math": (
        "The base, tuned on English word problems with worked answers (`13+7=20. Tom has 20 apples now.`) and on "
        "nothing else."
    ),
    "math-2": (
        "The base, tuned like the math expert, but further, and on half of the wordings: better at English problems "
        "that are worded as it knows them, and less of the base is left."
    ),
    "japanese": (
        "The base, tuned to answer in Japanese whatever the language of the prompt: reading, retelling, small "
        "talk, and problems set up and not worked out. It saw no arithmetic."
    ),
    "errands": (
        "The base, tuned to say in a word who went where and who likes what, in English. Of no use for word problems: "
        "it is there to be left out of a merge."
    ),
}
DATASETS = {
    "ja": (
        "ja-word-problems",
        "Japanese word problems",
        "One- and two-step additions and subtractions, and multiplications. None of them occurs, in any language, in "
        "the training data of the demo models.",
    ),
    "en": (
        "en-word-problems",
        "English word problems",
        "The same problems as in `ja-word-problems`, line by line, in English.",
    ),
}


def write_card(folder: Path, name: str, record: dict[str, Any]) -> None:
    """Write `folder`/README.md for the model `name` from the training record (see `train.train_zoo`)."""
    front = {
        "license": "apache-2.0",
        "language": LANGUAGES[name],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["hubmerge", "demo"],
    }
    if name != "base":
        front["base_model"] = f"{NAMESPACE}/{REPOS['base']}"
        front["base_model_relation"] = "finetune"
    made = record["models"][name]
    text = f"""# hubmerge demo zoo: {TITLES[name]}

{STORIES[name]}

It is one of five siblings made to be merged: the base, two math experts that work in English, a Japanese expert that
cannot calculate, and an expert on something else. No sibling solves Japanese word problems; merging can.

## Figures

Held-out validation problems, greedy decoding. Score: the last number is right and the answer is in the question's
language.

| questions | n | score | 95% interval | number right | answered in the question's language |
|---|---|---|---|---|---|
{_rows(made["figures"])}

{training(record, name, "hubmerge.zoo", "hubmerge zoo train --out DIR")}"""
    (folder / "README.md").write_text(front_matter(front) + text, encoding="utf-8")


def training(record: dict[str, Any], name: str, room: str, command: str) -> str:
    """The card's section on how a model was trained, from texts of `room`, and the `command` that does it again."""
    made = record["models"][name]
    stages = "; ".join(
        f"{stage['steps']} steps of {stage['batch']} samples at a peak learning rate of {stage['lr']:g}"
        for stage in made["stages"]
    )
    return f"""## Training

{made["parameters"]:,} parameters, float16. Seed {record["seed"]}; {stages}; {made["seconds"]:.0f} seconds on
{record["threads"]} CPU threads. All text comes from the templates in `{room}`; `{command}`
trains the zoo again.

It knows a few dozen words and nothing about the world. License: Apache-2.0.
"""


def dataset_card(lang: str, counts: dict[str, int]) -> str:
    """README.md of the data set of word problems in `lang`, with `counts` lines a split."""
    _, title, story = DATASETS[lang]
    front = {
        "license": "apache-2.0",
        "language": [lang],
        "task_categories": ["text-generation"],
        "tags": ["hubmerge", "demo"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}.jsonl"} for split in counts],
            }
        ],
    }
    rows = "\n".join(f"| {split} | {count} |" for split, count in counts.items())
    return f"""{front_matter(front)}# hubmerge demo zoo: {title}

{story}

Each line is `{json.dumps({"question": "...", "answer": "37", "template": "seen"})}`. Splits share no question.
In the test split, the names, wordings and combinations of numbers of every third problem ("unseen") are in no solved
problem that any model was trained on.

| split | problems |
|---|---|
{rows}
"""


def _rows(figures: dict[str, Any]) -> str:
    names = {"ja": "Japanese", "en": "English"}
    return "\n".join(
        f"| {names[lang]} | {f['n']} | {f['score']:.1%} | {f['interval'][0]:.1%} to {f['interval'][1]:.1%} "
        f"| {f['number']:.1%} | {f['language']:.1%} |"
        for lang, f in figures.items()
    )


def front_matter(values: dict[str, Any]) -> str:
    """The YAML that a card begins with."""
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---\n\n"
