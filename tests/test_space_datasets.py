"""A dataset of the Hub in the Evolve form: which of its files are read for which split."""

from dataclasses import replace

import pytest
from huggingface_hub import HfApi

from hubmerge.errors import SearchError, TaskError
from space.forms.search import SearchForm, files_of_splits

OURS = ["search.jsonl", "validation.jsonl", "test.jsonl"]
ALONE = ["data/validation-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"]


def found(*names: str) -> list[str]:
    return list(files_of_splits(names, "org/data").values())


def form(task: str) -> SearchForm:
    given = {"models": ["org/a", "org/b"], "base": None, "task": task, "file": None, "language": "", "longest": 8.0}
    asked = {"spaces": "ps", "method": "linear", "genes": ["weight"], "granularity": "model", "searcher": "usual"}
    budget = {"evaluations": 24.0, "popsize": 6.0, "minutes": None, "seed": 3.0, "objectives": ["score"]}
    rest = {"picture": "photo", "search": 6, "validation": 6, "test": 6, "compared": False, "economy": False}
    return SearchForm(**given, **asked, **budget, **rest)


def test_a_search_says_where_its_base_is_chosen() -> None:
    needing = replace(form(""), task="ja-word-problems", method="task_arithmetic")
    with pytest.raises(SearchError, match=r'choose in step 1 what these were tuned from.*"Propose models'):
        needing.to_search(None)
    assert str(replace(needing, base="org/base").to_search(None).base_model) == "org/base"


def test_splits_are_found_by_the_names_that_datasets_of_the_hub_have() -> None:
    assert found() == found(*OURS, "data/train-0.parquet") == found("README.md", "pictures/x.png") == OURS
    shards = [f"data/train-0000{number}-of-00002.parquet" for number in (0, 1)]
    assert found("README.md", *shards, *ALONE) == ["data/train-*.parquet", *ALONE]
    assert found("train.json", "dev.json", "test.json") == ["train.json", "dev.json", "test.json"]


def test_search_and_validation_share_rows_where_none_are_for_validation() -> None:
    assert found("train.csv", "test.csv", "train.png", "retrain.csv") == ["train.csv", "train.csv", "test.csv"]


def test_a_dataset_in_several_languages_is_refused() -> None:
    with pytest.raises(TaskError, match=r"several files for search \(de/train.csv, ja/train.csv, ...\)"):
        found("de/train.csv", "ja/train.csv")


def test_pictures_in_parquet_are_searched_on(hub) -> None:
    api, repo_id = HfApi(), "alice/form-pictures"
    api.create_repo(repo_id, repo_type="dataset", exist_ok=True)
    for split in ("train", "test"):
        api.upload_file(
            path_or_fileobj=split.encode(), path_in_repo=f"data/{split}-0.parquet", repo_id=repo_id, repo_type="dataset"
        )
    task = form(repo_id).to_search(None, "hf_alice").to_dict()["task"]
    assert task["image"] == "photo"
    assert task["examples"] == {
        "repo_id": repo_id,
        "search": "data/train-0.parquet",
        "validation": "data/train-0.parquet",
        "test": "data/test-0.parquet",
    }


@pytest.mark.parametrize("name", ["/etc", "./data", "~/data"])
def test_what_is_no_dataset_is_not_looked_into(name: str) -> None:
    assert form(name).to_search(None).to_dict()["task"]["examples"]["search"] == "search.jsonl"
