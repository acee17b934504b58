"""Models measured on texts, layer by layer: as the whole model run by torch says."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import CASES, folder_of
from calibrationtools import measured_in, read
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel

from hubmerge.calibration.needs import naming, statistics_of
from hubmerge.calibration.stack import Stack
from hubmerge.calibration.sweep import Sweep
from hubmerge.errors import HubmergeError, SourceError
from hubmerge.hub.source import open_source
from hubmerge.progress import silent
from hubmerge.recipe import Calibration
from hubmerge.stream.statistics import RECORD, Statistics, Texts


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A place of this test's own for what is measured."""
    return measured_in(tmp_path, monkeypatch)


LENGTHS = ((9, 1), (5, 3), (9, 2), (12, 1))


DRAWN = torch.Generator().manual_seed(0)


ROWS = [(torch.randint(3, 64, (count,), generator=DRAWN).tolist(), start) for count, start in LENGTHS]


BY_TEXT = Calibration(file="x", labels="text")


def whole(model: Any, kind: str) -> dict[str, torch.Tensor]:
    """The same statistics of a whole model in memory, by what torch says of it."""
    found: dict[str, torch.Tensor] = {}

    def add(name: str, value: torch.Tensor) -> None:
        found[name] = found.get(name, torch.zeros_like(value)) + value

    def watch(name: str) -> Callable[..., None]:
        def seen(_: nn.Module, given: tuple[torch.Tensor]) -> None:
            inputs = given[0].detach().flatten(0, -2)
            add(f"{name}.weight", inputs.T @ inputs / sum(len(ids) for ids, _ in ROWS))

        return seen

    linear = [(name, one) for name, one in model.named_modules() if isinstance(one, nn.Linear)]
    handles = [one.register_forward_pre_hook(watch(name)) for name, one in linear if kind == "gram"]
    for ids, start in ROWS:
        said = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        sum(said[place - 1, ids[place]] for place in range(start, len(ids))).backward()
        for name, weight in model.named_parameters() if kind == "fisher" else ():
            add(name, weight.grad**2 / len(ROWS))
        model.zero_grad()
    for handle in handles:
        handle.remove()
    return found


def sweep(folder: Path, model: Any, kind: str, calibration: Calibration = BY_TEXT) -> Statistics:
    source = open_source(str(folder))
    texts = Texts("x", None, len(ROWS), sum(len(ids) for ids, _ in ROWS))
    found = statistics_of(source, kind, calibration, ROWS, texts)
    found.folder.mkdir(parents=True)
    Sweep(Stack(model, source.name), found, ROWS, calibration, naming(source.tensors), silent).run()
    return found


FAMILIES = (
    *("llama-tied", "llama-untied", "llama-other", "mistral-untied", "qwen3-tied", "gemma3-tied", "phi-untied"),
    *("gpt_neox-untied", "falcon-tied", "bloom-tied", "opt-untied", "mamba-untied", "mixtral-untied", "cohere-tied"),
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["gram", "fisher"])
@pytest.mark.parametrize("case", FAMILIES)
def test_a_layer_at_a_time_measures_what_the_whole_model_does(case: str, kind: str, home: Path) -> None:
    architecture, _ = CASES[case]
    folder = folder_of(case, 0)
    model, _ = architecture.load(folder)
    found = sweep(folder, model, kind)
    stored = naming(open_source(str(folder)).tensors)
    wanted = whole(model, kind)
    compared = 0
    for label, value in wanted.items():
        name = stored(label) or label
        if name in found.shapes:
            torch.testing.assert_close(read(found, name), value, rtol=1e-4, atol=1e-6 * float(value.abs().max()))
            compared += 1
    assert compared >= (10 if kind == "gram" else 20)
    # What goes from layer to layer is gone, what stays is named in the record.
    assert {path.name for path in found.folder.iterdir()} == {RECORD, *found._record["files"]}
    assert len(found._record["files"]) == len(Stack(model, "x").layers) + 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("case", "kind", "said"),
    [
        ("gpt2-tied", "gram", "the other way round, as GPT-2 does"),
        ("t5-tied", "fisher", "no language model of layers one after another"),
        ("vit", "gram", "no language model of layers one after another"),
    ],
)
def test_models_of_other_kinds_are_refused(case: str, kind: str, said: str) -> None:
    with pytest.raises(HubmergeError, match=said):
        statistics_of(open_source(str(folder_of(case, 0))), kind, BY_TEXT, ROWS, Texts("x", None, 1, 1))


def test_gpt2_is_measured_by_fisher() -> None:
    model, _ = CASES["gpt2-tied"][0].load(folder_of("gpt2-tied", 0))
    found = sweep(folder_of("gpt2-tied", 0), model, "fisher")
    name = "transformer.h.1.mlp.c_fc.weight"
    torch.testing.assert_close(read(found, name), whole(model, "fisher")[name], rtol=1e-4, atol=1e-8)


def test_the_models_own_labels_are_drawn_by_the_seed() -> None:
    model, _ = CASES["llama-untied"][0].load(folder := folder_of("llama-untied", 0))
    own = [Calibration(file="x", seed=seed) for seed in (0, 1)]
    texts = read(sweep(folder, model, "fisher"), "lm_head.weight")
    first, second = (read(sweep(folder, model, "fisher", one), "lm_head.weight") for one in own)
    assert not torch.equal(first, second)
    assert not torch.equal(first, texts)


@pytest.mark.parametrize("kind", ["gram", "fisher"])
def test_a_model_without_its_head_is_refused(kind: str, tmp_path) -> None:
    folder = shutil.copytree(folder_of("llama-untied", 0), tmp_path / "headless")
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SourceError, match=r"headless has no lm_head.weight, and says no tokens without"):
        statistics_of(open_source(str(folder)), kind, BY_TEXT, ROWS, Texts("x", None, 1, 1))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=64, **sizes)).save_pretrained(tmp_path / "bert")
    with pytest.raises(SourceError, match=r"bert has no cls\.predictions\..*, and says no tokens without"):
        statistics_of(open_source(str(tmp_path / "bert")), kind, BY_TEXT, ROWS, Texts("x", None, 1, 1))
