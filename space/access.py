"""Whose token reads and writes the Hub. On a Space that is the visitor's alone, never the process's own."""

from typing import Literal

import gradio as gr
import huggingface_hub

from hubmerge.errors import AccessError
from hubmerge.recipe import ModelRef, Recipe

from .settings import Settings

Token = str | Literal[False] | None
"""A token, `False` for "send none", or None where the machine has none either."""

# What gradio hands out in place of a token when an app with a login button runs outside of a Space.
_MOCK = "mock-oauth-token-for-local-dev"


def visitor_token(settings: Settings, oauth: gr.OAuthToken | None) -> Token:
    """The token to use for this visitor; `False` (not None) on a Space without login: huggingface_hub reads None as "mine"."""
    if oauth is not None and oauth.token != _MOCK:
        return oauth.token
    return False if settings.on_space else huggingface_hub.get_token()


def require_token(settings: Settings, oauth: gr.OAuthToken | None) -> str:
    """The visitor's token, or an `AccessError` that says how to get one."""
    token = visitor_token(settings, oauth)
    if token:
        return token
    if settings.on_space:
        raise AccessError("Publishing writes to your account: sign in with Hugging Face first.")
    raise AccessError("Publishing needs a write token: run `hf auth login` or set HF_TOKEN, then start the page again.")


def require_hub_ids(settings: Settings, recipe: Recipe) -> None:
    """Refuses a recipe that names folders of the machine where the page serves strangers."""
    for ref in recipe.references:
        require_hub_id(settings, ref)


def require_hub_id(settings: Settings, ref: ModelRef) -> ModelRef:
    """`ref`, or an `AccessError` where it names a folder of a machine that is not the visitor's."""
    if settings.on_space and (ref.is_folder or (ref.lora is not None and ref.lora.is_folder)):
        raise AccessError(f"{ref} is a folder of this server; name a model of the Hub as org/name.")
    return ref
