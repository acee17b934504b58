"""The command line as people meet it: what it prints, and its exit codes."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from waiting import until

from hubmerge.localhub import LocalHub


@pytest.fixture(scope="module")
def published(hub: LocalHub, siblings: dict[str, Path]) -> dict[str, str]:
    """The siblings on the Hub: name -> Hub ID; "secret" belongs to bob and is private."""
    from huggingface_hub import HfApi

    ids = {}
    for name, folder in siblings.items():
        ids[name] = f"alice/cli-{name}"
        api = HfApi(endpoint=hub.endpoint, token="hf_alice")
        api.create_repo(ids[name], exist_ok=True)
        api.upload_folder(repo_id=ids[name], folder_path=folder)
    bob = HfApi(endpoint=hub.endpoint, token="hf_bob")
    ids["secret"] = "bob/cli-secret"
    bob.create_repo(ids["secret"], private=True, exist_ok=True)
    bob.upload_folder(repo_id=ids["secret"], folder_path=siblings["base"])
    return ids


def run(*arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, for what depends on the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "hubmerge", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", **env},
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def recipe(folder: Path, ids: dict[str, str], **changes: object) -> Path:
    document = {
        "merge_method": "ties",
        "base_model": ids["base"],
        "models": [
            {"model": ids[name], "parameters": {"weight": 0.7, "density": 0.5}} for name in ("math", "japanese")
        ],
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(document))
    return path


def test_plan_shows_everything_and_moves_nothing(call, hub, published, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    before = len(hub.log)
    done = call("plan", recipe(tmp_path, published))
    assert done.returncode == 0, done.stderr
    for word in (*[published[name] for name in ("base", "math", "japanese")], "in 1 file", "peak memory"):
        assert word in done.stdout
    weights = [entry for entry in hub.log[before:] if entry.path.endswith(".safetensors") and entry.method == "GET"]
    assert weights
    assert all(entry.status == 206 for entry in weights)


@pytest.mark.parametrize("option", ["--shard-size", "--memory"])
def test_every_size_is_a_number_with_a_unit(call, siblings, tmp_path, option: str) -> None:
    local = recipe(tmp_path, {name: str(folder) for name, folder in siblings.items()})
    for text in ("2", "0.5", "none"):
        done = call("plan", local, option, text)
        said = " ".join(re.sub("[│╭╮╰╯─]", "", done.stderr).split())
        assert done.returncode == 2
        assert option in said and f"A size is a number with a unit, such as 200MB or 2GiB, got '{text}'." in said
    done = call("plan", local, option, "2GB")
    assert done.returncode == 0, done.stderr


def test_no_figure_is_cut_off_where_a_name_is_long_and_the_terminal_narrow(call, siblings, tmp_path) -> None:
    long = tmp_path / "-".join(["a-model-with-a-long-name"] * 4)
    shutil.copytree(siblings["math"], long)
    (tmp_path / "recipe.yaml").write_text(json.dumps({"merge_method": "passthrough", "models": [str(long)]}))
    wide = call("plan", tmp_path / "recipe.yaml").stdout.splitlines()[1].split()
    narrow = run("plan", tmp_path / "recipe.yaml", env={"COLUMNS": "80"}).stdout.split("passthrough")[0]
    narrow = "".join(narrow.split())
    assert len(wide) == 6
    assert all(cell in narrow for cell in wide[1:])
    assert "long-name" in narrow


def test_merge_push_chat_eval_by_hub_id(call, published, tmp_path, monkeypatch) -> None:
    path = recipe(tmp_path, published)
    assert "Merged into" in call("merge", path, "--out", tmp_path / "merged").stdout
    assert "Already merged: " in call("merge", path, "--out", tmp_path / "merged").stdout
    done = call("merge", path, "--push", "alice/cli-pushed")
    assert done.returncode == 0, done.stderr
    assert "hubmerge chat alice/cli-pushed" in done.stdout

    from huggingface_hub import HfApi, ModelCard, hf_hub_download

    assert HfApi().model_info("alice/cli-pushed").private
    assert HfApi().list_repo_commits("alice/cli-pushed")[0].title == "Merge 2 models with ties"
    here = load_file(tmp_path / "merged" / "model.safetensors")
    there = load_file(hf_hub_download("alice/cli-pushed", "model.safetensors"))
    assert here.keys() == there.keys()
    assert all((here[name] == there[name]).all() for name in here)
    card = ModelCard.load("alice/cli-pushed")
    assert set(card.data.base_model) == {published[name] for name in ("base", "math", "japanese")}

    chat = call("chat", "alice/cli-pushed", "--prompt", "1 2 w3", "--max-new-tokens", 4)
    assert chat.returncode == 0, chat.stderr
    monkeypatch.setattr(sys, "stdin", io.StringIO("1 2\n3\n\n"))
    talk = call("chat", "alice/cli-pushed", "--max-new-tokens", 4)
    assert talk.returncode == 0, talk.stderr
    assert talk.stdout.count("> ") == 3
    rows = [{"question": f"{n} w{n}", "answer": str(n)} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = tmp_path / "task.yaml"
    task.write_text("name: tiny\nexamples: {folder: ., test: rows.jsonl}\nmax_new_tokens: 4\n")
    score = call("eval", "alice/cli-pushed", "--task", task, "--show", 1)
    assert score.returncode == 0, score.stderr
    assert re.search(r"\b8\b", score.stdout)
    assert re.search(r"^  (right|wrong); expected: \d$", score.stdout, re.MULTILINE)
    assert "language" not in score.stdout  # the task asks for none
    task.write_text(f"{task.read_text()}language: ja\n")
    assert "language" in call("eval", "alice/cli-pushed", "--task", task, "--limit", 2).stdout
    (tmp_path / "score.py").write_text("def grade(outputs, examples): return [float('nan') for _ in outputs]")
    task.write_text(task.read_text().replace("language: ja", "python: score.py:grade"))
    assert "2 of 2 answers got no grade" in call("eval", "alice/cli-pushed", "--task", task, "--limit", 2).stderr


def test_push_a_folder_makes_a_public_repository_only_when_asked(call, siblings) -> None:
    from huggingface_hub import HfApi

    assert call("push", siblings["math"], "alice/cli-public", "--public").returncode == 0
    assert not HfApi().model_info("alice/cli-public").private


def test_a_merge_that_is_not_whole_is_not_pushed(call, siblings, tmp_path) -> None:
    from huggingface_hub import HfApi

    path = recipe(tmp_path, {name: str(folder) for name, folder in siblings.items()})
    assert call("merge", path, "--out", tmp_path / "merged").returncode == 0
    file = tmp_path / "merged" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    done = call("push", tmp_path / "merged", "alice/cli-unsound")
    assert done.returncode == 2 and "is not what its merge wrote: 1 tensor with other bytes" in done.stderr
    assert not HfApi().repo_exists("alice/cli-unsound")
    (tmp_path / "merged" / "hubmerge.json").unlink()  # now it is a folder that anybody may have made
    assert call("push", tmp_path / "merged", "alice/cli-unsound").returncode == 0


def broken(kind: str, folder: Path, siblings: dict[str, Path]) -> str:
    """A copy of a sibling with one thing wrong; returns its folder."""
    import shutil

    import torch

    copy = folder / kind
    shutil.copytree(siblings["math"], copy)
    weights = copy / "model.safetensors"
    if kind == "empty":
        weights.write_bytes(b"")
    elif kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        tensors = load_file(weights)
        name = next(name for name in tensors if "q_proj" in name)
        if kind == "nan":
            tensors[name][0, 0] = torch.nan
        elif kind == "shape":
            tensors[name] = tensors[name][:8].clone()
        save_file(tensors, weights, metadata={"format": "pt"})
    return str(copy)


@pytest.mark.parametrize(
    ("case", "code", "says"),
    [
        ("missing repository", 3, "alice/none"),
        ("private without token", 3, "bob/cli-secret"),
        ("unknown key", 2, "did you mean 'models'"),
        ("unknown method", 2, "merge_method"),
        ("unknown parameter", 2, "densty"),
        ("no file", 2, "no recipe file"),
        ("empty", 2, "model.safetensors"),
        ("truncated", 2, "model.safetensors"),
        ("shape", 2, "q_proj"),
        ("nan", 2, "NaN"),
        ("hub down", 3, "cannot be reached"),
    ],
)
def test_bad_input_gets_one_sentence_and_its_exit_code(case, code, says, call, published, siblings, tmp_path) -> None:
    env: dict[str, str] = {}
    path = recipe(tmp_path, published)
    if case == "missing repository":
        path = recipe(tmp_path, {**published, "math": "alice/none"})
    elif case == "private without token":
        path = recipe(tmp_path, {**published, "math": published["secret"]})
        env = {"HF_TOKEN": "", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    elif case == "unknown key":
        path = recipe(tmp_path, published, modles=[])
    elif case == "unknown method":
        path = recipe(tmp_path, published, merge_method="tie")
    elif case == "unknown parameter":
        path = recipe(tmp_path, published, parameters={"densty": 0.4})
    elif case == "no file":
        path = tmp_path / "none.yaml"
    elif case == "hub down":
        env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "nothing-cached")}
    else:
        path = recipe(tmp_path, {**published, "math": broken(case, tmp_path, siblings)})
    out = tmp_path / "out"
    done = run("merge", path, "--out", out, env=env) if env else call("merge", path, "--out", out, "--strict")
    assert done.returncode == code, done.stdout + done.stderr
    message = done.stdout + done.stderr
    assert says in message
    assert says not in done.stdout, "standard error says it, once"
    assert not (out / "config.json").exists()
    assert not list(out.glob("*.safetensors"))
    assert not list(out.glob("*.index.json"))


def test_threads_and_device(call, siblings, tmp_path) -> None:
    path = recipe(tmp_path, {name: str(folder) for name, folder in siblings.items()}, merge_method="dare_ties")
    for threads in (1, 2):
        out = tmp_path / str(threads)
        assert call("merge", path, "--out", out, "--threads", threads, "--device", "cpu").returncode == 0
    weights = [(tmp_path / threads / "model.safetensors").read_bytes() for threads in ("1", "2")]
    assert weights[0] == weights[1]
    done = call("merge", path, "--out", tmp_path / "warp", "--device", "warp")
    assert done.returncode == 2
    assert "There is no device 'warp' on this machine" in done.stdout + done.stderr
    assert not (tmp_path / "warp").exists()
    plan = call("plan", path, "--threads", 3)
    assert "computing" in plan.stdout
    assert "on 3 cores" in " ".join(plan.stdout.split())


# Ctrl-C may come between `open` and `with` in whatever is running: that file is closed when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_ends_a_search_with_130_and_it_can_be_resumed(call, published, tmp_path, monkeypatch) -> None:
    rows = [{"question": f"{n} w{n % 30}", "answer": str(n)} for n in range(12)]
    search = {
        "base_model": published["base"],
        "models": [published["math"], published["japanese"]],
        "merge_method": "task_arithmetic",
        "genome": {"granularity": "layer", "genes": {"weight": [0, 2]}},
        "task": {"name": "tiny", "examples": {"search": rows[:4], "test": rows[4:]}, "max_new_tokens": 8},
        "searcher": {"name": "cmaes", "popsize": 4, "evaluations": 400},
    }
    (tmp_path / "search.yaml").write_text(json.dumps(search))
    monkeypatch.chdir(tmp_path)
    journal, over = tmp_path / "run" / "journal.jsonl", threading.Event()

    def interrupt() -> None:
        until(lambda: over.is_set() or (journal.exists() and journal.read_bytes().count(b"\n") > 4), "no journal")
        if not over.is_set():
            signal.raise_signal(signal.SIGINT)

    before = set(threading.enumerate())
    with ThreadPoolExecutor(1) as pool:
        interrupted = pool.submit(interrupt)
        try:
            done = call("evolve", "search.yaml", "--out", "run")
        finally:
            over.set()
        interrupted.result()
    assert done.returncode == 130, done.stderr
    assert "Interrupted; go on with: hubmerge evolve search.yaml --out run --resume\n" in done.stderr
    # Nothing goes on that the end of the process would wait for.
    assert all(thread.daemon for thread in set(threading.enumerate()) - before)
    assert not (tmp_path / "run" / "results.json").exists()
    assert not (tmp_path / "run" / "model").exists()
    kept = journal.read_bytes().splitlines()
    assert 4 < len(kept) < 400
    assert all(json.loads(line) for line in kept)


def test_usage_errors_are_two(call, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    told = call("hub", "--root", tmp_path / "loop" / "hub", "--user", "alice:hf_a")
    assert (told.returncode, "cannot be made a folder" in told.stderr) == (2, True)
    (tmp_path / "file").touch()
    for place, says in (
        ("", "it is empty"),
        (tmp_path / "file", "exists"),
        (tmp_path / "file" / "x", "exists"),
    ):
        for words in (["zoo", "train"], ["zoo", "bench"], ["evolve", "search.yaml"], ["merge", "recipe.yaml"]):
            told = call(*words, "--out", place)
            assert told.returncode == 2 and says in told.stderr, (words, place, told.stderr)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "loop"]
    assert call("zoo", "train", "--out", tmp_path / "zoo", "--seed", -1).returncode == 2
    told = call("zoo", "bench", "--public", "--out", tmp_path / "bench")
    assert (told.returncode, "--public goes with --push" in told.stderr) == (2, True)
    assert call("merge").returncode == 2
    assert call("nonsense").returncode == 2
    assert call("hub", "--user", "alice").returncode == 2
    alone = call("hub", "--vlm", "--root", tmp_path / "none")
    assert alone.returncode == 2 and "--demo --vlm publishes those that see" in alone.stderr


def test_a_shell_completes_the_name_of_a_task(call, tmp_path: Path, monkeypatch) -> None:
    for name in ("mine.yaml", "mixed.yml", "mine.jsonl", "[x].yaml"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_HUBMERGE_COMPLETE", "complete_bash")
    for begun, said in (("m", "mgsm-ja mine.yaml mixed.yml more/"), ("ja-w", "ja-word-problems"), ("[", "[x].yaml")):
        words = f"hubmerge eval org/name --task {begun}"
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", "4")
        assert call().stdout.split() == said.split()


def test_version_and_both_names(call) -> None:
    assert call("--version").stdout.startswith("hubmerge ")
    program = Path(sys.executable).with_name("hf-merge")
    assert subprocess.run([program, "--version"], capture_output=True, check=True).stdout.startswith(b"hubmerge ")


def test_tokens_are_never_shown(call, published, tmp_path) -> None:
    done = call("plan", recipe(tmp_path, {**published, "math": "alice/none"}), "--token", "hf_bob_wrong_token")
    assert done.returncode == 3
    assert "hf_bob_wrong" not in done.stdout + done.stderr
