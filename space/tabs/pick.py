"""Pick: type to search the Hub, choose models and a base, see at once what they are and whether they fit together."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hubmerge.errors import HubmergeError, NotFoundError
from hubmerge.hub import Source, search_models
from hubmerge.hub.listing import Listing
from hubmerge.hub.search import similar_models
from hubmerge.reference import ModelRef

from ..state import Page
from ..theme import BASE_COLOUR, colour, html
from ..visitors.access import Token, visitor_token
from ..visitors.guard import shows_errors
from ..wording import count, escape, hub_link, short, size

FOUND = 20
"""Models listed for one search."""
MOST_OFFERED = 1000
"""Models that a list keeps of all searches."""
PAUSE = 0.2
"""Seconds without another key before the Hub is asked."""
_CLOSE_LIST = (
    "() => document.activeElement?.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}))"
)


@dataclass(frozen=True)
class Pick:
    """The components other tabs read: the models and the base chosen."""

    models: gr.Dropdown
    base: gr.Dropdown


def pick_tab(page: Page) -> Pick:
    """Builds the tab."""
    html('<p class="hm-lead">Choose models that grew from the same base. Type to search the Hub, or enter an ID.</p>')
    chosen = list(page.examples.models)
    base_name = page.examples.base_model
    with gr.Row(equal_height=True):
        models = gr.Dropdown(
            chosen,
            value=chosen,
            multiselect=True,
            allow_custom_value=True,
            label="Models to merge",
            info="org/name, org/name@revision, or org/name+org/lora",
            scale=3,
            min_width=280,
            elem_id="hm-models",
        )
        base = gr.Dropdown(
            [base_name] if base_name else [],
            value=base_name,
            allow_custom_value=True,
            label="Base model",
            info="the model they were fine-tuned from",
            scale=2,
            min_width=280,
            elem_id="hm-base",
        )
    cards = html(_EMPTY, elem_id="hm-cards")

    def finder() -> Callable[..., Any]:
        newest: dict[str, str] = {}

        def find(
            kept: Any, before: list[str], event: gr.KeyUpData, request: gr.Request, oauth: gr.OAuthToken | None
        ) -> Any:
            query, session = (event.input_value or "").strip(), request.session_hash or ""
            newest[session] = query
            time.sleep(PAUSE)
            if newest.get(session) != query:
                return gr.skip(), gr.skip()  # another key came meanwhile
            del newest[session]
            if len(query) < 2 or "@" in query:
                return gr.skip(), gr.skip()
            found = search(query, visitor_token(page.settings, oauth))
            held = [kept] if isinstance(kept, str) else list(kept or ())
            listed = offered(found, held, before)
            return gr.Dropdown(choices=listed), listed

        return shows_errors(find)

    def show(chosen: list[str] | None, base: str | None, oauth: gr.OAuthToken | None) -> str:
        return describe(page, list(chosen or ()), base or None, visitor_token(page.settings, oauth))

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    for box in (models, base):
        # Not "always_last": gradio repeats the event with the text of an earlier key.
        before = gr.State([choice for choice, _ in box.choices])
        box.key_up(finder(), [box, before], [box, before], trigger_mode="multiple", concurrency_limit=32, **quiet)
        box.change(show, [models, base], [cards], trigger_mode="always_last", **quiet)
        # What was found would lie over the cards until the visitor clicks elsewhere. Not `input`: an ID that is typed
        # and entered is none to gradio.
        box.select(None, js=_CLOSE_LIST, **quiet)
    page.ready.then(show, [models, base], [cards], **quiet)
    return Pick(models, base)


def search(query: str, token: Token) -> list[str]:
    """Hub IDs of the models that fit `query`, most downloaded first."""
    return [found.repo_id for found in search_models(query, limit=FOUND, token=token)]


def offered(found: Sequence[str], held: Sequence[str], before: Sequence[str]) -> list[str]:
    """What a list of choices has once `found` is there: what it had `before`, and behind that what is new.

    To gradio a choice is its place in the list. An answer that moves places takes back what a visitor picks meanwhile,
    and from a place that is not there any more its list never recovers. Choices that do not fit what was typed are not
    shown.
    """
    listed = list(dict.fromkeys([*before, *found, *held]))
    if len(listed) <= MOST_OFFERED:
        return listed
    return list(dict.fromkeys([*held, *found, *before]))[: max(len(before), MOST_OFFERED)]


def describe(page: Page, models: Sequence[str], base: str | None, token: Token) -> str:
    """Cards of the chosen models, and a line that says whether they can be merged."""
    names = [name for name in models if name != base]
    if not names and not base:
        return _EMPTY

    def look(name: str) -> Source | HubmergeError:
        try:
            return page.open(name, token)
        except HubmergeError as error:
            return _meant(name, error, token)

    wanted = ([base] if base else []) + names
    with ThreadPoolExecutor(min(8, len(wanted))) as pool:
        found = list(pool.map(look, wanted))
    cards = []
    for index, (name, source) in enumerate(zip(wanted, found, strict=True)):
        is_base = base is not None and index == 0
        fill = BASE_COLOUR if is_base else colour(index - (base is not None))
        cards.append(_card(name, source, "base model" if is_base else "", fill))
    return f'{_verdict(found)}<div class="hm-cards">{"".join(cards)}</div>'


def _meant(name: str, error: HubmergeError, token: Token) -> HubmergeError:
    """The error, with the names of models that may have been meant where there is none of this one."""
    ref = ModelRef.parse(name) if isinstance(error, NotFoundError) else None
    plain = ref is not None and not ref.is_folder and ref.lora is None
    near = similar_models(ref.repo_id, token=token) if ref is not None and plain else []
    return NotFoundError(f"{error} Did you mean {' or '.join(near)}?") if near else error


def _card(name: str, source: Source | HubmergeError, role: str, fill: str) -> str:
    head = f'<article class="hm-card" style="--hm-colour:{fill}"><h3>'
    if isinstance(source, HubmergeError):
        return f'{head}{escape(name)}</h3><div class="hm-problem" role="alert">{escape(str(source))}</div></article>'
    ref, parts = ModelRef.parse(name), source.parts
    namespace = parts[-1].name.rpartition("/")[0]
    if source.adapter is not None:
        role = " · ".join(filter(None, (role, f"LoRA on {escape(source.listing.name)}")))
    facts = {
        "Architecture": escape(architecture(source)),
        "Parameters": count(source.parameters),
        "Size": f"{size(source.nbytes)}, {escape(_dtypes(source))}",
        "Licence": escape(" + ".join(part.licence.id or "not stated" for part in parts)),
        "Commit": " + ".join(_commit(part) for part in parts),
    }
    rows = "".join(f"<dt>{label}</dt><dd>{value}</dd>" for label, value in facts.items())
    below = " · ".join(part for part in (escape(namespace), role) if part)
    title = hub_link(ref, short(ref.bare))
    return f'{head}{title}</h3><div class="hm-role">{below or "&nbsp;"}</div><dl>{rows}</dl></article>'


def _commit(part: Listing) -> str:
    return f'<span class="hm-code">{escape(part.commit[:8])}</span>' if part.commit else "folder"


def _verdict(found: Sequence[Source | HubmergeError]) -> str:
    """Whether what was chosen can be merged. What cannot be read is said first: its own card says why."""
    opened = [source for source in found if isinstance(source, Source)]
    if len(opened) == len(found) or len(found) < 2:
        return _fit(opened)
    missing = len(found) - len(opened)
    unread = f"{missing} of {len(found)} cannot be read, so nothing can be merged yet: see below."
    return _line("problem", unread) + _fit(opened, good=False)


def _fit(sources: Sequence[Source], good: bool = True) -> str:
    """What stands in the way of merging these; that nothing does where it is all of them (`good`)."""
    if len(sources) < 2:
        return ""
    first, shapes = sources[0], {name: t.shape for name, t in sources[0].tensors.items()}
    for other in sources[1:]:
        if architecture(other) != architecture(first):
            why = f"{other.name} is a {architecture(other)}, {first.name} a {architecture(first)}"
            return _line("problem", f"These do not fit together: {why}.")
        shared = [name for name in other.tensors if name in shapes]
        clash = next((name for name in shared if other.tensors[name].shape != shapes[name]), None)
        if clash:
            sizes = f"{list(other.tensors[clash].shape)} in {other.name}, {list(shapes[clash])} in {first.name}"
            return _line("problem warning", f"One tensor differs in shape: {clash} is {sizes}.")
    fine = f"All {len(sources)} are {architecture(first)} with the same shapes: they can be merged."
    return _line("fine", fine) if good else ""


def architecture(source: Source) -> str:
    """The model class its config names."""
    names = source.config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else str(source.config.get("model_type", "unknown"))


def _dtypes(source: Source) -> str:
    return " + ".join(sorted({tensor.dtype for tensor in source.tensors.values()}))


def _line(kind: str, text: str) -> str:
    return f'<div class="hm-{kind}">{escape(text)}</div>'


_EMPTY = (
    '<div class="hm-empty">Nothing chosen yet. Try typing <span class="hm-code">llama</span> or the name of a model '
    "you like; fine-tunes of one base merge best.</div>"
)
