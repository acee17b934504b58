"""One embedded Hub for the whole session, and tiny models to merge.

huggingface_hub reads its environment when it is imported, so the Hub starts before anything imports it.
"""

import atexit
import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from sharing import Sharing, in_order

from hubmerge.localhub import LocalHub

if TYPE_CHECKING:
    from space_server import Own, Served
    from xdist.remote import Producer

    from hubmerge.evolve.search import Search

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so, and the commands under test would not hear Ctrl-C either.
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.disable()  # until all is imported, which makes a million objects and no garbage

# No test cuts the power, and what a killed process wrote is there: waiting for the disk, twenty thousand times, is most
# of what a busy machine does. test_written.py has what is asked of it, and when.
os.fsync = lambda descriptor: None

_folder = tempfile.TemporaryDirectory(prefix="hubmerge-tests-")
atexit.register(_folder.cleanup)
_hub = LocalHub(
    Path(_folder.name) / "hub",
    users={"alice": "hf_alice", "bob": "hf_bob", "SFconvertbot": "hf_SFconvertbot"},
    organizations={
        name: ["alice"]
        for name in (
            "hubmerge-demo",
            "openai",
            "juletxara",
            "mistralai",
            "augmxnt",
            "WizardLMTeam",
            "GAIR",
            "SakanaAI",
            "stabilityai",
            "mhdang",
            "RunDiffusion",
        )
    },
)
_hub.start()
atexit.register(_hub.stop)
os.environ.update(_hub.environment("alice"))
os.environ.update(
    HF_HOME=str(Path(_folder.name) / "hf"),
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_UPDATE_CHECK="1",
    GRADIO_ANALYTICS_ENABLED="0",
    OMP_WAIT_POLICY="PASSIVE",
    TOKENIZERS_PARALLELISM="false",
    MPLBACKEND="Agg",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many documents of each kind tests/test_documents_property.py tries, and how often the rest is repeated."""
    parser.addoption(
        "--documents", type=int, help="documents of each kind from outside (default: a few seconds' worth)"
    )
    parser.addoption("--thorough", action="store_true", help="every fault twenty times, every combination of settings")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests marked `thorough`, unless they are asked for; gives many documents the time they take.

    A process that does a share of the suite puts its tests in order.
    """
    if more := config.getoption("documents"):
        for item in items:
            item.add_marker(pytest.mark.timeout(900 + more))
    if not config.getoption("thorough"):
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    if hasattr(config, "workerinput"):
        items[:] = in_order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "Sharing | None":
    """Shares whole files out between processes in an order that keeps both at work."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return Sharing(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Hides GPUs from the suite, whose exact comparisons are of one processor's arithmetic."""
    if config.option.markexpr != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_finish() -> None:
    """Takes what the imports made, a million objects, out of the garbage collector's sight, which saw nothing of it."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _sketches() -> Iterator[Callable[..., AbstractContextManager[None]]]:
    """Pictures are built, once each, but not laid out and drawn, which takes a second each.

    What it gives draws them: `with draws("svg"):`, or `with draws():` for every way to draw.
    """
    from hubmerge.evolve.report import canvas

    real = {"png": canvas.png, "svg": canvas.svg}
    built = set()

    def build(draw, width) -> None:
        if (draw, width) not in built:
            built.add((draw, width))
            draw(width)

    def png(draw, title="", width=canvas.WIDE) -> bytes:
        build(draw, width)
        return b"\x89PNG\r\n\x1a\n"

    def svg(draw, name, label, width=canvas.WIDE) -> str:
        build(draw, width)
        return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{name}" class="picture"/>'

    @contextmanager
    def draws(*ways: str) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for way in ways or real:
                patch.setattr(canvas, way, real[way])
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas, "png", png)
        patch.setattr(canvas, "svg", svg)
        yield draws


@pytest.fixture(autouse=True)
def _pictures(request: pytest.FixtureRequest, _sketches) -> Iterator[None]:
    """Draws the pictures of a test marked `pictures`, or in one way alone: `pictures("svg")`."""
    marker = request.node.get_closest_marker("pictures")
    with _sketches(*marker.args) if marker is not None else nullcontext():
        yield


@pytest.fixture(autouse=True)
def _fresh_hub() -> Iterator[None]:
    """What one test's Hub did not answer is nothing to the next."""
    yield
    if listing := sys.modules.get("hubmerge.hub.listing"):
        listing._silent_since = None


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether all is tried that can be, instead of enough to see every way at least once."""
    return bool(request.config.getoption("--thorough"))


@pytest.fixture
def call(capsys, monkeypatch) -> Callable[..., SimpleNamespace]:
    """A function that runs a command in this process: what it printed (`stdout`, `stderr`) and its `returncode`.

    A process of its own would take seconds to import torch. It is for what is about the process: signals, pipes, its
    environment, its end.
    """
    from hubmerge import cli

    def call(*arguments: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["hubmerge", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err, printed.err
        return SimpleNamespace(returncode=int(stopped.value.code or 0), stdout=printed.out, stderr=printed.err)

    return call


@pytest.fixture(scope="session")
def hub() -> LocalHub:
    """The session's embedded Hub; the environment already points at it with alice's token."""
    return _hub


@pytest.fixture(scope="session")
def public_page(hub, tmp_path_factory) -> "Iterator[Served]":
    """The page as a Space serves it to strangers; one for all tests, for its start takes ten seconds of imports."""
    from space_server import public

    with public(hub, tmp_path_factory.mktemp("public")) as page:
        yield page


@pytest.fixture(scope="session")
def own_page(hub, tmp_path_factory) -> "Iterator[Own]":
    """The page as a person runs it on their own machine; one for all tests, but for those that come after its end."""
    from space_server import Own

    own = Own(hub, tmp_path_factory.mktemp("own"))
    yield own
    own.close()


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A word-level tokenizer of 64 entries with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>"] + [str(n) for n in range(30)] + [f"w{n}" for n in range(30)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.padding_side = "left"
    tokenizer.chat_template = (
        "{% for message in messages %}{{ '<s> ' + message['content'] + ' ' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<unk> ' }}{% endif %}"
    )
    return tokenizer


@pytest.fixture(scope="session")
def tiny_llama(tiny_tokenizer) -> Callable[..., Path]:
    """A function `(folder, seed=0, dtype="float32", sibling_of=None, **config)` that saves a tiny Llama with tokenizer.

    With `sibling_of`, the weights are that folder's plus small changes drawn from `seed`, as fine-tuning makes them.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def build(
        folder: Path, seed: int = 0, dtype: str = "float32", sibling_of: Path | None = None, **overrides: object
    ) -> Path:
        torch.manual_seed(seed)
        settings: dict = {
            "vocab_size": len(tiny_tokenizer),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
            "tie_word_embeddings": True,
            "bos_token_id": tiny_tokenizer.bos_token_id,
            "eos_token_id": tiny_tokenizer.eos_token_id,
            "pad_token_id": tiny_tokenizer.pad_token_id,
            **overrides,
        }
        if sibling_of is None:
            model = LlamaForCausalLM(LlamaConfig(**settings))
        else:
            model = LlamaForCausalLM.from_pretrained(sibling_of, dtype=torch.float32)
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
        model.to(getattr(torch, dtype)).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return Path(folder)

    return build


@pytest.fixture(scope="session")
def siblings(tiny_llama, tmp_path_factory) -> dict[str, Path]:
    """Folders of a base and two models tuned from it: "base", "math", "japanese" (tied, float32, 3 layers)."""
    root = tmp_path_factory.mktemp("siblings")
    base = tiny_llama(root / "base", seed=1)
    return {
        "base": base,
        "math": tiny_llama(root / "math", seed=2, sibling_of=base),
        "japanese": tiny_llama(root / "japanese", seed=3, sibling_of=base),
    }


@pytest.fixture
def tiny_search(siblings) -> Callable[..., "Search"]:
    """A function `(**changes)` that gives a search over two siblings with a dozen questions."""
    from hubmerge.evolve.search import Search

    rows = [{"question": f"{n} w{n}", "answer": str(n)} for n in range(12)]
    document = {
        "base_model": str(siblings["base"]),
        "models": [str(siblings["math"]), str(siblings["japanese"])],
        "merge_method": "task_arithmetic",
        "genome": {"granularity": "layer", "genes": {"weight": [0, 2]}},
        "task": {"name": "tiny", "examples": {"search": rows[:4], "test": rows[4:]}, "max_new_tokens": 4},
        "searcher": {"name": "cmaes", "popsize": 4, "evaluations": 8},
    }
    return lambda **changes: Search.from_dict(document | changes)
