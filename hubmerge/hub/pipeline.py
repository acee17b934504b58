"""Pipelines of diffusers: checkpoints in folders of their own, and model_index.json, which says what each of them is.

>>> text = '{"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"], "image_encoder": [null, null]}'
>>> config, parts = parse_model_index(text, "org/name")
>>> parts["vae"].holds_weights, list(parts)
(True, ['vae'])
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..documents import parse_object
from ..errors import SourceError
from .checkpoint import CONFIG, SAFE, TORCH, weight_files
from .listing import Listing

MODEL_INDEX = "model_index.json"
_CLASS = re.compile(r"[A-Za-z_][\w.]{0,99}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
# What of a pipeline has settings and vocabularies, and no weights.
_WEIGHTLESS = re.compile(r"Tokenizer|Processor|Extractor|Scheduler")
# What the files of pipelines in one begin names with, and what opens each; the first that fits.
_ONE_FILE = {
    "cap_pad_token": "ZImageTransformer2DModel",
    "joint_blocks": "SD3Transformer2DModel",
    "double_blocks": "FluxTransformer2DModel",
    "conditioner": "StableDiffusionXLPipeline",
    "cond_stage_model": "StableDiffusionPipeline",
    "text_encoders": "StableDiffusion3Pipeline",
    "input_blocks": "UNet2DConditionModel",
}
_SMALL = re.compile(r"[^/]+\.(?:json|txt|model|jinja|tiktoken)")
_INDEX = re.compile(r"[^/]+\.index(?:\.\w+)?\.json")
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
# What diffusers has for parts of one kind of pipeline alone.
_OF_DIFFUSERS = re.compile(
    r"ace_step|audioldm2|deepfloyd_if|flux|ideogram4|kandinsky|kolors|latent_diffusion|ltx2?|paint_by_example|shap_e"
    r"|stable_\w+|unidiffuser|wuerstchen"
)


@dataclass(frozen=True)
class Convention:
    """How a library has a model in files: `settings` say what it is, and `stem` is what its weights' files are called.

    `settings` is None where all is in one file of weights. `speaks`: whether it is taken for a model with a vocabulary
    and a tokenizer beside it.
    """

    library: str
    settings: str | None
    stem: str
    speaks: bool


TRANSFORMERS = Convention("transformers", CONFIG, "model", True)
DIFFUSERS = Convention("diffusers", CONFIG, "diffusion_pytorch_model", False)
PIPELINE = Convention("diffusers", MODEL_INDEX, "model", False)


@dataclass(frozen=True)
class Entry:
    """What model_index.json says of one part: the library and the class that open it."""

    library: str
    kind: str

    @property
    def holds_weights(self) -> bool:
        """Whether it is a model, and no scheduler, tokenizer or processor."""
        return _WEIGHTLESS.search(self.kind) is None


def convention_of(config: Mapping[str, Any]) -> Convention:
    """Whose a model is, by its config.json: diffusers writes the class into it."""
    return DIFFUSERS if "_class_name" in config else TRANSFORMERS


def network(config: Mapping[str, Any], part: str | None) -> str | None:
    """The part that a model of diffusers is, "" for a whole pipeline in folders; None for a model of another kind."""
    kind = config.get("_class_name")
    if kind is None:
        return None
    if part is not None:
        return part
    return "" if str(kind).endswith("Pipeline") else "unet" if "UNet" in str(kind) else "transformer"


def read_one_file(file: str, names: Iterable[str]) -> tuple[dict[str, Any], Convention] | None:
    """What a file of weights without a config.json is, by its tensors' names, and its convention; None for other files.

    Such checkpoints hold a whole pipeline, or the network that draws alone, by the names of its first authors.
    """
    starts = {name.removeprefix("model.diffusion_model.").partition(".")[0] for name in names}
    kind = next((kind for start, kind in _ONE_FILE.items() if start in starts), None)
    if kind is None:
        return None
    return {"_class_name": kind}, Convention("diffusers", None, file.removesuffix(SAFE[0]), False)


def entry_of(config: Mapping[str, Any]) -> list[str] | None:
    """What model_index.json says of a part with this config.json; None where that does not tell its class."""
    if isinstance(kind := config.get("_class_name"), str):
        return ["diffusers", kind]
    kinds = config.get("architectures")
    return ["transformers", kinds[0]] if isinstance(kinds, list) and kinds else None


def is_pipeline(files: Collection[str], named: str = "") -> bool:
    """Whether these are the files of a pipeline, and not of one model with its weights beside config.json, nor one file
    that is `named`."""
    alone = named in files or (CONFIG in files and weight_files(files, (*SAFE, *TORCH)))
    return MODEL_INDEX in files and not alone


def parse_model_index(
    text: str | None, where: str, files: Collection[str] = ()
) -> tuple[Mapping[str, Any], Mapping[str, Entry]]:
    """model_index.json as a mapping, and the parts that it names, each of which is a folder of the pipeline's `files`.

    Raises `SourceError` where it is broken, names a part as no folder is called, or no class that opens it.
    """
    config = parse_object(text or "", f"{MODEL_INDEX} of {where}", SourceError, finite=False, hint="fetch it again")
    parts = {}
    for name, value in config.items():
        match value:
            case [str(library), str(kind)] if not name.startswith("_"):
                if not _NAME.fullmatch(name):
                    raise SourceError(
                        f"{MODEL_INDEX} of {where} names a part {name[:60]!r}; expected small letters, digits and _ "
                        "alone, as each is a folder."
                    )
                if not (_CLASS.fullmatch(library) and _CLASS.fullmatch(kind)):
                    raise SourceError(
                        f"{MODEL_INDEX} of {where} says of {name} {library[:40]!r} and {kind[:40]!r}, which are no "
                        "library and class; save the pipeline again."
                    )
                parts[name] = Entry(library, kind)
            case [None, None]:  # what the pipeline does without
                pass
            case _ if f"{name}/{CONFIG}" in files:
                raise SourceError(
                    f"{MODEL_INDEX} of {where} says of {name}, which has a folder, {str(value)[:40]!r}; expected a "
                    "library and a class: save the pipeline again."
                )
    if not parts:
        raise SourceError(f"{MODEL_INDEX} of {where} names no part with its class; save the pipeline again.")
    match config.get("_class_name"):
        case str(kind) if kind.isidentifier():
            pass
        case [str(module), str(kind)] if kind.isidentifier() and f"{module}.py" in files:
            pass  # code of its own, of which `remark` tells
        case other:
            raise SourceError(
                f"{MODEL_INDEX} of {where} says {str(other)[:60]!r} in `_class_name`, by which nothing opens it; "
                "expected the name of a pipeline's class, as StableDiffusionPipeline: save the pipeline again."
            )
    return config, parts


def require_sound(part: Listing, files: Iterable[str], where: str) -> None:
    """Raises `SourceError` where the settings of a part without weights, which go with it as they are, are broken."""
    for name in files:
        if name.endswith("_config.json"):
            text = part.read_text(name) or ""
            parse_object(text, f"{name} of {where}", SourceError, finite=False, hint="fetch it again")


def remark(where: str, config: Mapping[str, Any], parts: Mapping[str, Entry], files: Collection[str]) -> str | None:
    """What has to be said of a pipeline that others may not open; None where nothing has."""
    if (code := _own_code(config, parts, files)) is not None:
        return f"{where} comes with code of its own ({code}); hubmerge neither runs nor copies it."
    for name, one in parts.items():
        if one.holds_weights and one.library not in _LIBRARIES and not _OF_DIFFUSERS.fullmatch(one.library):
            said = f"The {name} of {where} is a {one.kind} of {one.library}"
            return f"{said}, which is neither diffusers nor transformers: what is merged of it may open nowhere."
    return None


def _own_code(config: Mapping[str, Any], parts: Mapping[str, Entry], files: Collection[str]) -> str | None:
    """The file of a pipeline that is code of its own; None where it has none."""
    kind = config.get("_class_name")
    named = [f"{kind[0]}.py"] if isinstance(kind, list) and kind else ["pipeline.py"]
    named += [f"{name}/{one.library}.py" for name, one in parts.items() if one.library not in _LIBRARIES]
    return next((name for name in named if name in files), None)


def small_files(files: Iterable[str], holds_weights: bool) -> tuple[str, ...]:
    """Of the files in a part's folder those that go with it as they are; a config.json beside weights is written."""
    return tuple(
        name
        for name in sorted(files)
        if _SMALL.fullmatch(name) and not _INDEX.fullmatch(name) and not (holds_weights and name == CONFIG)
    )
