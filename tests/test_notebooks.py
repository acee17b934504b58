"""The notebooks run from their first cell to the last, at toy size: only the cell with the names is another."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hubtools import publish
from huggingface_hub import HfApi
from pipelines import save
from vlms import make_plain, make_whole

from hubmerge.reference import ModelRef
from hubmerge.stream.verify import verify

FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"
ROWS = [{"question": f"{n} w{n}", "answer": str(n)} for n in range(12)]
TASK = {"name": "tiny", "examples": {"search": ROWS[:4], "test": ROWS[4:]}, "max_new_tokens": 4}


def cells(name: str, kind: str = "code") -> list[tuple[str, list[str]]]:
    """The cells of a notebook, each with its tags."""
    document = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert document["nbformat"] == 4 and document["metadata"]["kernelspec"]["name"] == "python3"
    found = [cell for cell in document["cells"] if cell["cell_type"] == kind]
    assert all(not cell.get("outputs") for cell in found), "outputs of somebody's run"
    return [("".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in found]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """A function that runs a notebook in an empty folder, with other values of its parameters; what its names are."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, **toy: Any) -> dict[str, Any]:
        names: dict[str, Any] = {}
        for source, tags in cells(name):
            if "install" in tags:
                continue
            exec(compile(source, f"{name}.ipynb", "exec"), names)
            if "parameters" in tags:
                assert set(toy) <= set(names), "a parameter that the notebook does not have"
                names.update(toy)
        return names

    return run


def published(folder: Path, name: str) -> str:
    HfApi().create_repo(f"alice/nb-{name}", exist_ok=True)
    HfApi().upload_folder(repo_id=f"alice/nb-{name}", folder_path=folder)
    return f"alice/nb-{name}"


def test_a_first_merge(run, siblings: dict[str, Path]) -> None:
    base, math, japanese = (published(siblings[name], name) for name in ("base", "math", "japanese"))
    names = run(
        "first-merge", BASE=base, MODELS={math: 0.7, japanese: 0.5}, TASK=TASK, EXAMPLES=6, PUSH="alice/nb-pushed"
    )
    assert [row.n for row in names["scores"]] == [6, 6, 6]
    verify(ModelRef("alice/nb-pushed"), recompute=True).require()


def test_evollm(run, siblings: dict[str, Path]) -> None:
    base, *models = (published(siblings[name], name) for name in ("base", "math", "japanese"))
    names = run("evollm", BASE=base, MODELS=models, TASK=TASK, EVALUATIONS=4, PATHS=4, SPLITS={})
    assert names["result"].rows[-1].n == len(TASK["examples"]["test"])
    assert Path("evollm/model/model.safetensors").is_file()


def test_evovlm(run, tmp_path_factory) -> None:
    root = tmp_path_factory.mktemp("vlm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folders = {"sees": make_whole("llava", root / "sees", 1)}
        folders |= {name: make_plain("llava", root / name, seed) for name, seed in (("base", 2), ("speaks", 3))}
    for name, folder in folders.items():
        publish(f"alice/nb-{name}", {path.name: path.read_bytes() for path in folder.iterdir()})
    names = run("evovlm", SEES="alice/nb-sees", SPEAKS="alice/nb-speaks", BASE="alice/nb-base")
    assert names["config"]["architectures"] == ["LlavaForConditionalGeneration"]
    verify(ModelRef("./evovlm"), recompute=True).require()


def test_evosdxl(run, tmp_path_factory) -> None:
    pytest.importorskip("diffusers", reason="needs Python 3.11")
    root = tmp_path_factory.mktemp("sdxl")
    for seed, name in enumerate("abc"):
        published(save("sdxl", root / name, seed), f"sdxl-{name}")
    unets = {"alice/nb-sdxl-a": (0.4, 0.6), "alice/nb-sdxl-b": (0.3, 0.1), "alice/nb-sdxl-c/unet": (0.3, 0.3)}
    run("evosdxl", BASE="alice/nb-sdxl-a", UNETS=unets, SPEAKS="alice/nb-sdxl-b", DTYPE="float32")
    verify(ModelRef("./evosdxl"), recompute=True).require()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_they_say_stands_for_itself(path: Path) -> None:
    """Every notebook begins with what it does, installs what it needs, and is one of those that are run here."""
    assert f'run("{path.stem}"' in Path(__file__).read_text().replace('run(\n        "', 'run("')
    assert cells(path.stem, "markdown")[0][0].startswith("# ")
    (install, tags), *_ = cells(path.stem)
    assert install.startswith("%pip install -q 'hubmerge[") and tags == ["install"]
    assert "hf_" not in path.read_text(encoding="utf-8").replace("hf_hub", "")
