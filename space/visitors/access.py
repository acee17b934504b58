"""Whose token reads and writes the Hub. On a Space that is the visitor's alone: the process gives up its own."""

import os
from collections.abc import Mapping
from typing import Any

import gradio as gr
import huggingface_hub

from hubmerge.documents import load_mapping
from hubmerge.errors import AccessError, SearchError
from hubmerge.evaluate.task import BUILTIN, SPLITS, task_document
from hubmerge.evolve.search import Search
from hubmerge.evolve.spec.document import require_no_recipe
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef

from ..settings import Settings
from .stranger import require_calibration, require_search

Token = str | None
"""An access token of the visitor, or None for none."""

# What gradio hands out in place of a token when an app with a login button runs outside of a Space.
_MOCK = "mock-oauth-token-for-local-dev"


def forget_own_token(settings: Settings) -> None:
    """On a Space, makes sure that no call without a visitor's token falls back on a token of the process.

    Every library reads "no token" as "the machine's own"; so the machine must have none. Raises `AccessError` where
    one is still found after the environment is cleared.
    """
    if not settings.on_space:
        return
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        os.environ.pop(name, None)
    if huggingface_hub.get_token() is not None:
        raise AccessError(
            "A Space must hold no token of its own: remove the token file of `hf auth login` and restart."
        )


def visitor_token(settings: Settings, oauth: gr.OAuthToken | None) -> Token:
    """The token of this visitor: from the login on a Space; on a person's own machine also the machine's."""
    if oauth is not None and oauth.token != _MOCK:
        return oauth.token
    return None if settings.on_space else huggingface_hub.get_token()


def require_token(settings: Settings, oauth: gr.OAuthToken | None) -> str:
    """The visitor's token, or an `AccessError` that says how to get one."""
    token = visitor_token(settings, oauth)
    if token:
        return token
    if settings.on_space:
        raise AccessError("Publishing writes to your account: sign in with Hugging Face first.")
    raise AccessError("Publishing needs a write token: run `hf auth login` or set HF_TOKEN, then start the page again.")


def require_hub_id(settings: Settings, ref: ModelRef) -> ModelRef:
    """`ref`, or an `AccessError` where it names a folder of a machine that is not the visitor's."""
    if settings.on_space and ref.reads_folder:
        raise AccessError(f"{ref} is a folder of this server; name a model of the Hub as org/name.")
    return ref


def require_hub_ids(settings: Settings, recipe: Recipe) -> Recipe:
    """`recipe`, or an `AccessError` where it names a folder of a machine that is not the visitor's, or texts there."""
    for ref in recipe.references:
        require_hub_id(settings, ref)
    return recipe.with_calibrations(require_calibration) if settings.on_space else recipe


def read_search(settings: Settings, text: str) -> Search:
    """A search from YAML text, or an `AccessError` where it says what a stranger may not say.

    Raises `SearchError` where it cannot be read as one.
    """
    document = load_mapping(text, "search", SearchError)
    require_no_recipe(document)
    if settings.on_space:
        require_search(document)  # before anything of it is looked for
    else:
        _require_folder(document.get("task"))
    search = Search.from_dict(document)
    require_hub_models(settings, search)
    return search


def _require_folder(task: Any) -> None:
    """Raises `SearchError` where a task names files and not where: the text of a search lies in no folder."""
    where = task.get("examples") if isinstance(task, Mapping) else None
    if not isinstance(where, Mapping) or where.get("repo_id") or where.get("folder"):
        return
    if task.get("image") is not None or any(isinstance(where.get(split), str) for split in SPLITS):
        raise SearchError(
            "The task's examples name files, and no folder that they lie in; add `folder: /path/to/it` to `examples`, "
            "or give them by a repo_id."
        )


def require_fit_for_strangers(settings: Settings, search: Search, given: Mapping[str, Any] | str | None) -> None:
    """Raises `AccessError` for a search that may not run on a page for everybody; its task may also be `given`, the
    page's own."""
    require_hub_models(settings, search)
    if settings.on_space:
        document = search.to_dict()
        if isinstance(document["task"], Mapping) and "draw" in document["task"]:
            # What a stranger's pipeline says of sizes on the way is known when they are there, in this process.
            raise AccessError(
                "A search whose candidates draw runs on your own machine only: use the command line there."
            )
        own = given is not None and document["task"] == task_document(given)
        require_search({**document, "task": next(iter(BUILTIN))} if own else document)


def require_hub_models(settings: Settings, search: Search) -> None:
    """Raises `AccessError` where a search names folders of a machine that is not the visitor's."""
    for ref in search.references:
        require_hub_id(settings, ref)
