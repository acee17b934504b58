"""Pipelines that draw in a real browser: picked, and the recipe of their parts."""

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("diffusers")
from browsertools import CHROMIUM, Visitor, chromium, publish_models
from huggingface_hub import HfApi
from pipelines import save

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


def test_what_pipelines_are_made_of_is_seen_and_written(visitor):
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
    visitor.photograph("desktop-merge-pipelines")
