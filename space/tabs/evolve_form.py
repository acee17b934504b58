"""The form of the Evolve tab: the task, what is searched, how much, and its splits."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from hubmerge.evaluate.task import BUILTIN
from hubmerge.evolve.spec.searcher import SEARCHERS
from hubmerge.methods import METHODS

from ..forms.search import USUAL, explain_genes, gene_names, searchable
from ..theme import html, optional_number
from ..views.parts import note

DEFAULT_METHOD = "task_arithmetic"
_SPACES = [("recipes: the weights", "ps"), ("paths: through the layers", "dfs"), ("recipes, then paths", "ps dfs")]
_GRANULARITIES = [("one value a model", "model"), ("one a layer", "layer"), ("attention, MLP, rest", "group")]
_GRANULARITIES += [("down, mid, up", "side"), ("down, mid, up, each attention and rest", "side_group")]
_OBJECTIVES = [
    ("score", "score"),
    ("right answers", "metric"),
    ("right language", "language"),
    ("short paths", "short"),
    ("brief answers", "brief"),
]
_SEARCHERS = [("usual (recipes: cmaes, paths: edits)", USUAL), *((name, name) for name in SEARCHERS)]
_LANGUAGES = [("any language", ""), ("Japanese", "ja"), ("English", "en"), ("German", "de"), ("French", "fr")]
_LANGUAGES += [("Spanish", "es"), ("Chinese", "zh"), ("Korean", "ko")]
_BUDGET_HELP = (
    "Evaluations: candidates in all, popsize of them a generation. Minutes: 0 is no limit. "
    "The same seed gives the same search."
)
_LOOKING = [
    ("nobody: the models write", ""),
    ("CLIP or SigLIP: how well they fit the words", "clip"),
    ("an image classifier: what it gives the answer", "classifier"),
]
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

Controls = dict[str, Any]
"""Components by the field of `SearchForm` that each fills."""


def search_controls(given: Mapping[str, Any] | str | None, on_space: bool) -> Controls:
    """Builds the form; `given` is the page's own task. The models come from another tab."""
    return {**_task(given), **_drawing(on_space), **_genome(), **_budget(), **_rest()}


def _task(given: Mapping[str, Any] | str | None) -> Controls:
    own = str(given.get("name", "task")) if isinstance(given, Mapping) else given
    tasks = list(dict.fromkeys([*([own] if own else []), *BUILTIN]))
    with gr.Group():
        task = gr.Dropdown(
            tasks,
            value=own or None,
            allow_custom_value=True,
            label="Task",
            info="built in, or a dataset of the Hub with files for search (or train), validation and test",
            elem_id="hm-task",
        )
        with gr.Accordion("Or your own examples", open=False, elem_id="hm-own-examples"):
            file = gr.File(
                file_types=[".csv", ".jsonl"], label="CSV or JSON lines with question and answer", height=110
            )
        with gr.Row(visible=False) as asked:
            language = gr.Dropdown(
                _LANGUAGES, value="", label="Answers must be in", allow_custom_value=True, min_width=130
            )
            longest = gr.Number(
                64, label="Longest answer, tokens", precision=0, minimum=1, min_width=130, elem_id="hm-longest"
            )
        picture = gr.Textbox(
            "", label="Field with a picture", placeholder="none", visible=False, elem_id="hm-picture-field"
        )

    # A built-in task says these by itself.
    def asks_more(name: str | None, file: str | None) -> tuple[gr.Row, gr.Textbox]:
        own = bool(name) and name not in tasks
        return gr.Row(visible=bool(file) or own), gr.Textbox(visible=own and not file)

    gr.on([task.change, file.change], asks_more, [task, file], [asked, picture], **_QUIET)
    return {"task": task, "file": file, "language": language, "longest": longest, "picture": picture}


def _drawing(on_space: bool) -> Controls:
    """Who looks at pictures, where the models draw, and how these are drawn; a Space runs no such search."""
    with gr.Accordion("Models that draw", open=False, visible=not on_space, elem_id="hm-drawing"):
        looks = gr.Dropdown(_LOOKING, value="", label="Who looks at the pictures", elem_id="hm-looks")
        with gr.Column(visible=False) as more:
            looker = gr.Textbox("", label="Its Hub ID", placeholder="openai/clip-vit-base-patch32", elem_id="hm-looker")
            prompts = gr.Textbox(
                "",
                label="Prompts",
                info="one a line, shared out among search, validation and test; without any, those of the task",
                lines=4,
                max_lines=12,
                elem_id="hm-search-prompts",
            )
            with gr.Row():
                seeds = gr.Textbox(
                    "1", label="Seeds", info="each prompt with each", min_width=120, elem_id="hm-search-seeds"
                )
                steps = gr.Number(20, label="Steps", precision=0, minimum=1, min_width=120, elem_id="hm-search-steps")
                guidance = optional_number("Guidance")
            with gr.Row():
                height, width = optional_number("Height, pixels"), optional_number("Width, pixels")
            negative = gr.Textbox("", label="What pictures are not to show", placeholder="nothing")
    looks.change(lambda chosen: gr.Column(visible=bool(chosen)), [looks], [more], **_QUIET)
    who = {"looks": looks, "looker": looker, "prompts": prompts}
    return {
        **who,
        "steps": steps,
        "seeds": seeds,
        "guidance": guidance,
        "height": height,
        "width": width,
        "negative": negative,
    }


def _genome() -> Controls:
    with gr.Group():
        spaces = gr.Radio(_SPACES, value="ps", label="What is searched", elem_id="hm-spaces")
        with gr.Column(visible=True) as recipes:
            method = gr.Dropdown(searchable(), value=DEFAULT_METHOD, label="Method", elem_id="hm-search-method")
            genes = gr.CheckboxGroup(
                gene_names(METHODS[DEFAULT_METHOD]),
                value=["weight"],
                label="What may vary",
                info=explain_genes(METHODS[DEFAULT_METHOD]),
                elem_id="hm-genes",
            )
            granularity = gr.Radio(
                _GRANULARITIES, value="layer", label="How finely", info="down, mid, up: networks that draw"
            )

    def genes_of(name: str) -> gr.CheckboxGroup:
        names = gene_names(METHODS[name])
        return gr.CheckboxGroup(choices=names, value=names[:1], info=explain_genes(METHODS[name]))

    def asks_recipes(chosen: str) -> gr.Column:
        return gr.Column(visible="ps" in chosen.split())

    method.input(genes_of, [method], [genes], **_QUIET)
    spaces.input(asks_recipes, [spaces], [recipes], **_QUIET)
    return {"spaces": spaces, "method": method, "genes": genes, "granularity": granularity}


def _budget() -> Controls:
    with gr.Group():
        searcher = gr.Dropdown(_SEARCHERS, value=USUAL, label="Searcher", elem_id="hm-searcher")
        with gr.Row():
            evaluations = gr.Number(120, label="Evaluations", precision=0, minimum=4, min_width=120, elem_id="hm-evals")
            popsize = gr.Number(12, label="Popsize", precision=0, minimum=4, min_width=120, elem_id="hm-popsize")
        with gr.Row():
            minutes = gr.Number(
                None, label="Minutes at most", placeholder="any", minimum=0, min_width=120, elem_id="hm-minutes"
            )
            seed = gr.Number(1, label="Seed", precision=0, minimum=0, min_width=120)
        html(note(_BUDGET_HELP, "quiet", "hm-help", tag="p"))
        objectives = gr.CheckboxGroup(
            _OBJECTIVES,
            value=["score"],
            label="Objectives",
            info="score: right, and in the language asked for; two or more objectives: choose nsga2, "
            "map_elites or cycleqd, and get a Pareto front",
            elem_id="hm-objectives",
        )
    budget = {"evaluations": evaluations, "popsize": popsize, "minutes": minutes, "seed": seed}
    return {"searcher": searcher, **budget, "objectives": objectives}


def _rest() -> Controls:
    with gr.Accordion("Examples of each split at most, comparisons, economy", open=False):
        with gr.Row():
            splits = {
                split: gr.Number(number, label=split, precision=0, minimum=1, min_width=90, elem_id=f"hm-{split}")
                for split, number in (("search", 60), ("validation", 100), ("test", 300))
            }
        compared = gr.Checkbox(False, label="Compare with random search and a grid of the same budget")
        economy = gr.Checkbox(False, label="Economy: stop asking a candidate that is losing")
    return {**splits, "compared": compared, "economy": economy}
