"""The Space in a real browser against the embedded Hub: every step a person takes, from search to published model.

With HUBMERGE_SCREENSHOTS=folder each tab is also photographed, in desktop and phone width.
"""

import re
import warnings

import pytest
from hubtools import on_path

from hubmerge.localhub import Fault
from hubmerge.reference import ModelRef
from hubmerge.stream.verify import verify
from space.client import KEEP

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from browsertools import CHROMIUM, Visitor, chromium, publish_models
from playwright import sync_api

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

MERGED = "Merged: dare_linear of space-math + space-japanese"
TABS = ("Pick", "Merge", "Evolve", "Chat", "Publish", "Tools")
BASE, MATH, JAPANESE, SUMS, BEE = (f"alice/space-{name}" for name in ("base", "math", "japanese", "sums", "bee"))


@pytest.fixture(scope="module")
def published(hub, siblings, tmp_path_factory):
    """Three sibling models and a dataset whose answers are what one of them says, on the embedded Hub."""
    from huggingface_hub import HfApi

    from hubmerge.evaluate.generation import generate
    from hubmerge.evaluate.metrics import numbers
    from hubmerge.evaluate.models import load_model

    api = HfApi()
    publish_models(api, {BASE: siblings["base"], MATH: siblings["math"], JAPANESE: siblings["japanese"]})
    prompts = [f"w{n % 30} {n % 7} w{n // 30}" for n in range(60)]
    said = generate(*load_model(str(siblings["math"])), prompts, max_new_tokens=6)
    answers = [(numbers(text) or [0])[-1] for text in said]
    folder = tmp_path_factory.mktemp("sums")
    for split, rows in (("search", slice(0, 20)), ("validation", slice(20, 40)), ("test", slice(40, 60))):
        lines = [
            f'{{"question": "{prompt}", "answer": "{answer}"}}'
            for prompt, answer in zip(prompts[rows], answers[rows], strict=True)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    api.create_repo(SUMS, repo_type="dataset", exist_ok=True)
    api.upload_folder(folder_path=folder, repo_id=SUMS, repo_type="dataset")
    return api


@pytest.fixture(scope="module")
def address(own_page, published):
    """Where the page is served: `python app.py` in a process of its own, as a Space runs it."""
    with own_page.page().quietly() as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def visitor(browser, address):
    visitor = Visitor(browser, address)
    yield visitor
    visitor.leave()


def test_the_page_tells_its_health(visitor):
    visitor.see("#hm-health", "0 waiting · memory")


def test_search_pick_and_see_what_fits(visitor):
    visitor.choose("#hm-models", "space-ma", MATH)
    visitor.choose("#hm-models", "space-jap", JAPANESE)
    # The list of what was found does not stay open over the cards.
    sync_api.expect(visitor.page.locator("#hm-models [role=option]")).to_have_count(0)
    visitor.choose("#hm-base", "space-b", BASE)
    visitor.see("#hm-cards .hm-fine", "All 3 are LlamaForCausalLM")
    cards = visitor.page.locator("#hm-cards .hm-card")
    sync_api.expect(cards).to_have_count(3)
    for fact in ("base model", "apache-2.0", "F32"):
        sync_api.expect(cards.first).to_contain_text(fact)
    visitor.photograph("desktop-pick")


def test_no_late_answer_takes_a_choice_back(browser, address, hub, published, siblings):
    late, box = Visitor(browser, address), "#hm-base [role=option]"
    field = late.page.locator("#hm-base input")
    field.press_sequentially("space", delay=40)
    late.page.locator(f'{box}[aria-label="{JAPANESE}"]').wait_for()
    publish_models(published, {BEE: siblings["math"]})
    field.press_sequentially("-b", delay=40)
    late.page.locator(f'{box}[aria-label="{BEE}"]').wait_for()
    # What is there by now is behind what was there, and what does not fit has not come back before it.
    shown = late.page.locator(box).filter(visible=True)
    assert shown.evaluate_all("shown => shown.map(one => one.ariaLabel)") == [BASE, BEE]
    # An address that is pasted becomes an ID, where nothing else was chosen meanwhile.
    models = late.page.locator("#hm-models input")
    models.fill(f"{hub.endpoint}/{BEE}")
    models.press("Enter")
    sync_api.expect(late.page.locator("#hm-models .token span").first).to_have_text(BEE)
    told, kept = [[["address"], [BEE]], [None, BASE], ["", MATH]], {"__type__": "update"}

    def entered(*now):
        return late.page.evaluate(f"([told, now]) => ({KEEP})(told, ...now)", [told, now])

    assert entered(["address"], "", None) == [[BEE], BASE, MATH]
    assert entered(["address", MATH], JAPANESE, MATH) == [kept] * 3
    assert late.page.evaluate(f"({KEEP})(null, 'a', [])") == [kept] * 2
    late.leave()


def test_sliders_and_yaml_are_two_views_of_one_recipe(visitor):
    visitor.open("Merge")
    visitor.see_recipe(MATH)
    weight = visitor.page.locator(".hm-model").first.locator("input[type=number]").first
    weight.fill("0.75")
    weight.press("Tab")
    visitor.see_recipe("weight: 0.75")
    visitor.see("#hm-picture", "0.75")
    text = visitor.page.locator("#hm-recipe .cm-content")
    text.click()
    visitor.page.keyboard.press("Control+a")
    visitor.page.keyboard.insert_text(visitor.recipe().replace("0.75", "1.25").replace("dare_ties", "dare_linear"))
    visitor.page.locator("h1").click()
    sync_api.expect(visitor.page.locator(".hm-model").first.locator("input[type=number]").first).to_have_value("1.25")
    sync_api.expect(visitor.page.locator("#hm-method input")).to_have_value("dare_linear")
    visitor.see("#hm-picture", "1.25")


def test_a_weight_varies_over_the_layers(visitor):
    model = visitor.page.locator(".hm-model").last
    model.get_by_role("button", name="weight: layer by layer").click()
    last = visitor.page.get_by_label("number input for weight at the last layer")
    last.fill("0.25")
    last.press("Tab")
    visitor.see_recipe("- 0.25")
    curve = visitor.page.get_by_role("img", name="from 1 at the first layer to 0.25 at the last")
    sync_api.expect(curve).to_be_visible()
    visitor.see("#hm-picture", "0.85")
    visitor.photograph("desktop-layers")
    visitor.page.get_by_role("button", name="weight: one value for all layers").click()
    visitor.see_recipe("weight: 0.85")


def test_a_recipe_travels_as_a_link_and_as_a_file(visitor, browser, tmp_path):
    visitor.page.locator("#hm-share").click()
    box = visitor.page.locator("#hm-share-link textarea, #hm-share-link input")
    sync_api.expect(box).to_have_value(re.compile(r"^http://127.0.0.1:\d+/\?recipe=[\w-]+$"))
    text = visitor.recipe()
    other = Visitor(browser, box.input_value())
    for weight in ("1.5", "1.25"):  # another recipe has another link
        control = visitor.page.locator(".hm-model").first.locator("input[type=number]").first
        control.fill(weight)
        control.press("Tab")
        visitor.see_recipe(f"weight: {weight}")
        sync_api.expect(box).to_have_count(0)
    other.see("#hm-cards", "space-math")
    other.open("Merge")
    other.see_recipe("1.25")
    assert other.recipe() == text
    sync_api.expect(other.page).to_have_url(re.compile(r"/$"))
    for name, written in (("mine", text.replace("1.25", "1.75")), ("broken", "merge_method: [")):
        (tmp_path / f"{name}.yaml").write_text(written, encoding="utf-8")
        with other.page.expect_file_chooser() as chooser:
            other.page.locator("#hm-open-recipe").click()
        chooser.value.set_files(tmp_path / f"{name}.yaml")
        other.see_recipe("1.75")
    other.see(".toast-body, .toast-wrap", "not valid YAML")
    other.leave()


def test_plan_then_merge_cancel_and_resume(visitor, hub):
    visitor.page.locator("#hm-plan-button").click()
    visitor.see("#hm-plan", "only headers were read")
    visitor.see("#hm-plan", "29")
    hub.faults = on_path("model.safetensors", Fault(delay=4))  # time to change one's mind
    try:
        visitor.page.locator("#hm-merge-button").click()
        visitor.see("#hm-merge-job .hm-pill", "running")
        visitor.page.locator("#hm-merge-cancel").click()
        visitor.see("#hm-merge-job .hm-pill", "stopped")
    finally:
        hub.faults = None
    visitor.page.locator("#hm-merge-resume").click()
    visitor.see("#hm-merge-job .hm-pill", "done")
    visitor.see("#hm-merge-job", "dare_linear of space-math + space-japanese")
    visitor.photograph("desktop-merge")


def start_search(visitor, evaluations: int, plan: bool = False) -> None:
    visitor.open("Evolve")
    task = visitor.page.locator("#hm-task input")
    task.click()
    task.fill(SUMS)
    task.press("Enter")
    visitor.page.locator("#hm-longest input").fill("6")
    visitor.page.locator("#hm-evals input").fill(str(evaluations))
    visitor.page.locator("#hm-popsize input").fill("4")
    if plan:
        visitor.page.locator("#hm-search-plan-button").click()
        visitor.see("#hm-search-plan", f"{evaluations} recipes")
    visitor.page.locator("#hm-evolve-button").click()


def test_evolve_and_reload_the_page_meanwhile(visitor):
    start_search(visitor, evaluations=16, plan=True)
    # A short search may be over before it is looked at.
    begun = visitor.page.locator("#hm-evolve-job .hm-pill").first
    sync_api.expect(begun).to_contain_text(re.compile("running|done"), timeout=90_000)
    visitor.page.reload()
    sync_api.expect(visitor.page.locator("#hm-cards .hm-card")).to_have_count(3)  # what was chosen is still there
    visitor.open("Evolve")
    visitor.see("#hm-evolve-job .hm-pill", "done")
    visitor.see("#hm-evolve-facts", "best score")
    sync_api.expect(visitor.page.locator("#hm-curve canvas, #hm-curve svg").first).to_be_visible()
    rows = visitor.page.locator("#hm-results tbody tr")
    sync_api.expect(rows).to_have_count(9)
    sync_api.expect(rows.last).to_contain_text("evolved")
    sync_api.expect(visitor.page.locator("#hm-candidates tbody tr")).to_have_count(8)
    visitor.photograph("desktop-evolve")
    visitor.page.reload()  # the search is over: all of it is drawn while its tab is hidden
    sync_api.expect(visitor.page.locator("#hm-cards .hm-card")).to_have_count(3)
    visitor.open("Evolve")
    sync_api.expect(visitor.page.locator("#hm-curve canvas, #hm-curve svg").first).to_be_visible()


def test_minutes_end_a_search(visitor):
    seen = visitor.page.locator("#hm-evolve-seen textarea")
    before = seen.input_value().partition(":")[0]
    visitor.page.locator("#hm-minutes input").fill("0.01")
    start_search(visitor, evaluations=4000)
    sync_api.expect(seen).not_to_have_value(re.compile(f"^{before}:"))
    visitor.see("#hm-evolve-job .hm-pill", "done")
    assert "4000" not in visitor.page.locator("#hm-evolve-facts").inner_text()
    visitor.page.locator("#hm-minutes input").fill("")


def test_paths_with_two_objectives_give_a_front_and_any_point_becomes_a_model(visitor):
    visitor.open("Evolve")
    visitor.page.locator("#hm-spaces").get_by_label("paths: through the layers").check()
    sync_api.expect(visitor.page.locator("#hm-genes")).not_to_be_visible()
    visitor.page.locator("#hm-objectives").get_by_label("short paths").check()
    searcher = visitor.page.locator("#hm-searcher input")
    searcher.click()
    visitor.page.locator('#hm-searcher [role=option][aria-label="nsga2"]').click()
    start_search(visitor, evaluations=12)
    visitor.see("#hm-evolve-job", "paths of space-math + space-japanese")
    visitor.see("#hm-evolve-job .hm-pill", "done")
    visitor.see("#hm-pictures", "Objectives")
    visitor.see("#hm-pictures", "the path through the layers")
    visitor.photograph("desktop-front")
    visitor.page.locator("#hm-candidate input").click()
    visitor.page.locator("#hm-candidate [role=option]").first.click()
    visitor.page.locator("#hm-make").click()
    visitor.see("#hm-merge-job", "of paths of space-math + space-japanese")
    visitor.see("#hm-merge-job .hm-pill", "done")


@pytest.mark.thorough  # the buttons are the ones of a merge
def test_a_search_can_be_cancelled_and_resumed(visitor):
    visitor.page.reload()
    visitor.page.wait_for_selector("#hm-cards .hm-card")
    start_search(visitor, evaluations=400)
    visitor.see("#hm-evolve-job", "of 400 evaluations")
    visitor.page.locator("#hm-evolve-cancel").click()
    visitor.see("#hm-evolve-job .hm-pill", "stopped")
    visitor.page.locator("#hm-evolve-resume").click()
    visitor.see("#hm-evolve-job", "of 400 evaluations")
    visitor.page.locator("#hm-evolve-cancel").click()
    visitor.see("#hm-evolve-job .hm-pill", "stopped")


def test_chat_with_the_merge_and_with_a_model_of_the_hub(visitor):
    visitor.open("Merge")
    visitor.page.locator("#hm-merge-chat").click()
    sync_api.expect(visitor.page.locator("#hm-chat-model input")).to_have_value(re.compile("Merged: candidate"))
    model = visitor.page.locator("#hm-chat-model input")
    model.click()
    visitor.page.locator(f'#hm-chat-model [role=option][aria-label="{MERGED}"]').click()
    message = visitor.page.locator("#hm-message textarea")
    message.fill("w1 w2 3")
    message.press("Enter")
    # While the first answer is written, or its model loads, the next question is asked, which ends it.
    sync_api.expect(visitor.page.locator("#hm-chat .bot")).to_have_count(1)
    model.click()
    model.fill("alice/nothing-here")
    model.press("Enter")
    message.fill("4 5 w6")
    message.press("Enter")
    visitor.see("#hm-chat", "there is no such repository")
    sync_api.expect(visitor.page.locator("#hm-message .submit-button")).to_be_visible()
    sync_api.expect(visitor.page.locator("#hm-chat .bot")).to_have_count(2)


def test_two_models_answer_side_by_side(visitor):
    sync_api.expect(visitor.page.locator("#hm-chat-beside")).not_to_be_visible()
    for box, name in (("#hm-chat-model", MATH), ("#hm-chat-other", JAPANESE)):
        field = visitor.page.locator(f"{box} input")
        field.click()
        field.fill(name)
        field.press("Enter")
    message = visitor.page.locator("#hm-message textarea")
    sync_api.expect(visitor.page.locator("#hm-chat-beside")).to_be_visible()
    message.fill("w5 6 w7")
    message.press("Enter")
    for side in ("#hm-chat", "#hm-chat-beside"):
        sync_api.expect(visitor.page.locator(f"{side} .user").last).to_contain_text("w5 6 w7")
        answer = visitor.page.locator(f"{side} .bot").last
        sync_api.expect(answer).not_to_contain_text("…")
        sync_api.expect(answer).not_to_be_empty()
    visitor.photograph("desktop-chat")


def test_publish_and_find_it_on_the_hub(visitor, published):
    visitor.open("Publish")
    what = visitor.page.locator("#hm-publish-model input")
    what.click()
    visitor.page.locator(f'#hm-publish-model [role=option][aria-label="{MERGED}"]').click()
    visitor.see("#hm-who", "alice")
    visitor.see("#hm-preview", "dare_linear")
    repo = visitor.page.locator("#hm-repo input, #hm-repo textarea")
    repo.fill("alice/space-published")
    visitor.page.locator("#hm-publish-button").click()
    visitor.see("#hm-publish-job .hm-pill", "done")
    visitor.see("#hm-link", "alice/space-published")
    # What is shown of the job is known where it is shown: an answer that was overtaken on its way is drawn over.
    for kind in ("merge", "publish"):
        sync_api.expect(visitor.page.locator(f"#hm-{kind}-seen textarea")).to_have_value(re.compile("^[0-9a-f]{16}:"))
    visitor.photograph("desktop-publish")
    info = published.model_info("alice/space-published")
    assert info.private
    folder = published.snapshot_download("alice/space-published")
    assert verify(ModelRef(folder)).remark is None, "the manifest knows the card that was published"
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= {s.rfilename for s in info.siblings}
    assert set(info.card_data.base_model) >= {MATH, JAPANESE}


def test_nothing_on_any_tab_is_a_serious_barrier(visitor):
    """axe-core's rules: WCAG 2 A and AA; what it calls serious or critical is not there."""
    axe, barriers = pytest.importorskip("axe_playwright_python.sync_playwright").Axe(), []
    for tab in TABS:
        visitor.open(tab)
        visitor.page.wait_for_timeout(600)
        found = axe.run(visitor.page).response["violations"]
        serious = [
            (rule["id"], node["html"][:160], node["failureSummary"])
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]
        barriers += [(tab, *barrier) for barrier in serious]
    assert not barriers, "\n".join(map(str, barriers))


FITS = """width => innerWidth == width && document.documentElement.scrollWidth <= width
    && [...document.querySelectorAll('.hm-table')].every(table => table.offsetWidth <= table.parentElement.clientWidth)
    && [...document.querySelectorAll('.hm-picture text')].filter(text => text.checkVisibility() && text.getCTM())
        .every(text => parseFloat(getComputedStyle(text).fontSize) * Math.hypot(text.getCTM().a, text.getCTM().b) >= 8)
    && [...document.querySelectorAll('.secondary-wrap')].filter(box => box.checkVisibility())
        .every(box => box.querySelector('input').getBoundingClientRect().right
            <= (box.querySelector('.dropdown-arrow') ?? box).getBoundingClientRect().right - 10)"""
"""A page of a width, in pixels: nothing leaves it, tables are whole, pictures' letters can be read, names end before
their arrow."""


def test_every_tab_fits_every_width(visitor):
    for tab in TABS:
        visitor.open(tab)
        for width in (1440, 1024, 768):
            visitor.page.set_viewport_size({"width": width, "height": 900})
            visitor.page.wait_for_function(FITS, arg=width)
        visitor.photograph(f"tablet-{tab.lower()}")


def test_every_tab_fits_a_phone(visitor):
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    dots = [dot.bounding_box() for dot in visitor.page.locator("footer .divider").all()]
    assert not any(box and box["width"] for box in dots), "a dot stands between two"
    for tab in TABS:
        visitor.open(tab)
        visitor.page.wait_for_timeout(600)
        visitor.page.wait_for_function(FITS, arg=390)
        visitor.photograph(f"phone-{tab.lower()}")


@pytest.fixture(scope="module")
def other(browser, address):
    """Somebody else, who comes once the first visitor has done all that."""
    other = Visitor(browser, address, dark=True)
    yield other
    other.leave()


def test_another_visitor_sees_none_of_it(other):
    for tab, job in (("Merge", "merge"), ("Evolve", "evolve"), ("Publish", "publish")):
        other.open(tab)
        other.page.wait_for_timeout(600)
        sync_api.expect(other.page.locator(f"#hm-{job}-job")).not_to_be_visible()
        other.photograph(f"dark-{job}")
    other.open("Evolve")
    other.page.locator("#hm-evolve-button").click()
    other.see(".toast-body, .toast-wrap", "Choose a task")


def test_a_lora_is_typed_with_its_model_and_merged(other, published, siblings, tmp_path):
    adapter = pytest.importorskip("test_stream_adapted")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder, _ = adapter.lora(siblings["base"], tmp_path / "lora")
    (folder / "README.md").unlink(missing_ok=True)  # it names a folder of this machine as its base
    published.create_repo("alice/space-lora", exist_ok=True)
    published.upload_folder(folder_path=folder, repo_id="alice/space-lora")
    other.open("Pick")
    box = other.page.locator("#hm-models input")
    box.click()
    box.fill("alice/space-lora")
    box.press("Enter")
    other.see("#hm-cards .hm-problem", "name it on top of its model: org/model+alice/space-lora")
    box.press("Backspace")
    box.fill(f"{BASE}+alice/space-lora")
    box.press("Enter")
    other.see("#hm-cards", f"LoRA on {BASE}")
    sync_api.expect(other.page.locator("#hm-models [role=option]")).to_have_count(0)
    other.open("Merge")  # what was typed is in the recipe, and what was taken back is not
    other.see_recipe(f"{BASE}+alice/space-lora")
    assert "model: alice/space-lora" not in other.recipe()
    other.open("Pick")
    other.choose("#hm-base", "space-b", BASE)
    other.see("#hm-cards .hm-fine", "All 2 are LlamaForCausalLM")
    other.photograph("desktop-lora")
    other.open("Merge")
    other.see_recipe(f"{BASE}+alice/space-lora")
    other.page.locator("#hm-plan-button").click()
    other.see("#hm-plan", "+ alice/space-lora")
    other.photograph("desktop-lora-plan")
    other.page.locator("#hm-merge-button").click()
    other.see("#hm-merge-job .hm-pill", "done")
