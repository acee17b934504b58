"""Pick: type to search the Hub, choose models and a base, see at once what they are and whether they fit together."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import gradio as gr

from hubmerge.errors import HubmergeError, NotFoundError, RecipeError
from hubmerge.hub import Source, search_models
from hubmerge.hub.search import similar_models
from hubmerge.lineage.tree import Tree, trace
from hubmerge.markup import Markup
from hubmerge.reference import ModelRef

from ..client import CLOSE_LIST, GROWING, Proposals, proposed
from ..forms.parts import Drawn
from ..state import PRODUCT, Page, owner_of, products
from ..theme import html
from ..views.models import describe_models, describe_siblings
from ..views.parts import lead
from ..visitors.access import Token, visitor_token
from ..visitors.guard import shows_errors

FOUND = 20
"""Models listed for one search."""
MOST_OFFERED = 1000
"""Models that a list keeps of all searches."""
MOST_VISITORS = 1000
"""Whose lists are remembered: those who typed last."""
PAUSE = 0.2
"""Seconds without another key before the Hub is asked."""
LISTED: dict[str, Any] = {"num_choices_shown": None, "elem_classes": GROWING}
"""Of a box of one choice that `search_as_typed` fills: its last choices are the newest."""


@dataclass(frozen=True)
class Pick:
    """The components other tabs read: the models and the base chosen; `drawn`, what draws among them (`Drawn` or None);
    and `parts`, what becomes of a pipeline's parts, which the recipe tells."""

    models: gr.Dropdown
    base: gr.Dropdown
    drawn: gr.State
    parts: gr.HTML
    tab: gr.Tab


def pick_tab(page: Page, tab: gr.Tab) -> Pick:
    """Builds the tab."""
    html(lead("Choose models that grew from the same base. Type to search the Hub, or enter an ID or an address."))
    chosen = list(page.examples.models)
    base_name = page.examples.base_model
    with gr.Row(equal_height=True):
        models = gr.Dropdown(
            chosen,
            value=chosen,
            multiselect=True,
            allow_custom_value=True,
            label="Models to merge",
            info="org/name, with @revision, +org/lora, or #part (language_model, unet)",
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
            **LISTED,
        )
    cards = html(describe_models(None, (), ()), elem_id="hm-cards")
    ask = gr.Button("Propose models that go with these", size="sm", elem_id="hm-siblings")
    proposals_view = html(elem_id="hm-siblings-found")
    parts, drawn = html(elem_id="hm-picked-parts"), gr.State(None)

    filled, proposals = gr.State(""), Proposals(models, base)

    def show(
        chosen: list[str] | None, base: str | None, filled: str, oauth: gr.OAuthToken | None
    ) -> tuple[str, list[list[Any]], str, Drawn | None]:
        token, names, one = visitor_token(page.settings, oauth), list(map(plain, chosen or ())), plain(base or "")
        # Filled in once: what a visitor takes out again stays out.
        found = None if one else common_base(page, names, token)
        fills = found is not None and found != filled
        looked = looked_at(page, names, (found if fills else one) or None, token)
        told = proposed((chosen, names), (base, found if fills else one))
        draws = Drawn.of(source for source in looked[2] if isinstance(source, Source))
        return describe_models(*looked), told, (found or filled) if fills else filled, draws

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    look = [show, [models, base, filled], [cards, proposals.told, filled, drawn]]
    lists = search_as_typed(page, models)
    search_as_typed(page, base)

    @shows_errors
    def propose(
        chosen: list[str] | None, base: str | None, request: gr.Request, oauth: gr.OAuthToken | None
    ) -> tuple[gr.Dropdown, Markup, list[list[Any]]]:
        tree = siblings_of(page, list(map(plain, chosen or ())), visitor_token(page.settings, oauth))
        found = [one.repo_id for one in tree.siblings]
        listed = lists.grown(request.session_hash or "", found, chosen or ())
        told = proposed((chosen, chosen), (base, base or tree.base))
        return gr.Dropdown(choices=[(name, name) for name in listed]), describe_siblings(tree), told

    shown: list[Any] = [models, proposals_view, proposals.told]
    asked = ask.click(propose, [models, base], shown, concurrency_limit=2, **quiet | {"show_progress": "full"})
    proposals.enter(asked)
    for box in (models, base):
        proposals.enter(box.change(*look, trigger_mode="always_last", **quiet))
    proposals.enter(page.ready.then(*look, **quiet))
    return Pick(models, base, drawn, parts, tab)


def search_as_typed(page: Page, box: gr.Dropdown, *, made: bool = False) -> "Lists":
    """Lists in `box` the models of the Hub that fit what is typed there, behind those that the visitor has `made`; what
    is listed there."""
    newest: dict[str, str] = {}
    lists = Lists([choice for choice, _ in box.choices])

    @shows_errors
    def find(kept: Any, key: str | None, event: gr.KeyUpData, request: gr.Request, oauth: gr.OAuthToken | None) -> Any:
        query, session = (event.input_value or "").strip(), request.session_hash or ""
        newest[session] = query
        time.sleep(PAUSE)
        if newest.get(session) != query:
            return gr.skip()  # another key came meanwhile
        del newest[session]
        if len(query) < 2 or "@" in query:
            return gr.skip()
        found = search(query, visitor_token(page.settings, oauth))
        held = [kept] if isinstance(kept, str) else list(kept or ())
        mine = products(page.jobs, owner_of(key, request), answering=True) if made else []
        listed = lists.grown(session, found, [name for name in held if not name.startswith(PRODUCT)])
        return gr.Dropdown(choices=[*mine, *((name, name) for name in listed)])

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    # Not "always_last": gradio repeats the event with the text of an earlier key.
    box.key_up(find, [box, page.owner], [box], trigger_mode="multiple", concurrency_limit=32, **quiet)
    # What was found would lie over the page until the visitor clicks elsewhere. Not `input`: an ID that is typed and
    # entered is none to gradio.
    box.select(None, js=CLOSE_LIST, **quiet)
    return lists


class Lists:
    """The choices in one box of each visitor. Answers to two keys may come in any order, or at once: a list is what it
    was when the last answer came, and longer, never what it was when the key was pressed."""

    def __init__(self, first: Sequence[str]) -> None:
        self._first = list(first)
        self._lists: OrderedDict[str, list[str]] = OrderedDict()
        self._lock = Lock()

    def grown(self, session: str, found: Sequence[str], held: Sequence[str]) -> list[str]:
        """The visitor's list, with what was `found` and what the box holds."""
        with self._lock:
            listed = offered(found, held, self._lists.pop(session, self._first))
            self._lists[session] = listed
            while len(self._lists) > MOST_VISITORS:
                self._lists.popitem(last=False)
            return listed


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
    return describe_models(*looked_at(page, models, base, token))


def looked_at(
    page: Page, models: Sequence[str], base: str | None, token: Token
) -> tuple[str | None, list[str], list[Source | HubmergeError]]:
    """The base, the other models, and each of them opened, base first, or why it is not; without stages."""
    base = None if base is None or _is_stage(base) else base
    names = [name for name in models if name != base and not _is_stage(name)]

    def look(name: str) -> Source | HubmergeError:
        try:
            return page.open(name, token)
        except HubmergeError as error:
            return _meant(name, error, token)

    with ThreadPoolExecutor(8) as pool:
        return base, names, list(pool.map(look, [*([base] if base else []), *names]))


def plain(name: str) -> str:
    """A name as the Hub has it: what is pasted may be the address of a page. What is none stays."""
    try:
        return str(ModelRef.parse(name))
    except HubmergeError:
        return name


def common_base(page: Page, names: Sequence[str], token: Token) -> str | None:
    """The model that the cards of all these models, two at least, name as their base; None where they do not agree."""
    if len(names) < 2:
        return None
    told: set[str] = set()
    for name in names:
        try:
            source = page.open(name, token)
        except HubmergeError:
            return None
        bases = set(source.base_models) or {source.name}
        told |= bases - {source.listing.name} or bases
    (base, *others) = told
    try:
        # What a card says may be no model, or one that this visitor cannot read.
        return base if not others and not ModelRef.parse(base).reads_folder and page.open(base, token) else None
    except HubmergeError:
        return None


def siblings_of(page: Page, names: Sequence[str], token: Token) -> Tree:
    """What models come from, with others that go with them. Raises what opening one does."""
    opened = [page.open(name, token) for name in names if not _is_stage(name)]
    if not opened:
        raise RecipeError("Choose a model first: what goes with it is looked for.")
    return trace([source.listing.name for source in opened], token=token)


def _is_stage(name: str) -> bool:
    """Whether this is what a stage of the recipe makes, which is no model yet."""
    try:
        return ModelRef.parse(name).stage
    except HubmergeError:
        return False


def _meant(name: str, error: HubmergeError, token: Token) -> HubmergeError:
    """The error, with the names of models that may have been meant where there is none of this one."""
    ref = ModelRef.parse(name) if isinstance(error, NotFoundError) else None
    plain = ref is not None and not ref.is_folder and ref.lora is None
    near = similar_models(ref.repo_id, token=token) if ref is not None and plain else []
    return NotFoundError(f"{error} Did you mean {' or '.join(near)}?") if near else error
