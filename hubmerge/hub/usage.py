"""The code of a model card that loads the model with plain transformers or diffusers and asks it something."""

import json

from .auto_class import ANSWERING, BOTH_ENDS, IMAGES, SEEING, SOUNDS, WRITING
from .markdown import fence

_SHOWN = {
    "AutoModelForMaskedLM": "print(tokenizer.decode(output.logits[0].argmax(-1)))  # the likeliest token at each place",
    "AutoModelForSequenceClassification": "print(model.config.id2label[int(output.logits[0].argmax())])",
    "AutoModelForTokenClassification": (
        "print([model.config.id2label[int(label)] for label in output.logits[0].argmax(-1)])"
    ),
    "AutoModelForImageClassification": "print(model.config.id2label[int(output.logits[0].argmax())])",
    "AutoModelForAudioClassification": "print(model.config.id2label[int(output.logits[0].argmax())])",
    "AutoModelForCTC": "print(processor.batch_decode(output.logits.argmax(-1)))",
}
"""What a model says beside its numbers, by its class."""


def usage_of_diffusers(model_class: str, model_id: str, example: str, draws: bool, in_one_file: bool = False) -> str:
    """A fence of Python that opens a pipeline, or a part of one, with diffusers; `draws`: and makes a picture;
    `in_one_file`: `model_id` is the place of a file that has all of it."""
    name = "pipeline" if model_class.endswith("Pipeline") else "model"
    # Said, as else diffusers makes float32 of its own models, and transformers keeps text encoders as they are stored.
    code = ["import torch", f"from diffusers import {model_class}", "", f"model_id = {json.dumps(model_id)}"]
    opens = f"{model_class}.{'from_single_file' if in_one_file else 'from_pretrained'}"
    code.append(f"{name} = {opens}(model_id, dtype=torch.float32)  # torch.bfloat16 takes half of the memory")
    if draws:
        code.append(f"image = pipeline({json.dumps(example, ensure_ascii=False)}).images[0]")
        code.append('image.save("picture.png")')
    else:
        code.append(f"print({name})")
    return fence("\n".join(code), "python")


def usage(
    model_class: str, model_id: str, example: str, *, chat: bool, tokenizer: bool, processor: bool, images: bool = False
) -> str:
    """A fence of Python that runs as it is, beside a picture.jpg where the model sees.

    chat: whether prompts go through a chat template. tokenizer: whether there is one. processor: whether there is what
    makes numbers of a picture or a sound; without it a model that sees is asked by text alone. images: whether a model
    without a head is shown pictures.
    """
    sees = model_class in IMAGES or (model_class == "AutoModel" and images)
    if sees or model_class in SOUNDS:
        return fence("\n".join(_perceiving(model_class, model_id, sees, tokenizer, processor)), "python")
    return fence("\n".join(_reading(model_class, model_id, example, chat, tokenizer, processor)), "python")


def _perceiving(model_class: str, model_id: str, sees: bool, tokenizer: bool, processor: bool) -> list[str]:
    """Lines that show a model a picture, or play it a second of silence."""
    reader = "AutoImageProcessor" if sees else "AutoProcessor" if tokenizer else "AutoFeatureExtractor"
    asks = processor and (sees or tokenizer or model_class == "AutoModelForAudioClassification")
    code = [f"from transformers import {', '.join(sorted([model_class, *([reader] if asks else [])]))}"]
    if asks:
        code = [*(["from PIL import Image"] if sees else ["import numpy as np"]), *code]
    code += ["", f"model_id = {json.dumps(model_id)}", f'model = {model_class}.from_pretrained(model_id, dtype="auto")']
    if not asks:
        return [*code, "print(model)"]
    code.append(f"processor = {reader}.from_pretrained(model_id)")
    if sees:
        given = 'images=Image.open("picture.jpg").convert("RGB"), '
    else:
        code += [
            "rate = getattr(processor, 'feature_extractor', processor).sampling_rate",
            "sound = np.zeros(rate, dtype=np.float32)  # a second of silence: put a recording's numbers here",
        ]
        given = "sound, sampling_rate=rate, "
    code.append(f'inputs = processor({given}return_tensors="pt").to(model.dtype)')
    if model_class == WRITING:
        return [*code, "output = model.generate(**inputs)", "print(processor.batch_decode(output)[0])"]
    return [*code, "output = model(**inputs)", _SHOWN.get(model_class, "print(output[0].shape)")]


def _reading(model_class: str, model_id: str, example: str, chat: bool, tokenizer: bool, processor: bool) -> list[str]:
    """Lines that ask a model that reads text, and a picture where it sees and has a processor."""
    sees = model_class == SEEING and processor and chat
    reader = "AutoProcessor" if sees else "AutoTokenizer"
    name, asked = reader.removeprefix("Auto").lower(), json.dumps(example, ensure_ascii=False)
    imported = ", ".join(sorted([model_class, *([reader] if tokenizer else [])]))
    code = [f"from transformers import {imported}", "", f"model_id = {json.dumps(model_id)}"]
    if tokenizer:
        code.append(f"{name} = {reader}.from_pretrained(model_id)")
    code.append(f'model = {model_class}.from_pretrained(model_id, dtype="auto")')
    if not tokenizer:
        return [*code, "print(model)"]
    if sees:
        code.append(f'content = [{{"type": "image", "url": "picture.jpg"}}, {{"type": "text", "text": {asked}}}]')
    if chat and model_class in ANSWERING:
        code += [
            f'messages = [{{"role": "user", "content": {"content" if sees else asked}}}]',
            f"inputs = {name}.apply_chat_template(",
            '    messages, add_generation_prompt=True, tokenize=True, return_tensors="pt", return_dict=True',
            f"){'.to(model.dtype)' if sees else ''}",
        ]
    else:
        code.append(f'inputs = tokenizer({asked}, return_tensors="pt")')
    if model_class in (*ANSWERING, BOTH_ENDS):
        new = "output[0]" if model_class == BOTH_ENDS else 'output[0, inputs["input_ids"].shape[1] :]'
        return [
            *code,
            "output = model.generate(**inputs, max_new_tokens=64, do_sample=False)",
            f"print({name}.decode({new}, skip_special_tokens=True))",
        ]
    return [*code, "output = model(**inputs)", _SHOWN.get(model_class, "print(output[0].shape)")]
