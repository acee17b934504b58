"""What a stranger sends is read by a schema: nothing else passes, and no refusal says anything of the server."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from hubmerge.errors import AccessError, HubmergeError, SearchError, TaskError
from hubmerge.evaluate.task import BUILTIN, load_task, task_document
from hubmerge.evolve.search import Search
from space.forms.search import task_of, task_of_file
from space.settings import Settings
from space.visitors.access import read_search, require_fit_for_strangers
from space.visitors.stranger import require_task

SECRET = "sesame-7c1f"
ROWS = [{"question": f"{n} + {n}?", "answer": str(2 * n)} for n in range(4)]
FILES = {"search": "secret.jsonl"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A page for strangers, in a folder with a secret."""
    (tmp_path / "secret.jsonl").write_text(json.dumps({"api_key": SECRET, "question": SECRET, "answer": SECRET}) + "\n")
    (tmp_path / "secret.csv").write_text(f"{SECRET},answer\n1,{SECRET}\n")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({"examples": FILES, "name": SECRET}))
    monkeypatch.chdir(tmp_path)
    return Settings(tmp_path / "jobs", on_space=True)


def search_text(task: Any, **more: Any) -> str:
    document = {
        "models": ["alice/math", "alice/japanese"],
        "base_model": "alice/base",
        "merge_method": "task_arithmetic",
        "genome": {"genes": {"weight": [0, 2]}},
        "task": task,
        **more,
    }
    return yaml.safe_dump(document)


NO_REPOSITORY = [0, False, [], None, {}, "", " ", 0.0, -1, True, ["a/b"], {"a": "b"}, 10**30]
NO_NAMES = [
    "/etc/passwd",
    "../secret",
    "~/x",
    "./x",
    "a/b/c",
    "a/../b",
    "file:///etc",
    "a/b@main",
    "http://x/y",
    "-x/y",
    "x\n",
]
NO_FILES = [
    "/etc/passwd",
    "../secret.jsonl",
    "a/../../b",
    "~/x.csv",
    "file:///x.csv",
    "a\\b.csv",
    "",
    "x\0",
    5,
    [[1]],
    [5],
]
TASKS: list[Any] = [
    *({"examples": {"repo_id": given, **FILES}, "prompt": "{api_key}"} for given in [*NO_REPOSITORY, *NO_NAMES]),
    *({"examples": {"repo_id": "a/b", "search": name}} for name in NO_FILES),
    *(
        {"examples": {"repo_id": "a/b", **FILES, key: value}}
        for key, value in itertools.product(("folder", "path", "token", ""), (None, "/etc", 0))
    ),
    *({"examples": {"repo_id": "a/b", **FILES, "revision": value}} for value in (0, [], None, {"a": 1}, False)),
    *({"examples": {"repo_id": "a/b", **FILES, "each": value}} for value in (0, [], None, {"a": 1}, False)),
    *({"examples": {"repo_id": "a/b", **FILES}, "image": value} for value in (0, [], None, {"a": 1}, False)),
    *({"examples": {"repo_id": "a/b", **FILES, "columns": value}} for value in (0, "a", [[1]], None, {"a": 1})),
    *(
        {"examples": value}
        for value in (FILES, {"folder": ".", **FILES}, {"search": "secret.csv"}, [], 0, None, "x", ["x"])
    ),
    *({"examples": {"search": rows}} for rows in ([{"a": {"b": {"c": 1}}}], [{"a": [[1]]}], [[]], [None], {"a": 1})),
    *(
        {"examples": {"search": ROWS}, key: value}
        for key, value in itertools.product(
            ("prompt", "answer", "system", "name", "language", "metric"), (0, [], None, {"a": 1}, ["x"], False)
        )
    ),
    *({"examples": {"search": ROWS}, "max_new_tokens": value} for value in (0, -1, 1e3, 10**9, "5", None, True)),
    *(
        {"examples": {"search": ROWS}, key: value}
        for key, value in (
            ("python", "os.py:system"),
            ("judge", {"base_url": "http://169.254.169.254/v1"}),
            ("lm_eval", "gsm8k"),
            ("lm_eval", {"task": "x", "include_path": "/etc"}),
            ("metric", "python"),
            ("metric", "judge"),
            ("metric", "lm_eval"),
            ("python", None),
            ("judge", 0),
            ("lm_eval", False),
            ("choices", 0),
            ("choices", [[1]]),
            ("examples2", 1),
            ("image", "a"),
        )
    ),
    "secret.jsonl",
    "task.yaml",
    "./task.yaml",
    "/etc/passwd",
    "~",
    "~/task.yaml",
    "nothing.yaml",
    "",
    0,
    [],
    None,
    True,
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: repr(task)[:60])
def test_whatever_is_not_in_the_schema_is_refused_before_anything_is_opened(
    server: Settings, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubmerge.evolve.spec.document.task_document", lambda *_: pytest.fail("it was read"))
    with pytest.raises(HubmergeError) as refused:
        read_search(server, search_text(task))
    said = str(refused.value)
    assert SECRET not in said and str(server.folder.parent) not in said and len(said) < 500 and "\n" not in said


@pytest.mark.parametrize("name", ["/etc/passwd", "nothing.yaml", "task.yaml", "secret.jsonl"])
def test_a_refusal_is_the_same_whether_the_file_is_there_or_not(server: Settings, name: str) -> None:
    with pytest.raises(AccessError, match="names files of this server") as refused:
        read_search(server, search_text(name))
    assert name not in str(refused.value)


KEYS = {
    "models": [[], [5], [[1]], {"a": 1}, "alice/x", ["x" * 2000], ["a/b"] * 33, ["./x", "a/b"], ["~", "a/b"]],
    "base_model": [0, [], "./x", "/etc", "~root", "alice/math+./lora", "alice/math+/etc"],
    "tokenizer_source": [0, "./x", "/etc", "~", "../up"],
    "chat_template": [0, [], "x" * 30_000],
    "genome": [0, [], {"genes": {"weight": [0, float("nan")]}}, {"genes": {"weight": [0, 1e300]}}, {"x": 1}],
    "searcher": [
        {"popsize": 10**9},
        {"evaluations": 10**12},
        {"seed": -1},
        {"sigma": float("inf")},
        {"x": 1},
        0,
        {"lag": 1e9},
    ],
    "splits": [{"search": 10**30}, {"search": 0}, {"search": "5"}, {"search": True}, []],
    "data_flow": [{"repeats": 10**9}, {"max_layers": 10**9}, {"scale_range": [0, float("nan")]}, {"path": "x"}],
    "batch_size": [0, 10**9, "5", None],
    "select": [0, 10**9],
    "economy": [{"examples": 10**9}, {"blocks": 10**9}, {"level": float("nan")}],
    "fitness": [{"objectives": ["x"]}, {"number_bonus": float("inf")}],
    "relative_to": ["/etc"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in KEYS for value in KEYS[key]])
def test_every_other_key_of_a_search_has_a_type_and_bounds(server: Settings, key: str, value: Any) -> None:
    with pytest.raises(HubmergeError) as refused:
        read_search(server, search_text("mgsm-ja", **{key: value}))
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "task",
    [
        {"examples": FILES},
        {"examples": {"search": [{**row, "pic": "secret.csv"} for row in ROWS]}, "image": "pic"},
    ],
)
def test_a_search_that_is_sent_lies_in_no_folder(server: Settings, task: dict[str, Any]) -> None:
    """On one's own machine a folder may be named; the one that the page was started in is not meant."""
    own = replace(server, on_space=False)
    with pytest.raises(SearchError, match="and no folder that they lie in") as refused:
        read_search(own, search_text(task))
    assert str(server.folder.parent) not in str(refused.value)
    named = search_text({**task, "examples": {**task["examples"], "folder": str(server.folder.parent)}})
    assert read_search(own, named).task["examples"]["folder"] == str(server.folder.parent)


def test_what_a_stranger_may_say_is_taken(server: Settings, tmp_path: Path) -> None:
    hub = {
        "repo_id": "alice/data",
        "revision": "main",
        "search": "a/b.jsonl",
        "test": "t.csv",
        "columns": ["question", "answer"],
    }
    choice = [
        {"question": "?", "options": ["a", "b"], "answer": 1},
        {"question": "!", "options": {"text": ["a"], "label": ["A"]}, "answer": "A"},
    ]
    for task in (
        *BUILTIN,
        {"examples": hub, "prompt": "{question}", "answer": "{answer}", "metric": "exact_match", "max_new_tokens": 32},
        {"examples": {"search": ROWS, "test": ROWS}, "name": "mine", "language": "ja", "system": "Be short."},
        {"examples": {"search": ROWS, "test": ROWS}, "chat_template": False},
        {"examples": {"search": choice}, "metric": "loglikelihood", "choices": "options"},
    ):
        search = read_search(server, search_text(task, splits={"search": 3}, economy={"racing": True}))
        require_fit_for_strangers(server, search, None)
    for whole in (search.compared(), search.within(3)):
        require_fit_for_strangers(server, whole, None)
    again = Search.from_dict(search.to_dict())
    require_fit_for_strangers(server, again, None)
    (tmp_path / "mine.csv").write_text("question,answer\n" + "".join(f"{n}?,{n}\n" for n in range(20)))
    require_task(task_of_file(tmp_path / "mine.csv", None, 32))
    require_task(task_of(None, "alice/data@main", "ja", 32))
    seen = task_of(None, "alice/data", None, 32, " photo ")
    require_task(seen)
    assert seen["image"] == "photo" and "image" not in task_of(None, "alice/data", None, 32, " ")


def test_the_pages_own_task_may_lie_on_the_server_and_no_other(server: Settings) -> None:
    own = {"name": "secret", "examples": {"folder": str(server.folder.parent), **FILES}}
    search = Search.from_dict(yaml.safe_load(search_text(own)))
    require_fit_for_strangers(server, search, own)
    for given in (None, "mgsm-ja", {**own, "name": "other"}):
        with pytest.raises(AccessError):
            require_fit_for_strangers(server, search, given)


@pytest.mark.parametrize("repo_id", [*NO_REPOSITORY, "./secret", "~/x", "/etc", "a/b+c/d"], ids=repr)
def test_a_repository_that_is_none_never_means_a_folder(server: Settings, repo_id: Any) -> None:
    where = {"repo_id": repo_id, **FILES}
    with pytest.raises(HubmergeError) as refused:
        load_task({"examples": where, "prompt": "{api_key}", "answer": "{api_key}"})
    assert SECRET not in str(refused.value)
    if repo_id not in ("./secret", "~/x", "/etc", "a/b+c/d"):
        for where in ({**FILES, "folder": repo_id}, {**FILES, "repo_id": "a/b", "revision": repo_id}):
            with pytest.raises(TaskError, match=r"must be text that names something|more than 64 bits"):
                load_task({"examples": where})


@pytest.mark.parametrize("file", ["secret.jsonl", "secret.csv"])
def test_a_template_that_names_no_field_says_its_name_and_nothing_of_the_row(server: Settings, file: str) -> None:
    choice = {"metric": "loglikelihood", "prompt": "x"}
    for more in ({"prompt": "{missing}"}, {"choices": "missing", **choice}, {"choices": ["{missing}"], **choice}):
        with pytest.raises(TaskError, match="missing") as refused:
            load_task({"examples": {"search": file}, **more})
        assert SECRET not in str(refused.value) and "api_key" not in str(refused.value)


def test_a_null_key_is_not_a_task_that_was_left_out() -> None:
    with pytest.raises(TaskError, match="repo_id"):
        task_document({"examples": {"repo_id": None, "search": "x.jsonl"}})
