"""Tools and measured merges in a real browser: what is asked, made, fetched and published there."""

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
import ggufmodels
from browsertools import CHROMIUM, Visitor, chromium, publish_models
from huggingface_hub import HfApi
from playwright.sync_api import expect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

BASE, TUNED, THIRD, FOURTH, TEXTS = (f"alice/desk-{name}" for name in ("base", "tuned", "third", "fourth", "texts"))


@pytest.fixture(scope="module")
def visitor(own_page, hub, tmp_path_factory):
    root, api = tmp_path_factory.mktemp("desk"), HfApi()
    folder, _ = ggufmodels.build(root, "llama", ggufmodels.bytewise())
    publish_models(api, {BASE: folder, TUNED: folder, THIRD: folder, FOURTH: folder})
    for name in (THIRD, FOURTH):
        card = f"---\nbase_model: {BASE}\n---\n".encode()
        api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=name)
    api.create_repo(TEXTS, repo_type="dataset", exist_ok=True)
    rows = b'{"said": "one and two"}\n{"said": "three and four"}\n'
    api.upload_file(path_or_fileobj=rows, path_in_repo="train.jsonl", repo_id=TEXTS, repo_type="dataset")
    with own_page.page().quietly() as url, chromium() as browser:
        visitor = Visitor(browser, url)
        for name in ("base", "tuned"):
            visitor.choose("#hm-models", f"desk-{name}", f"alice/desk-{name}")
        visitor.see("#hm-cards .hm-fine", "All 2 are LlamaForCausalLM")
        yield visitor
        visitor.leave()


def test_models_are_measured_by_the_texts_that_the_form_names(visitor) -> None:
    visitor.open("Merge")
    method = visitor.page.locator("#hm-method input")
    method.click()
    method.fill("regmean")
    visitor.page.locator('#hm-method [role=option][aria-label="regmean"]').click()
    for place in ("first", "last"):
        model = getattr(visitor.page.locator(".hm-model"), place)
        where = model.get_by_label("Measured by")
        where.click()
        where.fill(f"{TEXTS}/train.jsonl")
        where.press("Enter")
        template = model.get_by_label("What is read of a row")
        template.fill("{said}")
        template.press("Tab")
        visitor.see_recipe("{said}")
    expect(visitor.page.locator("#hm-recipe .cm-content")).to_contain_text(re.compile(r"\{said\}.*\{said\}", re.S))
    visitor.page.locator("#hm-plan-button").click()
    visitor.see("#hm-plan", f"by 2 texts of train.jsonl of {TEXTS}")
    visitor.page.locator("#hm-merge-button").click()
    visitor.see("#hm-merge-job .hm-pill", "done")


def test_a_gguf_file_is_made_fetched_and_published(visitor, tmp_path) -> None:
    visitor.open("Tools")
    expect(visitor.page.get_by_label("Model", exact=True).last).to_have_value(BASE)
    visitor.page.get_by_label("GGUF file").click()
    visitor.page.locator("#hm-tool-plan-button").click()
    visitor.see("#hm-tool-plan", "Q8_0")
    visitor.page.locator("#hm-make-button").click()
    visitor.see("#hm-tool-job .hm-pill", "done")
    with visitor.page.expect_download() as fetching:
        visitor.page.locator("#hm-files a").click()
    assert fetching.value.suggested_filename == "desk-base-Q8_0.gguf"
    fetching.value.save_as(tmp_path / "fetched.gguf")
    assert (tmp_path / "fetched.gguf").read_bytes()[:4] == b"GGUF"
    visitor.page.locator("#hm-tool-on").click()
    visitor.see("#hm-preview", "desk-base-Q8_0")
    visitor.page.locator("#hm-repo textarea, #hm-repo input").fill("alice/desk-gguf")
    visitor.page.locator("#hm-publish-button").click()
    visitor.see("#hm-link", "alice/desk-gguf")
    assert "desk-base-Q8_0.gguf" in HfApi().list_repo_files("alice/desk-gguf")


def test_the_form_asks_for_what_a_tool_needs(visitor) -> None:
    visitor.open("Tools")
    for label, shown, hidden in (
        ("LoRA", ("#hm-tool-model", "#hm-tool-other"), ("#hm-tool-format", "#hm-mixture")),
        ("mixture of experts", ("#hm-mixture",), ("#hm-tool-model", "#hm-tool-other", "#hm-tool-format")),
        ("other tokenizer", ("#hm-tool-model", "#hm-tool-other"), ("#hm-mixture", "#hm-tool-format")),
    ):
        visitor.page.locator("#hm-tool").get_by_label(label).click()
        for place in shown:
            expect(visitor.page.locator(place)).to_be_visible()
        for place in hidden:
            expect(visitor.page.locator(place)).to_be_hidden()
    visitor.page.locator("#hm-tool").get_by_label("mixture of experts").click()
    visitor.see("#hm-mixture .cm-content", f"source_model: {TUNED}")
    visitor.page.locator("#hm-tool-plan-button").click()
    visitor.see("#hm-tool-plan", "Ready")


def test_an_address_is_understood_and_the_base_of_all_cards_filled_in(visitor, hub) -> None:
    visitor.page.reload()
    visitor.page.wait_for_selector("#hm-cards .hm-card")
    visitor.open("Merge")
    method = visitor.page.locator("#hm-method input")
    method.click()
    method.fill("ties")
    visitor.page.locator('#hm-method [role=option][aria-label="ties"]').click()
    visitor.see_recipe("merge_method: ties")
    visitor.open("Pick")
    box = visitor.page.locator("#hm-models input")
    box.click()
    box.press("Backspace")
    box.press("Backspace")
    for name in (THIRD, FOURTH):
        box.fill(f"{hub.endpoint}/{name}/tree/main")
        box.press("Enter")
        visitor.see("#hm-cards", name.split("/")[1])
    expect(visitor.page.locator("#hm-models")).not_to_contain_text("http")
    expect(visitor.page.locator("#hm-base input")).to_have_value(BASE)
    visitor.see("#hm-cards .hm-fine", "All 3 are LlamaForCausalLM")
    visitor.open("Merge")
    visitor.see_recipe(f"base_model: {BASE}")
    visitor.see_recipe(f"model: {FOURTH}")
    assert "http" not in visitor.recipe()
