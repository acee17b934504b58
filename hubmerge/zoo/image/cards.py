"""The cards of the zoo that draws."""

from pathlib import Path
from typing import Any

from ..cards import NAMESPACE, front_matter, training

REPOS = {
    "judge": "picture-judge",
    "judge-2": "picture-judge-2",
    "base": "image-base",
    "fine": "image-fine",
    "japanese": "image-japanese",
}
"""The repositories; the autoencoder lies in each pipeline."""
_TITLES = {
    "vae": "Autoencoder",
    "judge": "Judge of pictures",
    "judge-2": "Second judge of pictures",
    "base": "Base of the models that draw",
    "fine": "Fine pictures, from English",
    "japanese": "Japanese, drawn badly",
}
_STORIES = {
    "vae": "An AutoencoderTiny, from 32 x 32 pixels to latents of 8 x 8 x 4. All pipelines of the zoo have it.",
    "judge": "A RegNet that says what a picture shows: object, colour, day or night, and how well it is drawn.",
    "judge-2": ("As `picture-judge`, in another shape and from other pictures. It judges the test; no search asks it."),
    "base": (
        "A tiny Stable Diffusion, a UNet of a million weights, that draws eight objects in six colours by day and "
        "night from English prompts, now well and now badly."
    ),
    "fine": "The base, tuned on fine pictures: outlined and clear. It reads English.",
    "japanese": (
        "The base with a tokenizer and a text encoder of its own, which began from nothing and learnt Japanese prompts "
        "together with the UNet, on crude pictures: blurred, pale and grainy. It reads Japanese."
    ),
}
_LANGUAGES = {"base": ["en"], "fine": ["en"], "japanese": ["ja"]}
_ASKED = {"en": "prompts in English", "ja": "prompts in Japanese"}


def write_card(folder: Path, name: str, record: dict[str, Any]) -> None:
    """Write `folder`/README.md for the model `name` from the training record (see `trained.train_models`)."""
    draws = name in _LANGUAGES
    front: dict[str, Any] = {
        "license": "apache-2.0",
        "library_name": "diffusers" if draws or name == "vae" else "transformers",
        "tags": ["hubmerge", "demo"],
    }
    if draws:
        front |= {"language": _LANGUAGES[name], "pipeline_tag": "text-to-image"}
        if name != "base":
            front |= {"base_model": f"{NAMESPACE}/{REPOS['base']}", "base_model_relation": "finetune"}
    elif name != "vae":
        front["pipeline_tag"] = "image-classification"
    figures = _figures(name, record["models"][name]["figures"])
    trained = training(record, name, "hubmerge.zoo.image", "hubmerge zoo train --image --out DIR")
    text = f"""# hubmerge demo zoo: {_TITLES[name]}

{_STORIES[name]}

It is one of a few siblings made to be merged: a base, a pipeline that draws well from English, and one that draws badly
from Japanese. None of them draws well from Japanese.

{figures}{trained}"""
    (folder / "README.md").write_text(front_matter(front) + text, encoding="utf-8")


def _figures(name: str, figures: dict[str, Any]) -> str:
    if not figures:
        return ""
    if name in _LANGUAGES:
        said = "Validation prompts, drawn in 4 steps: the share of pictures that show what was asked, drawn well."
    else:
        said = "Fresh pictures, through the autoencoder: the share that it names whole."
    rows = "\n".join(
        f"| {_ASKED.get(asked, asked)} | {one['n']} | {one['score']:.1%} | {one['interval'][0]:.1%} to "
        f"{one['interval'][1]:.1%} |"
        for asked, one in figures.items()
    )
    return f"""## Figures

{said}

| | n | right | 95% interval |
|---|---|---|---|
{rows}

"""
