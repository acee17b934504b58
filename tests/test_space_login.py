"""Signing in on a Space, in a real browser: gradio's own login against the embedded Hub, and what it opens."""

from urllib.request import Request, urlopen

import pytest
from huggingface_hub import HfApi

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("authlib", reason="the extra 'oauth' is not installed")
from browsertools import CHROMIUM, Visitor, chromium, publish_models
from playwright.sync_api import expect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

PUBLIC, GATED, PUBLISHED = "alice/login-public", "alice/login-gated", "bob/login-merged"
RECIPE = f"merge_method: linear\nmodels:\n- model: {PUBLIC}\n- model: {GATED}\nparameters: {{weight: 1.0}}\n"


@pytest.fixture(scope="module")
def address(hub, public_page, siblings):
    """The page as a Space serves it: a login button, and a token of its owner, who may read what is gated."""
    api = HfApi()
    publish_models(api, {PUBLIC: siblings["math"], GATED: siblings["japanese"]})
    api.update_repo_settings(GATED, gated="auto")
    asking = Request(f"{hub.endpoint}/{GATED}/ask-access", b"", {"Authorization": "Bearer hf_bob"})
    urlopen(asking).close()
    with public_page.quietly() as url:
        yield url


@pytest.fixture(scope="module")
def visitor(address):
    with chromium() as browser:
        visitor = Visitor(browser, address)
        yield visitor
        visitor.leave(of_space=True)


def write_recipe(visitor: Visitor) -> None:
    visitor.open("Merge")
    visitor.page.locator("#hm-recipe .cm-content").click()
    visitor.page.keyboard.press("Control+a")
    visitor.page.keyboard.insert_text(RECIPE)
    visitor.page.locator(".hm-header h1").click()


def test_a_stranger_is_refused_what_is_gated_and_told_how_to_publish(visitor):
    write_recipe(visitor)
    visitor.page.locator("#hm-plan-button").click()
    visitor.see(".toast-body, .toast-wrap", "gated")
    visitor.open("Publish")
    visitor.see("#hm-who", "Sign in with Hugging Face")


def test_signing_in_leads_to_the_hub_and_back(visitor):
    visitor.page.get_by_role("button", name="Sign in with Hugging Face").click()
    visitor.see("body", "Let hubmerge-space in?")
    for asked in ("create repositories, and change those it created", "read the gated repositories"):
        visitor.see("body", asked)
    visitor.page.get_by_label("Your token").fill("hf_bob")
    visitor.page.get_by_role("button", name="Let it in").click()
    visitor.page.wait_for_selector("#hm-cards")
    visitor.open("Publish")
    visitor.see("#hm-who", "Publishing as bob")
    expect(visitor.page.get_by_role("button", name="Logout (bob)")).to_be_visible()


def test_what_they_may_read_is_merged_and_published_under_their_name(visitor, hub):
    write_recipe(visitor)
    visitor.page.locator("#hm-merge-button").click()
    visitor.see("#hm-merge-job .hm-pill", "done")
    visitor.open("Publish")
    visitor.see("#hm-preview", "linear")
    visitor.page.locator("#hm-repo input, #hm-repo textarea").fill(PUBLISHED)
    visitor.page.get_by_label("Private", exact=True).uncheck()
    visitor.page.locator("#hm-publish-button").click()
    visitor.see("#hm-publish-job .hm-pill", "done")
    visitor.photograph("login-published")
    with visitor.context.expect_page() as opened:
        visitor.page.locator("#hm-link").get_by_role("link", name=PUBLISHED).click()
    expect(opened.value.locator("body")).to_contain_text("model.safetensors")
    opened.value.goto(f"{hub.endpoint}/{PUBLISHED}")
    expect(opened.value.locator("body")).to_contain_text(PUBLIC)
    opened.value.close()
    info = HfApi().model_info(PUBLISHED)
    assert info.author == "bob" and not info.private
    assert set(info.card_data.base_model) == {PUBLIC, GATED}


def test_after_logging_out_nothing_is_open_any_more(visitor):
    visitor.page.get_by_role("button", name="Logout (bob)").click()
    visitor.page.wait_for_selector("#hm-cards")
    visitor.open("Publish")
    visitor.see("#hm-who", "Sign in with Hugging Face")
    write_recipe(visitor)
    visitor.page.locator("#hm-plan-button").click()
    visitor.see(".toast-body, .toast-wrap", "gated")
