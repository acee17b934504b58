"""The model card: what was merged from what, how, how good it is, under which licence - and how to do it again.

`render` turns a `Card` into a README.md whose metadata the Hub understands (lineage, licence, results).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from huggingface_hub import ModelCardData, constants

from .. import amounts
from ..amounts import listed
from ..methods import METHODS
from ..methods.papers import EVOLUTION, PURSUIT, bibtex
from .auto_class import SEEING, TO_IMAGE, auto_class, class_of, task_of
from .licences import LicenceResult, combine
from .markdown import escape, fence, link, table
from .notices import BEGINNING, notice_files
from .scores import CardRow, Pictures, eval_results, render_results
from .source import Source, parts_of, pins_of
from .summary import part_link, summary
from .usage import usage, usage_of_diffusers

DRAWN = "A red fox in the snow"
"""What a pipeline is asked to draw, where no prompt is told."""

_METADATA_ORDER = [
    "license",
    "license_name",
    "license_link",
    "language",
    "datasets",
    "library_name",
    "pipeline_tag",
    "base_model",
    "base_model_relation",
    "tags",
]
HERE = "."
"""What the usage code of a card calls a model that has no repository yet: the folder that it is run in."""

_TASK = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TITLE = re.compile(r"^# (.*)$", re.MULTILINE)
_NAME = re.compile(r"^(?<=model-index:\n)- name: .*(?:\n {4}.*)*", re.MULTILINE)
_AGAIN = re.compile(r"^(hubmerge (?:merge|evolve) \S+\.yaml --out (?:runs/)?).+$", re.MULTILINE)
"""Where a card tells what its model is called."""

CalibrationRow = tuple[str, str, str | None, int, int]
"""A model, the texts that it was measured by, their dataset on the Hub, and how many: texts and tokens."""


@dataclass(frozen=True)
class Card:
    """Everything a card tells.

    `title`: the model's name; evaluations whose `model` is the title or `repo_id` are this model's own results.
    `sources`: the models that went in, the base included; `base_model`: the name (`Source.name`) of the base.
    `curve_image`, `heatmap_image`, `pictures`: files beside the card. `commands`: shell lines that make the model
    again, from one beside it or from its repository. `search`: facts about the search (searcher, popsize,
    evaluations, examples, seed, seconds). `languages`: ISO codes.
    `example`: a prompt for the usage code; `chat`: whether the tokenizer has a chat template; `tokenizer`,
    `processor`: whether there is one. `notes`: Markdown.
    `before`: the methods of the merges whose results `method` was given, in their order. `parts`: what was merged of
    `carried_from`, where all else of it is in the result as it was. `speakers`: names of sources whose tokens the
    result has and nothing else; `transplanted`: whether rows of them were made of other rows. `kind`: what it is of its
    parents. `calibration`: by which texts the parents were measured. `copied`: parts that are here as another model has
    them, by their names; `givers`: names of sources of which there is nothing else. `made`: how large it is, and by
    which versions. `remarks`: what has to be said before all else, in plain sentences. `reads`: whose its tokenizer and
    chat template are, in Markdown. `only_here`: what the search needs and the repository has not, by name.
    """

    title: str
    sources: Sequence[Source]
    recipe_yaml: str
    method: str
    repo_id: str | None = None
    base_model: str | None = None
    evaluations: Sequence[CardRow] = ()
    curve_image: str | None = None
    heatmap_image: str | None = None
    pictures: Pictures | None = None
    commands: Sequence[str] = ()
    search: Mapping[str, Any] | None = None
    languages: Sequence[str] = ()
    notes: Sequence[str] = ()
    example: str = ""
    chat: bool = True
    tokenizer: bool = True
    processor: bool = True
    tags: Sequence[str] = ()
    before: Sequence[str] = ()
    parts: Sequence[str] = ()
    carried_from: Source | None = None
    kind: str = "merge"
    speakers: Sequence[str] = ()
    copied: Mapping[str, Source] = field(default_factory=dict)
    givers: Sequence[str] = ()
    transplanted: bool = False
    calibration: Sequence[CalibrationRow] = ()
    made: str = ""
    remarks: Sequence[str] = ()
    reads: str = ""
    only_here: Sequence[str] = ()

    @property
    def whole(self) -> Source | None:
        """The model of which only `parts` were merged, and that the result otherwise is; None where all was."""
        named = next((source for source in self.sources if source.component is not None), None)
        return self.carried_from or named


def render(card: Card) -> str:
    """The README.md of `card`: YAML front matter, then Markdown. Text from the Hub is escaped; no token gets in."""
    licence = combine(card.sources, _licence_page(card.repo_id) if card.repo_id else None)
    parts = [
        f"---\n{_metadata(card, licence).to_yaml(original_order=_METADATA_ORDER)}\n---",
        f"# {escape(card.title)}",
        summary(card),
        *(f"**{escape(remark)}**" for remark in card.remarks),
        _parents(card, licence),
        _merging(card),
        _measuring(card),
        render_results(
            card.evaluations,
            (card.title, card.repo_id),
            card.curve_image,
            card.heatmap_image,
            card.search,
            card.pictures,
        ),
        _limits(card),
        _usage(card),
        _reproduction(card),
        _licence(licence, bool(notice_files(card.sources))),
        *card.notes,
        _citation(card),
        "Made with hubmerge, after [Evolutionary Optimization of Model Merging Recipes]"
        f"({EVOLUTION}) (Akiba et al. 2024).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(card: Card, licence: LicenceResult) -> ModelCardData:
    hub_ids = list(dict.fromkeys(name for part in parts_of(card.sources) for name in part.repositories))
    task = _task(card)
    own = eval_results((row for row in card.evaluations if row.model in (card.title, card.repo_id)), task)
    return ModelCardData(
        base_model=hub_ids or None,
        base_model_relation="merge" if hub_ids else None,
        library_name=giver.convention.library if (giver := _giver(card)) else "transformers",
        pipeline_tag=task,
        tags=list(dict.fromkeys(["merge", "hubmerge", *card.before, card.method, *card.tags])),
        datasets=list(dict.fromkeys(row[2] for row in card.calibration if row[2])) or None,
        language=list(card.languages) or None,
        license=licence.license,
        license_name=licence.license_name,
        license_link=licence.license_link,
        model_name=card.title if own else None,
        eval_results=own or None,
    )


def _parents(card: Card, licence: LicenceResult) -> str:
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for source in card.sources:
        role = "tokenizer" if source.name in card.speakers else "merged"
        if source.name in card.givers:
            role = ", ".join(part for part, giver in card.copied.items() if giver is source)
        role = "base" if source.name == card.base_model else role
        found.setdefault(
            (source.listing.name, source.listing.identity),
            (role, f"{amounts.count(source.parameters)} ({amounts.size(source.nbytes)})"),
        )
        if source.adapter is not None:
            lora = source.adapter.listing
            found.setdefault((lora.name, lora.identity), ("LoRA", amounts.size(source.adapter.nbytes)))
    rows = []
    pins, differ = pins_of(card.sources), _differ(licence)
    for part, pin, (role, size), row in zip(parts_of(card.sources), pins, found.values(), licence.rows, strict=True):
        commit = escape(pin.revision or "")
        if part.commit:
            commit = link(part.commit[:8], f"{constants.ENDPOINT}/{part.name}/tree/{part.commit}")
        rows.append((part_link(part), role, commit, size, *([link(row.licence, row.link)] if differ else [])))
    headings = ("Model", "Role", "Commit", "Parameters>", *(["Licence"] if differ else []))
    told = "## Parents\n\n" + table(headings, rows)
    if any(part.commit is None for part in parts_of(card.sources)):
        told += (
            "\n\nA local folder lies on the machine that made this model, and nobody else can get it here; the digest "
            "in place of a commit is that of its tensors."
        )
    for part in parts_of(card.sources):
        if part.commit is None and part.repositories:
            made = listed([link(name, f"{constants.ENDPOINT}/{name}") for name in part.repositories])
            told += f" {part_link(part).capitalize()} was made from {made}."
    return told


def _merging(card: Card) -> str:
    own = " with what hubmerge adds to it" if card.before or card.whole else ""
    return (
        f"## How it was merged\n\nThe recipe, in [mergekit](https://github.com/arcee-ai/mergekit)'s format{own}, "
        f"with every model at its commit:\n\n{fence(card.recipe_yaml, 'yaml')}"
        + (f"\n\n{card.made}" if card.made else "")
    )


def _measuring(card: Card) -> str:
    if not card.calibration:
        return ""
    rows = [
        (
            escape(model),
            link(source, f"{constants.ENDPOINT}/datasets/{dataset}") if dataset else escape(source),
            count,
            n,
        )
        for model, source, dataset, count, n in ((*row[:3], f"{row[3]:,}", f"{row[4]:,}") for row in card.calibration)
    ]
    return "## By which texts\n\nEach parent was run on these before, and none of it was trained on them:\n\n" + table(
        ("Model", "Texts", "Number>", "Tokens>"), rows
    )


def _limits(card: Card) -> str:
    measured = (
        "Nothing else was measured of it than what stands under Results."
        if card.evaluations
        else "Nobody has measured what it does: try it on what you need before you rely on it."
    )
    return (
        "## What it is for\n\nFor what its parents are for: it has their knowledge, their limits and their biases, and "
        f"their cards tell of these. {measured}" + (f"\n\n{card.reads}" if card.reads else "")
    )


def _one_file(card: Card) -> str | None:
    """The file of weights that is all there is of the result; None where it has settings beside."""
    giver = card.whole or next(iter(card.sources), None)
    return f"{giver.convention.stem}.safetensors" if giver and giver.convention.settings is None else None


def _usage(card: Card) -> str:
    config, model_id = _config(card), card.repo_id or HERE
    kind, task = auto_class(config), task_of(config)
    if class_of(config) is not None:
        file = _one_file(card)
        if file is not None:
            model_id = f"{constants.ENDPOINT}/{card.repo_id}/blob/main/{file}" if card.repo_id else file
        example = next(iter(card.pictures.prompts), DRAWN) if card.pictures else DRAWN
        code = usage_of_diffusers(kind, model_id, example, task == TO_IMAGE, file is not None)
        return f"## Use it\n\n{code}"
    code = usage(
        kind,
        model_id,
        card.example or ("What is in this picture?" if kind == SEEING and card.processor else "What is 3 + 4?"),
        chat=card.chat,
        tokenizer=card.tokenizer,
        processor=card.processor,
        images=task == "image-feature-extraction",
    )
    return f"## Use it\n\n{code}"


def _giver(card: Card) -> Source | None:
    return card.whole or next(iter(card.sources), None)


def _config(card: Card) -> Mapping[str, Any]:
    return giver.config if (giver := _giver(card)) else {}


def _task(card: Card) -> str | None:
    """What the model is for: as the parents' cards say, where those that do agree and open alike; else by its class."""
    kind = auto_class(_config(card))
    stated = {
        tag if auto_class(source.config) == kind else ""
        for source in card.sources
        if isinstance(tag := source.listing.card.get("pipeline_tag"), str)
    }
    only = stated.pop() if len(stated) == 1 else ""
    return only if _TASK.fullmatch(only) else task_of(_config(card))


def _reproduction(card: Card) -> str:
    if not card.commands:
        return ""
    recipe = card.commands[0].split()[2]
    is_here = recipe.endswith((".yaml", ".yml"))
    first = (
        f"With `{recipe}` of this repository:"
        if is_here
        else "From this repository alone; `reproduce` compares every tensor:"
    )
    if card.search and card.commands[1:]:
        first = f"The model, by `{recipe}` of this repository; and the search that found it, by `search.yaml`:"
    told = ["## Make it again", first, fence("\n".join(card.commands), "bash")]
    if card.only_here:
        told.append(f"The search needs {escape(listed(card.only_here))}, which only the machine that it ran on has.")
    return "\n\n".join(told)


def _citation(card: Card) -> str:
    methods = [METHODS[name].paper for name in (*card.before, card.method) if name in METHODS]
    entries = bibtex([*methods, *([PURSUIT] if card.transplanted else []), *([EVOLUTION] if card.search else [])])
    return f"## Cite\n\nThe papers of what made it:\n\n{fence(entries, 'bibtex')}" if entries else ""


def _licence(licence: LicenceResult, noticed: bool) -> str:
    """What the metadata do not say: that the parents differ, state none, or ask for something."""
    parts = []
    if licence.license is None:
        parts.append("The parents do not state a licence; ask their authors before you share or use this model.")
    elif _differ(licence):
        parts.append("The parents carry different licences; this model is bound by all of them.")
    if licence.warnings:
        parts.append("\n".join(f"- {escape(text)}" for text in licence.warnings))
    if noticed:
        parts.append(f"The texts and notices that the parents come with are in the files `{BEGINNING}*`.")
    return "\n\n".join(("## Licence", *parts)) if parts else ""


def named(text: str, repo_id: str) -> str:
    """The card of a folder as that of the repository `repo_id`: title, scores, code and commands go by that name, and
    its licence has an address. What somebody wrote stays."""
    name = repo_id.split("/")[-1]
    text = text.replace(f"model_id = {json.dumps(HERE)}", f"model_id = {json.dumps(repo_id)}")
    front, end, rest = text.partition("\n---\n")
    if (title := _TITLE.search(rest)) is not None:
        own = f"| **{escape(name)}** |"
        rest = rest.replace(title[0], f"# {escape(name)}", 1).replace(f"| **{title[1]}** |", own)
        rest = _AGAIN.sub(lambda found: found[1] + name, rest)
        stated = _NAME.search(front)
        if stated is not None and escape(yaml.safe_load(stated[0])[0]["name"]) == title[1]:
            front = front.replace(stated[0], yaml.safe_dump([{"name": name}]).rstrip(), 1)
    if "\nlicense: other\n" in front and "\nlicense_link:" not in front:
        link = f"\nlicense_link: {_licence_page(repo_id)}"
        front = re.sub(r"(\nlicense_name: .*)", lambda found: found[1] + link, front, count=1)
    return front + end + rest


def _licence_page(repo_id: str) -> str:
    return f"{constants.ENDPOINT}/{repo_id}#licence"


def _differ(licence: LicenceResult) -> bool:
    return len({(row.licence, row.link) for row in licence.rows}) > 1
