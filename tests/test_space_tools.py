"""The Tools tab: what a visitor may ask for, what each job makes, publishes and offers to fetch."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ggufmodels
import pytest
import torch
import yaml
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from starlette.applications import Starlette
from starlette.testclient import TestClient
from waiting import until

from hubmerge.errors import AccessError, HubmergeError, NotFoundError, ResourceError
from hubmerge.publish import of_private
from hubmerge.reference import ModelRef
from hubmerge.stream.verify import verify
from space.downloads import add_downloads, downloads
from space.forms import tools as forms
from space.forms.tools import Asked, ToolForm, suggested_mixture
from space.limits import Limits
from space.settings import Settings
from space.state import PRODUCT, made_here, products
from space.tabs.merge import submit_merge
from space.tabs.publish import card_text, submit_publish
from space.tabs.tools import plan_tool, submit_tool
from space.visitors.guard import require_types
from space.work.jobs import Jobs
from space.work.runners import runners
from space.work.tools import TOOLS

BASE, TUNED, OTHER = (f"alice/tools-{name}" for name in ("base", "tuned", "other"))
MIXTURE: dict[str, Any] = {
    "base_model": BASE,
    "gate_mode": "random",
    "experts": [{"source_model": BASE}, {"source_model": TUNED}],
}


@pytest.fixture(scope="module")
def published(hub, tmp_path_factory) -> None:
    """A model, one tuned from it by changes of rank two, and one with other tokens."""
    root, api = tmp_path_factory.mktemp("tools"), HfApi()
    folder, _ = ggufmodels.build(root / "base", "llama", ggufmodels.bytewise())
    ggufmodels.build(root / "other", "llama", ggufmodels.pieces())
    weights = load_file(folder / "model.safetensors")
    for repo_id, name in ((BASE, "base"), (TUNED, "base"), (OTHER, "other")):
        api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(folder_path=root / name, repo_id=repo_id)
    generator = torch.Generator().manual_seed(3)
    for name, weight in weights.items():
        if weight.dim() == 2 and name.endswith("_proj.weight"):
            left, right = (
                torch.randn(*shape, generator=generator) for shape in ((len(weight), 2), (2, weight.shape[1]))
            )
            weights[name] = weight + 0.1 * (left @ right).to(weight.dtype)
    save_file(weights, root / "tuned.safetensors", {"format": "pt"})
    api.upload_file(path_or_fileobj=root / "tuned.safetensors", path_in_repo="model.safetensors", repo_id=TUNED)


class Desk:
    """A page's jobs, as its tabs have them."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(folder)
        self.jobs = Jobs(folder / "jobs", runners(Limits()))
        self.page: Any = SimpleNamespace(settings=self.settings, jobs=self.jobs)

    def done(self, job: Any) -> Any:
        until(lambda: not self.jobs.get("me", job.id).active, lambda: self.jobs.get("me", job.id))
        ended = self.jobs.get("me", job.id)
        assert ended.status == "done", ended
        return ended

    def publish(self, job: Any, repo_id: str) -> Path:
        """What lies on the Hub afterwards."""
        self.done(submit_publish(self.page, "me", PRODUCT + job.id, repo_id, True, "hf_alice"))
        return Path(HfApi().snapshot_download(repo_id))


@pytest.fixture
def desk(published, tmp_path: Path):
    made = Desk(tmp_path)
    yield made
    made.jobs.close()
    assert made.jobs.wait(60)


def asked(kind: str, settings: Settings) -> Asked:
    form = ToolForm(kind, TUNED, OTHER if kind == "transplant" else BASE, 2, None, "Q8_0", json.dumps(MIXTURE))
    return form.asked(settings)


SHOWN = {
    "extract": ("at most", "Ready"),
    "moe": (TUNED.split("/")[1], "Ready"),
    "transplant": (OTHER.split("/")[1], "Ready"),
    "gguf": ("Q8_0", "Ready"),
}


@pytest.mark.parametrize("kind", TOOLS)
def test_each_tool_plans_makes_and_publishes(kind: str, desk: Desk) -> None:
    wanted = asked(kind, desk.settings)
    told = plan_tool(desk.page, wanted, None)
    assert all(word in told for word in SHOWN[kind]), told
    job = desk.done(submit_tool(desk.page, "me", wanted, None))
    folder = Path(job.result["folder"])
    assert desk.settings.folder in folder.parents and "/" not in job.result["summary"]
    label = f"Made: {wanted.title}"
    assert products(desk.jobs, "me") == [(label, PRODUCT + job.id)]
    assert products(desk.jobs, "me", answering=True) == (
        [] if kind in ("extract", "gguf") else [(label, PRODUCT + job.id)]
    )
    assert card_text(desk.page, "me", PRODUCT + job.id).startswith("# ")
    repo_id = f"alice/made-{kind}"
    there = desk.publish(job, repo_id)
    card = (there / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert f"# made-{kind}" in card and TUNED in card and str(desk.settings.folder) not in card
    if kind == "extract":
        assert front["base_model"] == BASE and json.loads((there / "adapter_config.json").read_text())["r"] == 2
        assert f'"{repo_id}"' in card and "hold 100.0% of what changed" in job.result["summary"]
        assert {file.name for file in downloads(desk.page, job)} == {"adapter_config.json", "adapter_model.safetensors"}
    elif kind == "gguf":
        assert [path.name for path in there.glob("*.gguf")] == ["tools-tuned-Q8_0.gguf"]
    else:
        kinds = {"moe": "mixtral", "transplant": "llama"}
        assert json.loads((there / "config.json").read_text())["model_type"] == kinds[kind]
    if kind != "gguf":
        assert verify(ModelRef(str(there))).remark is None, "the manifest knows the card that was published"


def test_tools_take_what_was_made_here(desk: Desk) -> None:
    recipe = f"merge_method: linear\nmodels: [{{model: {BASE}}}, {{model: {TUNED}}}]\nparameters: {{weight: 1.0}}\n"
    merged = desk.done(submit_merge(desk.page, "me", recipe, None))
    value, title = PRODUCT + merged.id, "linear of tools-base + tools-tuned"
    made = made_here(desk.jobs, "me", value)
    assert made_here(desk.jobs, "me", BASE) == BASE and made_here(desk.jobs, "me", None) is None
    with pytest.raises(NotFoundError):
        made_here(desk.jobs, "somebody else", value)
    form = ToolForm("gguf", value, None, 2, None, "Q8_0", "")
    file = desk.done(submit_tool(desk.page, "me", form.asked(desk.settings, partial(made_here, desk.jobs, "me")), None))
    assert file.title == f"Q8_0 of {title}"
    with pytest.raises(NotFoundError, match="no whole model"):
        made_here(desk.jobs, "me", PRODUCT + file.id)
    there = desk.publish(file, "alice/made-of-made")
    assert (there / "linear-tools-base-tools-tuned-Q8_0.gguf").is_file()
    lora = desk.done(submit_tool(desk.page, "me", forms.extract(desk.settings, made, BASE, 2, None), None))
    assert lora.title == f"LoRA of {title}" and "hold 100.0%" in lora.result["summary"]
    cards = [(there / "README.md").read_text(), (desk.publish(lora, "alice/made-lora") / "README.md").read_text()]
    for card in cards:
        assert "linear-tools-base-tools-tuned" in card and str(desk.settings.folder) not in card, card
    for job in (file, lora):
        told = {name: value for name, value in job.result.items() if name != "folder"}
        assert str(desk.settings.folder) not in json.dumps(told)
    # On a page for everybody too, where folders that a stranger names are refused.
    space = replace(desk.settings, on_space=True)
    assert forms.gguf(space, made, "Q8_0").title == file.title
    with pytest.raises(AccessError, match="folder of this server"):
        forms.gguf(space, str(made.folder), "Q8_0")  # type: ignore[union-attr]


def test_files_are_fetched_by_an_address_that_only_their_owner_is_told(desk: Desk) -> None:
    job = desk.done(submit_tool(desk.page, "me", asked("gguf", desk.settings), None))
    (file,) = downloads(desk.page, job)
    app = Starlette()
    add_downloads(desk.page, app)
    client = TestClient(app)
    made = Path(job.result["folder"]) / file.name
    answer = client.get(file.url)
    assert answer.content == made.read_bytes() and file.nbytes == len(answer.content)
    assert file.name in answer.headers["content-disposition"]
    part = client.get(file.url, headers={"range": "bytes=4-7"})
    assert part.status_code == 206 and part.content == made.read_bytes()[4:8]
    place, _, name = file.url.rpartition("/")
    ticket = place.rpartition("/")[2]
    wrong = [
        f"download/{job.id}/{'0' * len(ticket)}/{name}",
        f"download/{job.id}/\u00e9/{name}",
        f"download/{'0' * 16}/{ticket}/{name}",
        *(f"{place}/{other}" for other in ("README.md", "..%2f..%2fjob.json", "%2e%2e%2fjob.json", "x")),
    ]
    for address in wrong:
        refused = client.get(address)
        assert refused.status_code == 404 and str(desk.settings.folder) not in refused.text, address
    desk.jobs.remove("me", job.id)
    assert client.get(file.url).status_code == 404


def test_a_lora_is_published_without_being_factored_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job = desk.done(submit_tool(desk.page, "me", asked("extract", desk.settings), None))
    kept = list((Path(job.result["folder"]).parent / "kept").rglob("*.safetensors"))
    assert kept and max(path.stat().st_size for path in kept) < 500  # what is known of each, and no factors

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it is factored already")

    monkeypatch.setattr("hubmerge.extract.factoring.low_rank", never)
    assert "holds 100.0%" in (desk.publish(job, "alice/made-again") / "README.md").read_text()


@pytest.mark.parametrize(
    ("limits", "said"), [(Limits(model_gb=1e-6), "takes models"), (Limits(disk_gb=1e-6), "of disk")]
)
def test_what_is_too_large_is_refused_before_the_work(limits: Limits, said: str, published, tmp_path: Path) -> None:
    page: Any = SimpleNamespace(settings=Settings(tmp_path, limits=limits))
    for kind in ("extract", "gguf"):
        with pytest.raises(ResourceError, match=said):
            plan_tool(page, asked(kind, page.settings), None)
    for kind in ("moe", "transplant"):
        told = plan_tool(page, asked(kind, page.settings), None)
        assert said in told and "Ready" not in told


FOLDER = "/etc"
STRANGE: list[dict[str, Any]] = [
    {**MIXTURE, "base_model": FOLDER},
    {**MIXTURE, "experts": [{"source_model": BASE}, {"source_model": "./here"}]},
    {**MIXTURE, "shared_experts": [{"source_model": "~/x"}]},
    {**MIXTURE, "experts": [{"source_model": BASE, "positive_prompts": [{"file": "/etc/passwd"}]}] * 2},
    {**MIXTURE, "experts": [{"source_model": BASE}] * 65},
    {**MIXTURE, "experts": [{"source_model": BASE, "positive_prompts": ["x"] * 101}] * 2},
    {**MIXTURE, "experts": [{"source_model": BASE, "positive_prompts": ["x" * 20_001]}] * 2},
    {**MIXTURE, "output": FOLDER},
    {**MIXTURE, "experts_per_token": 10**9},
]


def test_a_stranger_names_models_of_the_hub_alone(tmp_path: Path) -> None:
    space, own = Settings(tmp_path, on_space=True), Settings(tmp_path)
    for document in STRANGE:
        with pytest.raises(AccessError) as refused:
            forms.mixture(space, json.dumps(document))
        assert "passwd" not in str(refused.value)
    for place in (FOLDER, "./here", f"{BASE}+{FOLDER}"):
        for ask in (
            lambda s, place=place: forms.extract(s, place, BASE, 2, None),
            lambda s, place=place: forms.extract(s, TUNED, place, 2, None),
            lambda s, place=place: forms.transplant(s, place, BASE),
            lambda s, place=place: forms.transplant(s, TUNED, place),
            lambda s, place=place: forms.gguf(s, place, "Q8_0"),
        ):
            with pytest.raises(AccessError, match="folder of this server"):
                ask(space)
            assert FOLDER not in place or ask(own)
    assert forms.mixture(space, json.dumps(MIXTURE)).title == "experts of tools-base + tools-tuned"


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (("extract", "", BASE, 2, None, "Q8_0", ""), "Name the model, as org/name"),
        (("extract", TUNED, None, 2, None, "Q8_0", ""), "Name the base that it was tuned from"),
        (("extract", "stage:x", BASE, 2, None, "Q8_0", ""), "no model yet"),
        *(
            (("extract", TUNED, BASE, n, None, "Q8_0", ""), "^rank must be a whole number")
            for n in (1.5, -1, 1e9, 1e299)
        ),
        *((("extract", TUNED, BASE, 2, n, "Q8_0", ""), "^energy must be a share above 0") for n in (-1, 5, 1e299)),
        (("extract", TUNED, BASE, 0, 0, "Q8_0", ""), "how near the LoRA is to come"),
        (("transplant", TUNED, "", 2, None, "Q8_0", ""), "whose tokens it is to have"),
        (("gguf", TUNED, "", 2, None, "Q4_K_M", ""), "llama-quantize"),
        (("moe", TUNED, "", 2, None, "Q8_0", "a: ["), "mixture"),
        (("moe", TUNED, "", 2, None, "Q8_0", json.dumps({**MIXTURE, "gate_mode": "hidden"})), "positive_prompts"),
        (("else", TUNED, BASE, 2, None, "Q8_0", ""), "Choose what to make"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(form: tuple[Any, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(HubmergeError, match=said):
        ToolForm(*form).asked(Settings(tmp_path))


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, 10**30, "a whole number, and a number of 31 digits came"),
        (int, 1.5, "a whole number, and 1.5 came"),
        (float, 1e308, "a number, and 1e.308 came"),
        (float, float("nan"), "a number, and nan came"),
        (str, 7, "text, and 7 came"),
        (str, ["a"], "text, and list came"),
    ],
)
def test_what_a_program_sends_is_told_as_it_is(kind: type, value: Any, said: str) -> None:
    with pytest.raises(HubmergeError, match=f"^`rank` must be {said}.$"):
        require_types({"rank": kind}, [value])


def test_a_public_push_tells_of_private_models_before(desk: Desk, tmp_path: Path) -> None:
    api, private = HfApi(), "alice/tools-private"
    api.create_repo(private, private=True, exist_ok=True)
    api.upload_folder(folder_path=api.snapshot_download(TUNED), repo_id=private)
    for wanted in (forms.transplant(desk.settings, private, OTHER), forms.gguf(desk.settings, private, "Q8_0")):
        value = PRODUCT + desk.done(submit_tool(desk.page, "me", wanted, "hf_alice")).id
        told = card_text(desk.page, "me", value, public=True, token="hf_alice")
        assert told.startswith(f"> **Warning:** {private} is private, and this push is public")
        assert "Warning" not in card_text(desk.page, "me", value, token="hf_alice")
        public = f"alice/tools-told-{wanted.kind}", False, "hf_alice", False
        with pytest.raises(AssertionError, match="tick Name private models"):
            desk.done(submit_publish(desk.page, "me", value, *public))
        desk.done(submit_publish(desk.page, "me", value, *public, True))
        assert not api.model_info(public[0]).private
    assert of_private([ModelRef(BASE), ModelRef("alice/nothing"), ModelRef(str(tmp_path))], "hf_alice") is None


def test_gates_that_run_a_model_are_not_made_on_zero_gpu(published, tmp_path: Path) -> None:
    experts = [{"source_model": name, "positive_prompts": [name]} for name in (BASE, TUNED)]
    wanted = forms.mixture(Settings(tmp_path), json.dumps({"base_model": BASE, "experts": experts}))
    jobs = Jobs(tmp_path / "jobs", runners(Limits(), gpu=object()))  # type: ignore[arg-type]
    job = jobs.submit("me", wanted.kind, wanted.title, {"document": wanted.document})
    until(lambda: not jobs.get("me", job.id).active, lambda: jobs.get("me", job.id))
    assert "a page on ZeroGPU does not do" in jobs.get("me", job.id).error
    jobs.close()


def test_the_mixture_that_is_suggested_is_one() -> None:
    assert suggested_mixture([BASE], BASE) == ""
    made = forms.mixture(Settings(Path()), suggested_mixture([TUNED, OTHER], BASE))
    assert made.document["base_model"] == BASE
    assert [expert["positive_prompts"] for expert in made.document["experts"]] == [["tools tuned"], ["tools other"]]
