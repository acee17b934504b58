"""The demo zoo on a Hub."""

import errno
import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Literal

import pytest

from hubmerge.errors import HubmergeError, PlanError
from hubmerge.zoo.cards import REPOS
from hubmerge.zoo.kinds import require_zoo, shipped
from hubmerge.zoo.publish import model_folder, publish
from hubmerge.zoo.word_problems import COUNTS


@pytest.fixture(scope="module")
def published(hub):
    return publish(hub.endpoint, "hf_alice", "alice")


def test_models_load_by_id_and_cards_point_to_the_namespace(hub, published) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.endpoint, token="hf_alice")
    assert published == {
        "base": "alice/zoo-base",
        "math": "alice/zoo-math",
        "math-2": "alice/zoo-math-2",
        "japanese": "alice/zoo-japanese",
        "errands": "alice/zoo-errands",
        "ja": "alice/ja-word-problems",
        "en": "alice/en-word-problems",
    }
    for name in REPOS:
        files = set(api.list_repo_files(published[name]))
        assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= files
    card = api.hf_hub_download(published["math"], "README.md")
    assert "base_model: alice/zoo-base" in Path(card).read_text(encoding="utf-8")


def test_data_sets_have_three_disjoint_splits(hub, published) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.endpoint, token="hf_alice")
    for lang in ("ja", "en"):
        questions = set()
        for split, count in COUNTS.items():
            path = api.hf_hub_download(published[lang], f"{split}.jsonl", repo_type="dataset")
            rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
            assert len(rows) == count
            assert all(set(row) == {"question", "answer", "template"} and row["answer"].isdigit() for row in rows)
            assert sum(row["template"] == "unseen" for row in rows) == (count // 3 if split == "test" else 0)
            questions |= {row["question"] for row in rows}
        assert len(questions) == sum(COUNTS.values())


def test_publishing_again_makes_no_commit(hub, published) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.endpoint, token="hf_alice")
    kinds = {name: "dataset" if name in ("ja", "en") else "model" for name in published}

    def heads():
        return {name: api.repo_info(repo, repo_type=kinds[name]).sha for name, repo in published.items()}

    before = heads()
    assert publish(hub.endpoint, "hf_alice", "alice") == published
    assert heads() == before


def test_what_the_machine_refuses_is_an_error_with_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(errno.EFBIG, "File too large", str(target))

    monkeypatch.setattr(shutil, "copyfile", refuse)
    with pytest.raises(OSError, match="File too large") as refused:
        model_folder("base", tmp_path / "zoo-base")
    assert refused.value.errno == errno.EFBIG


@pytest.mark.parametrize(
    ("kind", "lacked", "of_words"),
    [("vlm", "base, japanese, english", "english"), ("image", "judge, judge-2, base, fine, japanese", "judge")],
)
def test_a_folder_of_something_else_is_refused(
    kind: Literal["vlm", "image"], lacked: str, of_words: str, tmp_path: Path
) -> None:
    if kind == "image":
        pytest.importorskip("diffusers")
    require_zoo(shipped(kind), kind)
    with pytest.raises(HubmergeError, match=f"it lacks {lacked}; `.*zoo train --{kind} --out"):
        require_zoo(tmp_path, kind)
    with pytest.raises(HubmergeError, match=f"it lacks {of_words}"):
        require_zoo(shipped(), kind)
    # The record of the zoo of words has a base, too, which is not written over.
    record = json.loads((shipped() / "training.json").read_text(encoding="utf-8"))
    record["models"] = {name: {"files": {"config.json": ""}} for name in record["models"]}
    (tmp_path / "training.json").write_text(json.dumps(record), encoding="utf-8")
    train = getattr(import_module(f"hubmerge.zoo.{kind}.train"), f"train_{kind}_zoo")
    with pytest.raises(PlanError, match="holds another zoo, with math"):
        train(tmp_path)
