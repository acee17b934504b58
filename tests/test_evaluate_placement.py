"""Models that do not fit are asked all the same: what fits stays, the rest is read from the files that are there."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_stream_adapted import lora

from hubmerge.errors import ResourceError
from hubmerge.evaluate import placement
from hubmerge.evaluate.demand import Demand
from hubmerge.evaluate.generation import generate, stream_chat
from hubmerge.evaluate.likelihood import loglikelihoods
from hubmerge.evaluate.models import load_model
from hubmerge.evaluate.score import evaluate
from hubmerge.evaluate.spool import Spool, spool_root
from hubmerge.evaluate.task import load_task
from hubmerge.hub.source import open_source
from hubmerge.reference import ModelRef

PROMPTS = ["1 w1 2", "w5", "7 7 w7 7"]
LIMIT = 24_000_000


@pytest.fixture(scope="module")
def large(tiny_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 41 MB, in whose largest module there are 3.1 MB."""
    wide = {"hidden_size": 512, "intermediate_size": 1536, "num_attention_heads": 8, "num_key_value_heads": 8}
    return tiny_llama(tmp_path_factory.mktemp("large") / "model", seed=5, **wide)


@pytest.fixture(scope="module")
def limited(large: Path) -> Iterator[tuple[Any, Any]]:
    yield load_model(str(large), memory=LIMIT)
    gc.collect()


def test_what_does_not_fit_is_read_from_the_models_own_files(large: Path, limited: tuple[Any, Any]) -> None:
    model, tokenizer = limited
    assert list(spool_root().glob("*/*.safetensors")) == list(spool_root().glob("*/converted/*")) == []
    devices = set(model.hf_device_map.values())
    assert devices == {"cpu", "disk"}
    assert 0 < resident(model) <= LIMIT * placement.WEIGHTS
    assert placement.told(model) == "33.6 MB of the model are read from disk for every answer, which is slow."
    most = 0

    def watch(*_: object) -> None:
        nonlocal most
        most = max(most, resident(model))

    hooks = [module.register_forward_hook(watch) for module in model.modules()]
    whole = load_model(str(large))
    assert placement.told(whole[0]) is None
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=6) == generate(*whole, PROMPTS, max_new_tokens=6)
    for hook in hooks:
        hook.remove()
    assert resident(model) <= most <= LIMIT * placement.WEIGHTS

    message = [{"role": "user", "content": PROMPTS[0]}]
    ways = ((limited, LIMIT), (whole, None))
    said = ["".join(stream_chat(*pair, message, max_new_tokens=6, memory=memory)) for pair, memory in ways]
    assert said[0] == said[1]
    pairs = [("1 w1", "2 w2 w3"), ("w9", "8"), ("", "w4 w5")]
    found, right = (loglikelihoods(*pair, pairs, memory=memory) for pair, memory in ways)
    assert [one.tokens for one in found] == [one.tokens for one in right]
    assert [one.total for one in found] == pytest.approx([one.total for one in right], rel=1e-5)


def resident(model: Any) -> int:
    """Bytes of weights that are in memory now."""
    weights = {id(weight): weight.nbytes for weight in model.parameters() if weight.device.type == "cpu"}
    return sum(weights.values())


def test_a_task_is_scored_alike(large: Path, limited: tuple[Any, Any]) -> None:
    rows = [{"question": f"{n} w{n}", "answer": f"w{n} w2 {n}"} for n in range(6)]
    task = load_task({"name": "tiny", "examples": {"test": rows}, "metric": "rouge_l", "max_new_tokens": 5})
    found = evaluate(*limited, task.test, task, memory=LIMIT)
    assert found.outputs == evaluate(*load_model(str(large)), task.test, task).outputs


def test_fewer_prompts_are_asked_where_more_would_not_fit(limited: tuple[Any, Any]) -> None:
    model, _ = limited
    asked = Demand(64, 100, 28)
    free = asked.nbytes(model.config.to_dict(), torch.float32, torch.device("cpu"))
    assert asked.within(None, model) is asked
    assert asked.within(free, model).prompts == 64
    fewer = asked.within(free // 4, model)
    assert 1 <= fewer.prompts < 64 and fewer.nbytes_of(model.config, torch.float32, torch.device("cpu")) <= free // 4
    with pytest.raises(
        ResourceError, match=r"Answering one prompt of 100 tokens takes .*, and the limit leaves 1 MB; allow"
    ):
        asked.within(10**6, model)
    with pytest.raises(ResourceError, match=r"Scoring a text of 4 tokens takes .* of memory beside the model"):
        loglikelihoods(*limited, [("w1", "w2")], memory=4_000_000)


def test_a_limit_too_small_for_the_largest_module_says_the_least(large: Path) -> None:
    with pytest.raises(ResourceError, match=r"model needs 12\.6 MB of memory at least, for .*proj .* may take 9 MB"):
        load_model(str(large), memory=9_000_000)
    load_model(str(large), memory=12_700_000)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
@pytest.mark.parametrize("kind", ["a LoRA on top", "pytorch_model.bin"])
def test_weights_that_are_computed_are_written_first(
    kind: str, tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    """Of more than a merge takes at least: a model of 85 MB within 70."""
    wide = {"hidden_size": 768, "intermediate_size": 2048, "num_attention_heads": 8, "num_key_value_heads": 8}
    name = str(tiny_llama(tmp_path / "model", seed=5, **wide))
    if kind == "pytorch_model.bin":
        safe = tmp_path / "model" / "model.safetensors"
        torch.save(load_file(safe), safe.with_name(kind))
        safe.unlink()
    else:
        name += f"+{lora(Path(name), tmp_path / 'lora')[0]}"
    whole = generate(*load_model(name), PROMPTS, max_new_tokens=4)
    model, tokenizer = load_model(name, memory=70_000_000)
    assert set(model.hf_device_map.values()) == {"cpu", "disk"}
    assert list(spool_root().glob("*/written/*.safetensors"))
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=4) == whole
    with pytest.raises(ResourceError, match="of memory at least, one tensor at a time, and may take 40 MB"):
        load_model(name, memory=40_000_000)
    del model
    gc.collect()
    assert not list(spool_root().glob("*/written"))


def test_a_plan_over_several_devices_is_accelerates(large: Path) -> None:
    outline = placement.outline(open_source(ModelRef(str(large))).config, torch.float32)
    assert all(weight.device.type == "meta" for weight in outline.parameters())
    layer = sum(weight.nbytes for weight in outline.model.layers[0].parameters())
    room: dict[placement.Device, int] = {0: int(2.4 * layer), 1: int(1.4 * layer), "cpu": 5 * layer}
    devices = placement.spread(outline, room)
    places = [placement.device_of(f"model.layers.{number}.mlp.up_proj.weight", devices) for number in range(3)]
    assert set(places) <= {0, 1, "cpu"} and len(set(places)) > 1
    assert all(
        placement.device_of(name, devices) == placement.device_of(f"model.layers.{number}.mlp.up_proj.weight", devices)
        for number in range(3)
        for name, _ in outline.named_parameters()
        if name.startswith(f"model.layers.{number}.")
    ), "a layer is not divided between GPUs"
    scarce = placement.spread(outline, {0: int(1.4 * layer), "cpu": int(1.2 * layer)})
    assert list(dict.fromkeys(scarce.values()))[-1] == "disk"


def test_what_a_killed_process_left_is_removed_by_the_next() -> None:
    script = (
        "import os; from hubmerge.evaluate.spool import Spool; s = Spool(); print(s.folder, flush=True); os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
    left = Path(killed.stdout.strip())
    assert left.exists()
    mine, other = Spool(), Spool()
    assert not left.exists() and mine.folder.exists() and other.folder.exists()
    del mine
    other.close()
    assert not other.folder.exists()
