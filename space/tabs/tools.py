"""Tools: what else is made of models - a LoRA, a mixture of experts, a model with other tokens, a GGUF file."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gradio as gr

from hubmerge.gguf.formats import FORMATS

from ..client import Proposals, proposed
from ..downloads import downloads
from ..forms.filled import filled, names
from ..forms.tools import Asked, ToolForm, suggested_mixture
from ..state import Page, made_here, owner_of, products
from ..theme import html, into_view
from ..views.parts import lead, note, render
from ..views.plan import describe_estimate, describe_file, describe_plan
from ..visitors.access import Token, visitor_token
from ..visitors.guard import shows_errors
from ..wording import size
from ..work.job import Job
from ..work.tools import TOOLS, plan_copy, plan_extract, plan_file
from .panel import Panel, begins, panel
from .pick import LISTED, Pick, search_as_typed

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_WHAT = [("LoRA", "extract"), ("mixture of experts", "moe"), ("other tokenizer", "transplant"), ("GGUF file", "gguf")]
_ABOUT = {
    "extract": "What a model learnt on top of its base, as a small LoRA for peft and for recipes (org/base+org/lora).",
    "moe": "One model's attention, the MLPs of several, and gates between them, made of prompts for each.",
    "transplant": "A model with the tokens of another: shared ones keep their rows, new ones are made of those.",
    "gguf": "One file for llama.cpp, ollama and LM Studio, read back and compared.",
}
_OTHER = {
    "extract": ("Base model", "the model that it was tuned from"),
    "transplant": ("Tokens of", "the model whose tokenizer it is to have"),
}


def tools_tab(page: Page, pick: Pick, tab: gr.Tab) -> Panel:
    """Builds the tab."""
    html(lead("Make something else of models. What comes out is yours to fetch, or to publish in step 5."))
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            fields = _form(page, pick, tab)
            with gr.Row():
                plan = gr.Button("Plan", elem_id="hm-tool-plan-button", min_width=120)
                go = gr.Button("Make", variant="primary", elem_id="hm-make-button", min_width=120)
        with gr.Column(scale=6, min_width=300):
            planned = html(note("What it takes, and how far it is, appears here.", "empty"), elem_id="hm-tool-plan")
            place = gr.Column()
            files = html(elem_id="hm-files", visible=False)
            with place:
                job = panel(page, "tool", TOOLS, extra=[files], draw=lambda _, job: [_files(page, job)])
    inputs = [page.owner, *(fields[name] for name in names(ToolForm))]

    def start(asked: Asked, owner: str, token: Token) -> gr.Timer:
        submit_tool(page, owner, asked, token)
        return gr.Timer(active=True)

    begins(page, job, go, _with_form(page, start), inputs)
    show = _with_form(page, lambda asked, owner, token: plan_tool(page, asked, token))
    told = plan.click(show, inputs, [planned], show_progress="minimal", api_visibility="private")
    told.success(None, js=into_view("hm-tool-plan"), **_QUIET)
    return job


def plan_tool(page: Page, asked: Asked, token: Token) -> str:
    """What a job would take, as HTML, from headers alone."""
    limits = page.settings.limits
    if asked.kind == "extract":
        return describe_estimate(plan_extract(asked.document, limits, token))
    if asked.kind == "gguf":
        return describe_file(plan_file(asked.document, limits, token))
    return describe_plan(plan_copy(asked.document, limits, token))


def submit_tool(page: Page, owner: str, asked: Asked, token: Token) -> Job:
    """Queues a job."""
    return page.jobs.submit(owner, asked.kind, asked.title, {"document": asked.document}, token)


def _with_form(page: Page, then: Callable[[Asked, str, Token], Any]) -> Callable[..., Any]:
    """A handler that hands what the form asks for to `then`, and whose it is."""

    @shows_errors
    def handler(key: str | None, request: gr.Request, oauth: gr.OAuthToken | None, *values: Any) -> Any:
        owner = owner_of(key, request)
        asked = filled(ToolForm, values).asked(page.settings, partial(made_here, page.jobs, owner))
        return then(asked, owner, visitor_token(page.settings, oauth))

    return handler


def _form(page: Page, pick: Pick, tab: gr.Tab) -> dict[str, Any]:
    """The components, by the field of `ToolForm` that each fills."""
    kind = gr.Radio(_WHAT, value="extract", label="What to make", elem_id="hm-tool")
    about = html(note(_ABOUT["extract"], "quiet"))
    boxes: dict[str, Any] = {"allow_custom_value": True, "interactive": True, **LISTED}
    model = gr.Dropdown([], value=None, label="Model", info="org/name, or made here", elem_id="hm-tool-model", **boxes)
    label, info = _OTHER["extract"]
    other = gr.Dropdown([], value=None, label=label, info=info, elem_id="hm-tool-other", **boxes)
    with gr.Row() as nearness:
        rank = gr.Number(16, label="Rank", info="of each module", precision=0, minimum=1, min_width=120)
        energy = gr.Number(
            None, label="Energy", info="or a share of the change", placeholder=".9", minimum=0, maximum=1, min_width=120
        )
    type = gr.Dropdown(
        list(FORMATS), value="Q8_0", label="Format", info="the finest first", visible=False, elem_id="hm-tool-format"
    )
    mixture = gr.Code(
        "", language="yaml", label="Mixture (YAML)", lines=12, max_lines=24, visible=False, elem_id="hm-mixture"
    )
    search_as_typed(page, model, made=True)
    search_as_typed(page, other)

    def asks(chosen: str) -> Sequence[Any]:
        label, info = _OTHER.get(chosen, _OTHER["extract"])
        return (
            note(_ABOUT.get(chosen, ""), "quiet"),
            gr.Dropdown(visible=chosen != "moe"),
            gr.Dropdown(visible=chosen in _OTHER, label=label, info=info),
            gr.Row(visible=chosen == "extract"),
            gr.Dropdown(visible=chosen == "gguf"),
            gr.Code(visible=chosen == "moe"),
        )

    kind.input(asks, [kind], [about, model, other, nearness, type, mixture], **_QUIET)
    suggested = gr.State("")

    def enter(
        models: list[str] | None,
        base: str | None,
        one: str | None,
        two: str | None,
        text: str,
        before: str,
        key: str | None,
        request: gr.Request,
    ) -> Sequence[Any]:
        known = list(dict.fromkeys([*(models or ()), *([base] if base else [])]))
        now = suggested_mixture(models or (), base)
        first = next((name for name in known if name != base), None)
        made = products(page.jobs, owner_of(key, request), answering=True)
        return (
            gr.Dropdown(choices=[*made, *((name, name) for name in known)]),
            gr.Dropdown(choices=known),
            proposed((one, one or first), (two, two or base)),
            now if text in ("", before) else gr.skip(),  # what a visitor wrote stays
            now,
        )

    picked = [pick.models, pick.base, model, other, mixture, suggested, page.owner]
    first = Proposals(model, other)
    first.enter(tab.select(enter, picked, [model, other, first.told, mixture, suggested], **_QUIET))
    return {
        "kind": kind,
        "model": model,
        "other": other,
        "rank": rank,
        "energy": energy,
        "type": type,
        "mixture": mixture,
    }


def _files(page: Page, job: Job | None) -> gr.HTML:
    """Links to the files that a job made."""
    found = downloads(page, job) if job is not None else []
    return gr.HTML(render("downloads", files=found, size=size), visible=bool(found))
