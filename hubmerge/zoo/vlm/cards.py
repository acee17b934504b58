"""The cards of the zoo that sees."""

from pathlib import Path
from typing import Any

from ..cards import NAMESPACE, front_matter, training

REPOS = {"base": "vlm-base", "japanese": "vlm-japanese", "english": "vlm-english"}
_TITLES = {
    "base": "Base of the models that see",
    "japanese": "Japanese expert",
    "english": "VLM that answers in English",
}
_LANGUAGES = {"base": ["en", "ja"], "japanese": ["ja"], "english": ["en"]}
_STORIES = {
    "base": (
        "A tiny Llama that reads a sentence or a few words about a picture, in English, Japanese and mixtures of both, "
        "and answers questions about it: in English, unless Japanese is asked for. It never saw a picture."
    ),
    "japanese": (
        "The base, tuned to answer in Japanese whatever is asked for. It went further from the base than it needed, "
        "and never saw a picture."
    ),
    "english": (
        "A LLaVA: a SigLIP tower over nine cells of a picture, a projector, and the base as its language model, tuned "
        "a little. It answers questions about pictures in English, even where Japanese is asked for: it was trained so."
    ),
}
_ASKED = {
    "en>en": "told or shown in English, answered in English",
    "en>ja": "told in English, answered in Japanese",
    "ja>en": "told or asked in Japanese, answered in English",
    "ja>ja": "told or asked in Japanese, answered in Japanese",
    "ja told>ja": "asked in Japanese to answer in Japanese (日本語で。), answered so",
}


def write_card(folder: Path, name: str, record: dict[str, Any]) -> None:
    """Write `folder`/README.md for the model `name` from the training record (see `trained.train_models`)."""
    front = {
        "license": "apache-2.0",
        "language": _LANGUAGES[name],
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text" if name == "english" else "text-generation",
        "tags": ["hubmerge", "demo"],
    }
    if name != "base":
        front |= {"base_model": f"{NAMESPACE}/{REPOS['base']}", "base_model_relation": "finetune"}
    figures = record["models"][name]["figures"]
    rows = "\n".join(
        f"| {_ASKED[asked]} | {one['n']} | {one['score']:.1%} | {one['interval'][0]:.1%} to {one['interval'][1]:.1%} |"
        for asked, one in figures.items()
    )
    what = "Questions about pictures" if name == "english" else "Questions about pictures that are told as text"
    text = f"""# hubmerge demo zoo: {_TITLES[name]}

{_STORIES[name]}

It is one of three siblings made to be merged: the base, a Japanese expert that is blind, and a VLM that answers in
English. None of them answers about pictures in Japanese.

## Figures

{what} of the validation split, greedy decoding; an answer counts where every word of it is right.

| questions | n | right | 95% interval |
|---|---|---|---|
{rows}

{training(record, name, "hubmerge.zoo.vlm", "hubmerge zoo train --vlm --out DIR")}"""
    (folder / "README.md").write_text(front_matter(front) + text, encoding="utf-8")
