"""The card of a LoRA that was extracted: of what it is, how near it comes, how to use it and to make it again."""

import json
from typing import Any

import yaml
from huggingface_hub import constants

from ..amounts import count
from ..hub.card import HERE
from ..hub.licences import combine
from ..hub.listing import Listing
from ..hub.markdown import escape, fence, link, table
from ..hub.source import Source
from ..places import folder_name, without_paths
from .adapter import Extraction
from .summary import kinds

_HU = "https://arxiv.org/abs/2106.09685"


def render(extraction: Extraction, repo_id: str | None = None) -> str:
    """The README.md of an extraction."""
    base, model = extraction.plan.sources
    licence = combine(extraction.plan.sources, f"{constants.ENDPOINT}/{repo_id}#licence" if repo_id else None)
    metadata: dict[str, Any] = {
        "library_name": "peft",
        "base_model": base.name if base.commit else None,
        "base_model_relation": "adapter" if base.commit else None,
        "tags": ["lora", "peft", "hubmerge", "extract_lora"],
        "license": licence.license,
        "license_name": licence.license_name,
        "license_link": licence.license_link,
    }
    front = yaml.safe_dump({key: value for key, value in metadata.items() if value}, sort_keys=False)
    title = repo_id.split("/")[-1] if repo_id else f"LoRA of {_title(model)}"
    rows = [
        (escape(one.name), f"{one.modules:,}", one.ranks, f"{one.energy:.1%}", f"{one.least:.1%}")
        for one in kinds(extraction)
    ]
    licences = [(escape(row.model), link(row.licence, row.link)) for row in licence.rows]
    heads = ("Modules", "Number>", "Rank>", "Energy kept>", "Least of them>")
    parts = [
        f"---\n{front}---",
        f"# {escape(title)}",
        f"What {_link(model)} learnt on top of {_link(base)}, as a [LoRA]({_HU}): the best product of thin matrices "
        f"for each weight's difference, by its singular values. No training took place. It has "
        f"{count(extraction.plan.parameters)} parameters and holds {extraction.energy:.1%} of the square of what "
        "changed.",
        f"## How near it comes\n\n{table(heads, rows)}",
        "\n".join(f"- {escape(without_paths(one.message))}" for one in extraction.plan.warnings),
        f"## Use it\n\n{fence(_usage(base, repo_id), 'python')}",
        f"## Make it again\n\n{fence(_command(extraction), 'bash')}",
        f"## Licence\n\n{table(('Model', 'Licence'), licences)}",
        "\n".join(f"- {escape(text)}" for text in licence.warnings),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(source: Source) -> str:
    return source.title.split("/")[-1]


def _link(source: Source) -> str:
    return " + ".join(map(_part, source.parts))


def _part(part: Listing) -> str:
    if part.commit is None:
        return f"local folder `{folder_name(part.name).replace('`', chr(39))}`"
    return link(part.name, f"{constants.ENDPOINT}/{part.name}")


def _usage(base: Source, repo_id: str | None) -> str:
    name = json.dumps(base.name if base.commit else folder_name(base.name))
    return f"""from peft import PeftModel
from transformers import AutoModelForCausalLM

model_id = {json.dumps(repo_id or HERE)}
model = AutoModelForCausalLM.from_pretrained({name}, dtype="auto")
model = PeftModel.from_pretrained(model, model_id)"""


def _command(extraction: Extraction) -> str:
    recipe = extraction.plan.recipe.to_dict()
    asked = " ".join(
        f"--{key}" if value is True else f"--{key} {value:g}" for key, value in recipe["parameters"].items() if value
    )
    (entry,) = recipe["models"]
    return f"hubmerge extract-lora {entry['model']} --base {recipe['base_model']} {asked} --out lora"
