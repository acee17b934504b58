"""Publish: the card as it will stand on the Hub, a name, private unless asked otherwise, and the link at the end."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from hubmerge.errors import HubError, HubmergeError
from hubmerge.hub.user import user_of
from hubmerge.publish import of_private, warnings_before_push
from hubmerge.reference import ModelRef

from ..client import Proposals, proposed
from ..state import Page, owner_of, product_job, products
from ..theme import html
from ..views.parts import lead, render
from ..visitors.access import Token, require_token, visitor_token
from ..visitors.guard import shows_errors
from ..wording import slug
from ..work.job import Job
from .panel import Panel, begins, panel

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Publish:
    """The component that other tabs set, and the job."""

    model: gr.Dropdown
    panel: Panel


def publish_tab(page: Page, tab: gr.Tab) -> Publish:
    """Builds the tab."""
    html(lead("Put what you made on the Hub; its card tells recipe, sources and scores."))
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            model = gr.Dropdown([], value=None, label="Model", info="made here", elem_id="hm-publish-model")
            repo = gr.Textbox(
                label="Repository",
                info="org/name; it is created if it is not there",
                placeholder="me/my-merge",
                elem_id="hm-repo",
            )
            private = gr.Checkbox(
                True, label="Private", info="Untick it for a new public repository, or to publish into one."
            )
            overwrite = gr.Checkbox(
                False, label="Overwrite", info="What others put into the repository is left alone without this."
            )
            name_private = gr.Checkbox(
                False,
                label="Name private models",
                info="Without this, no public card tells of models that only you see.",
            )
            suggested = gr.Textbox("", visible="hidden", elem_id="hm-suggested")
            who = html(elem_id="hm-who")
            if page.settings.oauth:
                gr.LoginButton(size="md")
            go = gr.Button("Publish", variant="primary", elem_id="hm-publish-button")
            link = html(elem_id="hm-link")
            job = panel(page, "publish", extra=[link], draw=lambda _, job: [_link(job)])
        with gr.Column(scale=6, min_width=300):
            card = gr.Markdown(_NO_CARD, elem_id="hm-preview")

    def enter(
        now: str | None, private: bool, key: str | None, request: gr.Request, oauth: gr.OAuthToken | None
    ) -> Sequence[Any]:
        listed = products(page.jobs, owner_of(key, request))
        values = [value for _, value in listed]
        picked = now if now in values else (values[0] if values else None)
        return gr.Dropdown(choices=listed), proposed((now, picked)), preview(picked, private, key, request, oauth)

    def introduce(
        picked: str | None, key: str | None, request: gr.Request, oauth: gr.OAuthToken | None
    ) -> Sequence[Any]:
        label = {value: label for label, value in products(page.jobs, owner_of(key, request))}.get(picked or "")
        user, told = identity(page, visitor_token(page.settings, oauth))
        return f"{user}/{slug(label.partition(': ')[2])}" if user and label else "", told

    def preview(
        value: str | None, private: bool, key: str | None, request: gr.Request, oauth: gr.OAuthToken | None
    ) -> str:
        try:
            token = visitor_token(page.settings, oauth)
            return card_text(page, owner_of(key, request), value, public=not private, token=token)
        except HubmergeError:
            return _NO_CARD

    @shows_errors
    def start(
        value: str | None,
        repo_id: str,
        private: bool,
        overwrite: bool,
        name_private: bool,
        key: str | None,
        request: gr.Request,
        oauth: gr.OAuthToken | None,
    ) -> gr.Timer:
        token = require_token(page.settings, oauth)
        submit_publish(page, owner_of(key, request), value, repo_id, private, token, overwrite, name_private)
        return gr.Timer(active=True)

    # Who publishes is asked of the Hub: what is known here does not wait for it.
    # A name that is typed while the Hub is asked stays.
    newest, shown = Proposals(model), [model, private, page.owner]
    newest.enter(tab.select(enter, shown, [model, newest.told, card], **_QUIET)).then(
        introduce, [model, page.owner], [suggested, who], **_QUIET
    ).then(None, [repo, suggested], [repo], js="(typed, suggested) => typed || suggested", **_QUIET)
    gr.on([model.change, private.change], preview, shown, [card], trigger_mode="always_last", **_QUIET)
    begins(page, job, go, start, [model, repo, private, overwrite, name_private, page.owner])
    return Publish(model, job)


def submit_publish(
    page: Page,
    owner: str,
    value: str | None,
    repo_id: str,
    private: bool,
    token: str,
    overwrite: bool = False,
    name_private: bool = False,
) -> Job:
    """Queues the upload of one of the owner's products."""
    repo_id = repo_id.strip()
    if not repo_id:
        raise HubError("Give the repository a name, as org/name.")
    product = product_job(page.jobs, owner, value)
    spec = {
        "kind": product.kind,
        "folder": product.result["folder"],
        **{name: product.result[name] for name in ("recipe", "document") if name in product.result},
        "search": product.spec.get("search"),
        "repo_id": repo_id,
        "private": bool(private),
        "overwrite": bool(overwrite),
        "name_private": bool(name_private),
    }
    return page.jobs.submit(owner, "publish", f"Publish {repo_id}", spec, token)


def identity(page: Page, token: Token) -> tuple[str | None, str]:
    """The user whose token this is, and a line that says so or how to log in."""
    user, error = None, ""
    try:
        user = user_of(token) if token is not None else None
    except HubError as refused:
        error = str(refused)
    return user, render("who", user=user, error=error, on_space=page.settings.on_space)


def known_user(page: Page, token: str) -> str | None:
    """The user whose token this is, None where the Hub knows none: remembered for a few minutes either way."""

    def ask() -> str:
        try:
            return user_of(token)
        except (HubmergeError, ValueError):
            return ""

    # By digest: no list of tokens lies in memory.
    return page.users.get(hashlib.sha256(token.encode("utf-8", "replace")).hexdigest(), ask) or None


def card_text(page: Page, owner: str, value: str | None, *, public: bool = False, token: Token = None) -> str:
    """The body of the model's card, without its front matter; before it, what should be known before it is pushed, for
    all to see where it is `public`."""
    made = product_job(page.jobs, owner, value).result
    folder = Path(str(made["folder"]))
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    if text.startswith("---\n"):
        text = text[4:].partition("\n---\n")[2]
    warnings = [*warnings_before_push(folder, public=public, token=token)]
    if public and "document" in made:  # a GGUF file, which has no manifest
        warnings += filter(None, [of_private([ModelRef.parse(str(made["document"]["model"]))], token)])
    told = [f"> **Warning:** {escape(warning)}" for warning in warnings]
    return "\n\n".join([*told, text.strip()]) if text.strip() else _NO_CARD


def _link(job: Job | None) -> str:
    if job is None or job.status != "done":
        return ""
    url, repo_id, commit = (str(job.result[name]) for name in ("url", "repo_id", "commit"))
    return render("published", url=url, repo_id=repo_id, commit=commit)


_NO_CARD = "*The card of a model that was made here appears here.*"
