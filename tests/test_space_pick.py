"""Pick: an address that is pasted in place of an ID, and the base that all models' cards tell of."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hubtools import publish
from huggingface_hub import HfApi
from lineagetools import beginning, files, tuned
from markupsafe import escape

from hubmerge.errors import NotFoundError, RecipeError
from hubmerge.hub import open_source
from hubmerge.lineage.likeness import YARDSTICK
from hubmerge.reference import ModelRef
from space.tabs.pick import common_base, describe, plain, siblings_of
from space.views.models import describe_siblings

HUB = "https://huggingface.co"
ADDRESSES = {
    f"{HUB}/org/name": "org/name",
    f"{HUB}/org/name/": "org/name",
    "huggingface.co/org/name": "org/name",
    f"{HUB}/org/name/tree/main": "org/name",
    f"{HUB}/org/name/tree/v1.0": "org/name@v1.0",
    f"{HUB}/org/name/tree/refs%2Fpr%2F1": "org/name@refs/pr/1",
    f"{HUB}/org/name/tree/main/onnx": "org/name/onnx",
    f"{HUB}/org/name/blob/v1/model-Q8_0.gguf?x=1": "org/name/model-Q8_0.gguf@v1",
    f"{HUB}/org/name/resolve/main/README.md?download=true#top": "org/name",
    f"{HUB}/org/name/discussions/3": "org/name",
    f"{HUB}/gpt2": "gpt2",
    f"{HUB}/gpt2/tree/main": "gpt2",
    "https://hf.co/org/name": "org/name",
    "hf://org/name@v2": "org/name@v2",
    "http://hub.example:8080/org/name/tree/dev": "org/name@dev",
    "org/name@v2": "org/name@v2",
}
NO_ADDRESSES = [
    f"{HUB}/%2Fetc/passwd",
    f"{HUB}/../..",
    f"{HUB}/./x",
    f"{HUB}/~/x",
    f"{HUB}/",
    f"{HUB}.example/org/name",
    "http://169.254.169.254/latest/meta-data",
]


@pytest.mark.parametrize(("address", "name"), ADDRESSES.items())
def test_the_address_of_a_page_is_a_model(address: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example:8080/")
    assert str(ModelRef.parse(address)) == plain(address) == name


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_an_address_never_means_a_folder_or_another_host(address: str) -> None:
    with pytest.raises(RecipeError):
        ModelRef.parse(address)
    assert plain(address) == address


def test_a_dataset_is_told_from_a_model() -> None:
    with pytest.raises(RecipeError, match="an address of the Hub's datasets, and of no model"):
        ModelRef.parse(f"{HUB}/datasets/org/name")


def test_the_base_is_what_all_cards_tell(hub, siblings) -> None:
    api = HfApi()

    def publish(name: str, base: str | None) -> str:
        repo_id = f"alice/picked-{name}"
        api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(folder_path=siblings["math"], repo_id=repo_id)
        card = f"---\nbase_model: {base}\n---\n" if base else "---\nlicense: mit\n---\n"
        api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=repo_id)
        return repo_id

    base = publish("base", None)
    one, two = publish("one", base), publish("two", base)
    gone, silent = publish("gone", "alice/picked-nothing"), publish("silent", None)
    page: Any = SimpleNamespace(open=lambda name, token: open_source(ModelRef.parse(name), token=token))
    assert common_base(page, [one, two], None) == base
    assert common_base(page, [one, base], None) == base, "what is picked may be the base of the others"
    for names in ([one], [one, silent], [one, gone], [gone, gone], [silent, base], [one, "alice/no"]):
        assert common_base(page, names, None) is None, names
    assert "Did you mean alice/picked-one" in describe(page, ["alice/picked-onee"], None, None)


def test_models_that_go_with_the_chosen_are_proposed(hub) -> None:
    root = beginning(71)
    publish("alice/goes-base", files(root, []))
    for seed, name in enumerate(("math", "ja", "code"), 72):
        publish(f"alice/goes-{name}", files(tuned(root, seed), ["alice/goes-base"]))
    # What was made of the chosen goes with nothing: it is them again.
    parents = ["alice/goes-base", "alice/goes-math", "alice/goes-ja"]
    publish("alice/goes-merged", files(tuned(tuned(root, 72), 73), parents))
    page: Any = SimpleNamespace(open=lambda name, token: open_source(ModelRef.parse(name), token=token))
    tree = siblings_of(page, ["alice/goes-math"], None)
    assert {one.repo_id for one in tree.siblings} == {"alice/goes-ja", "alice/goes-code"}
    shown = describe_siblings(tree)
    assert "<details>" in shown and "What these models come from</title>" in shown
    assert "Tuned from alice/goes-base like these" in shown and f'href="{hub.endpoint}/alice/goes-ja"' in shown
    assert f"<p>How far: {escape(YARDSTICK)}.</p>" in shown
    assert "none fits" in describe_siblings(
        siblings_of(page, [f"alice/goes-{one}" for one in ("math", "ja", "code")], None)
    )
    assert "No base is known" in describe_siblings(siblings_of(page, ["alice/goes-base"], None))
    with pytest.raises(RecipeError, match="Choose a model first"):
        siblings_of(page, ["stage:first"], None)
    with pytest.raises(NotFoundError):
        siblings_of(page, ["alice/goes-nowhere"], None)


def test_a_folder_stays_as_it_was_typed(tmp_path: Path) -> None:
    assert plain(str(tmp_path)) == str(tmp_path) and plain("no name at all") == "no name at all"
