"""Pipelines that draw in a real browser: picked, their parts and blocks set, merged, drawn with, and published."""

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("diffusers")
from browsertools import CHROMIUM, Visitor, chromium, publish_models
from huggingface_hub import HfApi
from pipelines import save
from playwright.sync_api import expect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

PLAIN, FINE = (f"alice/draw-{name}" for name in ("plain", "fine"))


@pytest.fixture(scope="module")
def visitor(own_page, hub, tmp_path_factory):
    root = tmp_path_factory.mktemp("draw")
    publish_models(HfApi(), {PLAIN: save("sd15", root / "plain", 1), FINE: save("sd15", root / "fine", 2)})
    with own_page.page().quietly() as url, chromium() as browser:
        visitor = Visitor(browser, url)
        yield visitor
        visitor.leave()


def test_what_pipelines_are_made_of_is_seen_and_set(visitor):
    for name in (PLAIN, FINE):
        visitor.choose("#hm-models", name.partition("/")[2], name)
    visitor.see("#hm-cards .hm-fine", "All 2 draw with a UNet2DConditionModel of the same shapes")
    visitor.see("#hm-picked-parts .hm-best", "merged of draw-plain, draw-fine")
    visitor.see("#hm-picked-parts", "as it is in draw-plain")
    visitor.photograph("desktop-pick-pipelines")
    visitor.open("Merge")
    visitor.see_recipe("components:")
    method = visitor.page.locator("#hm-method input")
    method.click()
    method.fill("linear")
    visitor.page.locator('#hm-method [role=option][aria-label="linear"]').click()
    visitor.see_recipe("merge_method: linear")
    varies = visitor.page.locator(".hm-model").last.get_by_label("weight varies")
    varies.click()
    visitor.page.locator('[role=option][aria-label="down, mid, up, each attention and rest"]').click()
    visitor.see_recipe("filter: OUT+rest")
    control = visitor.page.get_by_label("number input for weight of OUT (up) rest")
    control.fill("0.25")
    control.press("Tab")
    visitor.see_recipe("value: 0.25")
    visitor.page.locator("#hm-part-text_encoder input").click()
    visitor.page.locator('#hm-part-text_encoder [role=option][aria-label="from draw-fine"]').click()
    visitor.see_recipe(f"text_encoder: {FINE}")
    visitor.photograph("desktop-merge-pipelines")
    visitor.open("Pick")
    visitor.see("#hm-picked-parts", f"copied from {FINE}")


def test_the_merge_draws_beside_its_sources_and_is_published(visitor):
    visitor.open("Merge")
    visitor.page.locator("#hm-plan-button").click()
    visitor.see("#hm-plan", "only headers were read")
    visitor.page.locator("#hm-merge-button").click()
    visitor.see("#hm-merge-job .hm-pill", "done")
    visitor.page.locator("#hm-merge-chat").click()
    prompts = visitor.page.locator("#hm-prompt textarea")
    prompts.fill("w1 w2\nw3")
    expect(visitor.page.locator("#hm-message")).not_to_be_visible()
    visitor.page.locator("#hm-draw-steps input[type=number]").fill("2")
    visitor.page.locator("#hm-draw-sources input").check()
    visitor.page.locator("#hm-draw-button").click()
    pictures = visitor.page.locator("#hm-gallery .grid-container img, #hm-gallery .thumbnail-item img")
    expect(pictures).to_have_count(6)
    expect(visitor.page.locator("#hm-draw-button")).to_be_visible()
    captions = visitor.page.locator("#hm-gallery .caption-label").all_inner_texts()
    assert [text.partition(" · ")[2] for text in captions] == ["w1 w2 · seed 1", "w3 · seed 1"] * 3
    assert [text.partition(" · ")[0] for text in captions[::2]] == [
        "Merged: linear of draw-plain + draw-fine",
        "draw-plain",
        "draw-fine",
    ]
    visitor.photograph("desktop-draw")
    visitor.open("Publish")
    visitor.see("#hm-preview", "linear")
    visitor.page.locator("#hm-repo input, #hm-repo textarea").fill("alice/draw-published")
    visitor.page.locator("#hm-publish-button").click()
    visitor.see("#hm-publish-job .hm-pill", "done")
    names = HfApi().list_repo_files("alice/draw-published")
    assert {"model_index.json", "unet/config.json", "text_encoder/config.json", "README.md"} <= set(names)
    # A model that speaks is talked to again.
    visitor.open("Chat")
    model = visitor.page.locator("#hm-chat-model input")
    model.fill("alice/nothing-here")
    model.press("Enter")
    expect(visitor.page.locator("#hm-message")).to_be_visible()
    expect(prompts).not_to_be_visible()
    for width in (1280, 390):
        visitor.page.set_viewport_size({"width": width, "height": 900})
        for tab in ("Pick", "Merge"):
            visitor.open(tab)
            visitor.page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)
            visitor.photograph(f"{width}-{tab.lower()}-pipelines")
    assert re.search("[0-9a-f]{16}", visitor.page.locator("#hm-publish-seen textarea").input_value())
