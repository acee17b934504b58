"""Cards that stand for themselves: their code runs for every kind of model, they cite, and they tell no place."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers.models.auto.modeling_auto as auto
import yaml
from architectures import CASES, folder_of
from hubtools import checkpoint, publish
from huggingface_hub import HfApi, ModelCard
from PIL import Image
from test_hub_card import section
from vlms import add_processor, make_whole

from hubmerge.errors import HubmergeError
from hubmerge.evaluate.table import Row
from hubmerge.evolve.result import card_rows
from hubmerge.hub import Card, open_source, render
from hubmerge.hub.auto_class import auto_class
from hubmerge.methods import METHODS
from hubmerge.methods.papers import EVOLUTION, PAPERS, PURSUIT, bibtex, key_of
from hubmerge.publish import card_of, merge, merge_to_hub, planned
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef

HEADS = {
    "CausalLM": "CAUSAL_LM",
    "MaskedLM": "MASKED_LM",
    "Seq2SeqLM": "SEQ_TO_SEQ_CAUSAL_LM",
    "SequenceClassification": "SEQUENCE_CLASSIFICATION",
    "TokenClassification": "TOKEN_CLASSIFICATION",
    "QuestionAnswering": "QUESTION_ANSWERING",
    "ImageClassification": "IMAGE_CLASSIFICATION",
    "ObjectDetection": "OBJECT_DETECTION",
    "SemanticSegmentation": "SEMANTIC_SEGMENTATION",
    "ImageTextToText": "IMAGE_TEXT_TO_TEXT",
    "MultimodalLM": "MULTIMODAL_LM",
    "SpeechSeq2Seq": "SPEECH_SEQ_2_SEQ",
    "CTC": "CTC",
    "AudioClassification": "AUDIO_CLASSIFICATION",
}
RUN = {
    "llama": ("text-generation", "text"),
    "bert-tied": ("fill-mask", "text"),
    "bert-labels": ("text-classification", "text"),
    "qwen3-labels": ("token-classification", "text"),
    "nomic_bert": ("feature-extraction", "text"),
    "t5-tied": ("text-generation", "text"),
    "vit": ("image-classification", "image"),
    "siglip": ("image-feature-extraction", "image"),
    "yolos": ("object-detection", ""),
    "wav2vec2": ("automatic-speech-recognition", "sound and text"),
    "audio-spectrogram-transformer": ("audio-classification", "spectrum"),
    "whisper": ("automatic-speech-recognition", "speech and text"),
    "moonshine": ("automatic-speech-recognition", ""),
    "llava": ("image-text-to-text", "picture"),
}


def reader(kind: str, tokenizer: Any, folder: Path) -> None:
    """What a model of this kind is published with."""
    import transformers

    if "text" in kind:
        tokenizer.save_pretrained(folder)
    if kind == "image":
        transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    if "sound" in kind:
        transformers.Wav2Vec2FeatureExtractor(sampling_rate=800).save_pretrained(folder)
        config = json.loads((folder / "preprocessor_config.json").read_text())
        processor = json.dumps({**config, "processor_class": "Wav2Vec2Processor"})
        (folder / "preprocessor_config.json").write_text(processor)
    if "speech" in kind:
        settings = {"feature_size": 8, "sampling_rate": 5120, "chunk_length": 1}
        transformers.WhisperFeatureExtractor(**settings).save_pretrained(folder)
    if kind == "spectrum":
        transformers.ASTFeatureExtractor(num_mel_bins=8, max_length=32).save_pretrained(folder)


@pytest.fixture(scope="module")
def code_of(tiny_tokenizer, tmp_path_factory) -> Callable[[str, str], str]:
    """A function that publishes a model of a kind, merged alone, and gives its card."""
    root = tmp_path_factory.mktemp("cards")

    def build(case: str, kind: str) -> str:
        if kind == "picture":
            folder = add_processor("llava", make_whole("llava", root / case, 1))
        else:
            found = case if case in CASES else f"{case}-untied"
            folder = Path(shutil.copytree(folder_of(found, 1), root / case))
            reader(kind, tiny_tokenizer, folder)
        recipe = Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": str(folder)}]})
        merge_to_hub(planned(recipe), f"alice/card-of-{case}")
        return open_source(ModelRef.parse(f"alice/card-of-{case}")).read_text("README.md") or ""

    return build


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("case", RUN)
def test_the_code_of_a_card_runs_from_the_hub(case: str, code_of, tmp_path: Path, monkeypatch, capsys) -> None:
    task, kind = RUN[case]
    text = code_of(case, kind)
    data = ModelCard(text).data
    assert (data.pipeline_tag, data.library_name) == (task, "transformers")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    code = section(text, "Use it").split("```python\n")[1].split("```")[0]
    assert f'model_id = "alice/card-of-{case}"' in code
    assert ("What is in this picture?" in code) == (kind == "picture")
    capsys.readouterr()
    exec(
        code.replace("max_new_tokens=64", "max_new_tokens=2").replace(
            "generate(**inputs)", "generate(**inputs, max_new_tokens=2)"
        ),
        {},
    )
    said = capsys.readouterr().out
    assert said and (kind == "" or "Model(" not in said), said


def test_the_auto_class_is_one_that_opens_it() -> None:
    """Of every class that transformers opens by one of the auto classes that a card names."""
    known = {f"AutoModelFor{head}": getattr(auto, f"MODEL_FOR_{name}_MAPPING_NAMES") for head, name in HEADS.items()}
    classes = {kind: {one for value in names.values() for one in _each(value)} for kind, names in known.items()}
    wrong = []
    for kind in ("MaskedLM", "SequenceClassification", "TokenClassification", "ImageClassification", "CTC", "CausalLM"):
        for name in classes[f"AutoModelFor{kind}"]:
            found = auto_class({"architectures": [name]})
            if found != "AutoModel" and name not in classes[found]:
                wrong.append((name, found))
    assert not wrong
    for name in classes["AutoModelForSeq2SeqLM"] - classes["AutoModelForSpeechSeq2Seq"]:
        found = auto_class({"architectures": [name], "is_encoder_decoder": True})
        assert found == "AutoModel" or name in classes[found], (name, found)


def _each(value: Any) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (value,)


def test_what_parents_say_that_they_are_for_is_kept_where_they_agree() -> None:
    for name, said in {
        "say-a": "translation",
        "say-b": "translation",
        "say-c": "summarization",
        "say-d": "[x]",
    }.items():
        files = checkpoint(front_matter=f"license: mit\npipeline_tag: '{said}'") if said != "[x]" else checkpoint()
        publish(f"alice/{name}", files)
    opened = [open_source(ModelRef(f"alice/say-{name}")) for name in "abcd"]

    def task(*sources: int) -> str:
        return ModelCard(render(Card("T", [opened[one] for one in sources], "a: b\n", "linear"))).data.pipeline_tag

    assert task(0, 1) == task(0, 3) == "translation"
    assert task(0, 2) == task(3) == "text-generation"


def test_every_method_is_cited() -> None:
    assert {method.paper for method in METHODS.values()} | {EVOLUTION, PURSUIT} == PAPERS.keys()
    assert len({key_of(paper) for paper in PAPERS.values()}) == len(PAPERS)
    text = bibtex([METHODS["ties"].paper, METHODS["dare_ties"].paper, METHODS["ties"].paper, "https://none.example"])
    assert re.findall(r"^@misc\{(.*),$", text, re.M) == ["yadav2023tiesmerging", "yu2023language"]
    assert text.count("{") == text.count("}") and "and others}," in text


def test_scores_name_their_dataset_at_its_commit() -> None:
    publish("alice/scored", checkpoint())
    source = open_source(ModelRef("alice/scored"))
    row = Row("evolved", 0.5, 0.4, 0.6, 10, 0.5, 1.0, None, None, [1.0], ("a",))
    for dataset, said in (
        (f"org/sums@{'a' * 40}", ("org/sums", "sums", "a" * 40)),
        (None, ("sums", "sums", None)),
    ):
        rows = card_rows([row], "T", "exact_number", "sums", dataset)
        (own,) = ModelCard(render(Card("T", [source], "a: b\n", "linear", evaluations=rows))).data.eval_results
        assert (own.dataset_type, own.dataset_name, own.dataset_revision, own.dataset_split) == (*said, "test")


def test_no_card_tells_a_place(siblings, tmp_path: Path) -> None:
    """Of every method, in a folder and for a repository: no path, no address of this machine's, one model_id."""
    places = [str(Path.home()) + "/", "/tmp/", str(next(iter(siblings.values())).parent), "recipe.yaml"]
    count = 0
    for method in METHODS:
        parameters = {"t": 0.5, "weight": 1.0, "density": 0.5}
        taken = {one.name for one in METHODS[method].parameters}
        models = [{"model": str(siblings[name])} for name in ("math", "japanese")]
        document = {
            "merge_method": method,
            "parameters": {name: value for name, value in parameters.items() if name in taken},
        }
        for given in (
            {"models": models, "base_model": str(siblings["base"])},
            {"models": models},
            {"models": models[:1], "base_model": str(siblings["base"])},
            {"models": models[:1]},
        ):
            try:
                plan = planned(Recipe.from_dict(document | given))
                plan.require()
            except HubmergeError:
                continue
            for repo_id in (None, "alice/named"):
                text = render(card_of(plan, repo_id))
                ModelCard(text).validate()
                assert not [place for place in places if place in text], text
                assert re.findall("model_id = (.*)", text) == [json.dumps(repo_id or ".")]
                assert f"{METHODS[method].paper}" in text and "## Cite" in text
                count += 1
    assert count >= 100


def test_a_merge_that_is_pushed_from_its_folder_is_called_by_its_repository(siblings, tmp_path: Path, call) -> None:
    out = tmp_path / "out"
    models = [{"model": str(siblings[name])} for name in ("base", "math")]
    merge(Recipe.from_dict({"merge_method": "linear", "models": models, "parameters": {"weight": 1}}), out)
    recipe = (out / "mergekit_config.yml").read_bytes()
    assert Recipe.from_text(recipe.decode()).merge_method == "linear" and str(tmp_path) not in recipe.decode()
    assert 'model_id = "."' in (out / "README.md").read_text()
    assert call("push", out, "alice/card-pushed").returncode == 0
    source = open_source(ModelRef.parse("alice/card-pushed"))
    text, manifest = source.read_text("README.md") or "", json.loads(source.read_text("hubmerge.json") or "")
    assert 'model_id = "alice/card-pushed"' in text and 'model_id = "."' not in text
    assert manifest["files"]["mergekit_config.yml"] == hashlib.sha256(recipe).hexdigest()
    assert manifest["files"]["README.md"] == hashlib.sha256(text.encode()).hexdigest()
    assert "hubmerge merge mergekit_config.yml --out merged" in section(text, "Make it again")
    # A card that somebody wrote stays as it is.
    (out / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    assert call("push", out, "alice/card-mine").returncode == 0
    assert (open_source(ModelRef.parse("alice/card-mine")).read_text("README.md") or "").endswith("# Mine\n")


def test_a_card_tells_limits_and_whose_tokenizer_it_has(siblings, tiny_tokenizer, tmp_path: Path) -> None:
    folders = {name: Path(shutil.copytree(siblings[name], tmp_path / name)) for name in ("base", "math")}
    for folder in folders.values():
        tiny_tokenizer.save_pretrained(folder)
    models = [{"model": str(one), "parameters": {"weight": 1}} for one in folders.values()]
    document = {"merge_method": "linear", "models": models}

    def told(**more: Any) -> str:
        return section(render(card_of(planned(Recipe.from_dict({**document, **more})))), "What it is for")

    text = told()
    assert "Nobody has measured what it does" in text
    assert "Its tokenizer and chat template are those of local folder `base`." in text
    assert "those of local folder `math`" in told(tokenizer_source=str(folders["math"]))
    said = told(chat_template="chatml")
    assert "Its tokenizer is that of local folder `base`, and its chat template what the recipe says." in said
    assert told(tokenizer_source="union") == text, "of the same tokens: the same tokenizer"


def test_parents_of_several_licences_get_an_address_with_the_push(tmp_path: Path, call) -> None:
    for name, licence in {"a": "mit", "b": "apache-2.0"}.items():
        publish(f"alice/two-{name}", checkpoint(front_matter=f"license: {licence}"))
    models = [{"model": f"alice/two-{name}"} for name in "ab"]
    merge(Recipe.from_dict({"merge_method": "linear", "models": models, "parameters": {"weight": 1}}), tmp_path / "out")
    assert call("push", tmp_path / "out", "alice/two-merged").returncode == 0
    data = HfApi().model_info("alice/two-merged").card_data
    assert (data.license, data.license_name) == ("other", "apache-2.0-and-mit")
    assert data.license_link.endswith("/alice/two-merged#licence")


def test_a_card_is_shown_before_and_written_anew_after(siblings, tmp_path: Path, call, hub) -> None:
    for name in ("base", "math"):
        files = {one.name: one.read_bytes() for one in siblings[name].iterdir()}
        publish(f"alice/anew-{name}", files | {"README.md": b"---\nlicense: mit\n---\n"})
    models = [{"model": f"alice/anew-{name}", "parameters": {"weight": 1}} for name in ("base", "math")]
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump({"merge_method": "linear", "models": models}))
    hub.clear_log()
    before = call("card", tmp_path / "ours.yaml", "--repo", "alice/anew")
    assert before.returncode == 0 and not [
        one for one in hub.log if one.path.endswith(".safetensors") and one.status == 200
    ]
    assert call("merge", tmp_path / "ours.yaml", "--push", "alice/anew").returncode == 0
    made = open_source(ModelRef.parse("alice/anew")).read_text("README.md")
    assert before.stdout == made, "what was shown is what was pushed"
    assert call("card", "alice/anew").stdout == made
    assert "hubmerge reproduce alice/anew" in (made or "")

    out = tmp_path / "out"
    assert call("merge", tmp_path / "ours.yaml", "--out", out).returncode == 0
    written = (out / "README.md").read_text()
    assert call("card", out).stdout == written
    assert call("card", out, "--repo", "alice/anew").stdout == made
    assert call("card", out, "--repo", "alice/other", "--write").returncode == 0
    assert 'model_id = "alice/other"' in (out / "README.md").read_text()
    assert call("push", out, "alice/other").returncode == 0, "the manifest knows the card that was written"
    (out / "README.md").write_text("mine")
    refused = call("card", out, "--write")
    assert (
        refused.returncode == 2
        and "is not the one that was written with it; replace it with --overwrite" in refused.stderr
    )
    assert call("card", out, "--write", "--overwrite").returncode == 0
    assert (out / "README.md").read_text() == written
    assert call("card", tmp_path / "ours.yaml", "--write").returncode == 2

    scored = (made or "").replace(
        "## Use it", "## Results\n\n| Model | Score |\n| --- | --- |\n| it | 1 |\n\n## Use it"
    )
    scored = scored.replace("\n---\n\n# ", "\nmodel-index:\n- name: it\n  results: []\n---\n\n# ", 1)
    HfApi().upload_file(path_or_fileobj=scored.encode(), path_in_repo="README.md", repo_id="alice/anew")
    assert call("card", "alice/anew").stdout == scored, "scores stay as they are told"
    assert call("card", "alice/anew", "--write").returncode == 2
    assert call("card", "alice/anew", "--write", "--overwrite").returncode == 0
