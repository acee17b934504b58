"""Pipelines that draw in a real browser: picked, their parts and blocks set, merged, drawn with, evolved, published."""

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("diffusers")
from browsertools import CHROMIUM, PATIENCE, Visitor, chromium, publish_models
from huggingface_hub import HfApi
from pipelines import save, save_lookers
from playwright.sync_api import expect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

PLAIN, FINE, CLIP = (f"alice/draw-{name}" for name in ("plain", "fine", "clip"))
MERGED = "Merged: linear of draw-plain + draw-fine"
EVOLVED = "Evolved: linear of draw-plain#unet + draw-fine#unet"


@pytest.fixture(scope="module")
def visitor(own_page, hub, tmp_path_factory):
    root = tmp_path_factory.mktemp("draw")
    save_lookers(root, ["dark"])
    models = {PLAIN: save("sd15", root / "plain", 1), FINE: save("sd15", root / "fine", 2), CLIP: root / "clip"}
    publish_models(HfApi(), models)
    with own_page.page().quietly() as url, chromium() as browser:
        visitor = Visitor(browser, url)
        yield visitor
        visitor.leave()


def turn(visitor, box, choice):
    """Chooses one of the few that a box has."""
    box.click()
    visitor.page.locator(f'[role=option][aria-label="{choice}"]:visible').click()


def test_what_pipelines_are_made_of_is_seen_and_set(visitor):
    models = visitor.page.locator("#hm-models input")
    for name in (PLAIN, FINE):
        models.fill(name)
        models.press("Enter")
    visitor.see("#hm-cards .hm-fine", "All 2 draw with a UNet2DConditionModel of the same shapes")
    visitor.see("#hm-picked-parts .hm-best", "merged of draw-plain, draw-fine")
    visitor.see("#hm-picked-parts", "as it is in draw-plain")
    visitor.photograph("desktop-pick-pipelines")
    visitor.open("Merge")
    visitor.see_recipe("components:")
    turn(visitor, visitor.page.locator("#hm-method input"), "linear")
    visitor.see_recipe("merge_method: linear")
    fine = visitor.page.locator(".hm-model").last
    expect(fine.get_by_label("number input for density")).to_have_count(0)  # the form of another method is gone
    turn(visitor, fine.get_by_label("weight varies"), "down, mid, up, each attention and rest")
    visitor.see_recipe("filter: OUT+rest")
    visitor.fill(fine.get_by_label("number input for weight of OUT (up) rest"), "0.5", "value: 0.5")
    expect(fine.get_by_label("number input")).to_have_count(6)
    # Finer still, each block has what its side had.
    turn(visitor, fine.get_by_label("weight varies"), "block by block")
    visitor.see_recipe("filter: OUT01")
    expect(fine.get_by_label("number input for weight of OUT01")).to_have_value("0.75")
    turn(visitor, visitor.page.locator("#hm-part-text_encoder input"), "from draw-fine")
    visitor.see_recipe(f"text_encoder: {FINE}")
    visitor.photograph("desktop-merge-pipelines")
    visitor.open("Pick")
    visitor.see("#hm-picked-parts", f"copied from {FINE}")


def test_the_merge_draws_beside_its_sources(visitor):
    visitor.open("Merge")
    visitor.page.locator("#hm-plan-button").click()
    visitor.see("#hm-plan", "only headers were read")
    visitor.page.locator("#hm-merge-button").click()
    visitor.see("#hm-merge-job .hm-pill", "done")
    visitor.page.locator("#hm-merge-chat").click()
    prompts = visitor.page.locator("#hm-prompt textarea")
    prompts.fill("w1 w2\nw3")
    expect(visitor.page.locator("#hm-message")).not_to_be_visible()
    visitor.page.locator("#hm-draw-steps input[type=number]").fill("1")
    visitor.page.locator("#hm-draw-sources input").check()
    visitor.page.get_by_role("button", name="Settings of the pictures").click()
    visitor.page.locator("#hm-draw-side input, #hm-draw-side textarea").fill("16")
    visitor.page.locator("#hm-draw-button").click()
    captions = visitor.page.locator("#hm-gallery .caption-label")
    asked = ("w1 w2 · seed 1", "w3 · seed 1")
    expect(captions).to_have_text([f"{name} · {one}" for name in (MERGED, "draw-plain", "draw-fine") for one in asked])
    expect(visitor.page.locator("#hm-draw-button")).to_be_visible()
    assert captions.evaluate_all("shown => shown.every(one => one.scrollWidth <= one.clientWidth)")
    visitor.photograph("desktop-draw")
    # A model that speaks, or that nobody has, is talked to.
    model = visitor.page.locator("#hm-chat-model input")
    model.fill("alice/nothing-here")
    model.press("Enter")
    expect(visitor.page.locator("#hm-message")).to_be_visible()
    expect(prompts).not_to_be_visible()


def test_a_search_over_pictures_is_set_up_and_shows_its_best(visitor):
    visitor.open("Evolve")
    visitor.page.get_by_role("button", name="Models that draw").click()
    turn(visitor, visitor.page.locator("#hm-looks input"), "CLIP or SigLIP: how well they fit the words")
    visitor.page.locator("#hm-looker textarea, #hm-looker input").fill(CLIP)
    visitor.page.locator("#hm-search-prompts textarea").fill("\n".join(f"w{n}" for n in range(6)))
    visitor.page.locator("#hm-search-steps input").fill("1")
    turn(visitor, visitor.page.locator("#hm-search-method input"), "linear")
    for box in ("#hm-evals", "#hm-popsize"):
        visitor.page.locator(f"{box} input").fill("4")
    visitor.page.locator("#hm-evolve-button").click()
    visitor.see("#hm-evolve-job .hm-pill", "done", 3 * PATIENCE)
    visitor.see("#hm-results", "evolved")
    strip = visitor.page.locator("#hm-pictures img").first
    expect(strip).to_be_visible()
    assert strip.evaluate("shown => shown.naturalWidth / shown.naturalHeight") == 2, "two prompts, side by side"
    visitor.photograph("desktop-evolve-pipelines")


def test_the_evolved_pipeline_is_published_with_pictures(visitor):
    visitor.open("Publish")
    turn(visitor, visitor.page.locator("#hm-publish-model input"), MERGED)
    visitor.see("#hm-preview", "the text encoder is that of alice/draw-fine")
    turn(
        visitor, visitor.page.locator("#hm-publish-model input"), "Evolved: linear of draw-plain#unet + draw-fine#unet"
    )
    visitor.see("#hm-preview", "From above: this model, then ")
    visitor.page.locator("#hm-repo input, #hm-repo textarea").fill("alice/draw-published")
    visitor.page.locator("#hm-publish-button").click()
    visitor.see("#hm-publish-job .hm-pill", "done")
    visitor.see("#hm-link", "alice/draw-published")
    info = HfApi().model_info("alice/draw-published")
    assert info.library_name == "diffusers" and info.pipeline_tag == "text-to-image"
    names = {file.rfilename for file in info.siblings}
    assert {"model_index.json", "unet/config.json", "text_encoder/config.json", "README.md", "pictures.jpg"} <= names


def test_the_tabs_of_pipelines_fit_a_phone(visitor):
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    for tab in ("Pick", "Merge", "Evolve", "Chat"):
        visitor.open(tab)
        visitor.page.wait_for_function("document.documentElement.scrollWidth <= 390")
        visitor.photograph(f"phone-{tab.lower()}-pipelines")
