"""The code of a model card that loads the model with plain transformers or diffusers and asks it something."""

import json

from .auto_class import ANSWERING, BOTH_ENDS, SEEING
from .markdown import fence


def usage_of_diffusers(model_class: str, model_id: str, example: str, draws: bool) -> str:
    """A fence of Python that opens a pipeline, or a part of one, with diffusers; `draws`: and makes a picture."""
    name = "pipeline" if model_class.endswith("Pipeline") else "model"
    code = [f"from diffusers import {model_class}", ""]
    code.append(f"{name} = {model_class}.from_pretrained({json.dumps(model_id)})")
    if draws:
        code.append(f"image = pipeline({json.dumps(example, ensure_ascii=False)}).images[0]")
        code.append('image.save("picture.png")')
    else:
        code.append(f"print({name})")
    return fence("\n".join(code), "python")


def usage(model_class: str, model_id: str, example: str, *, chat: bool, tokenizer: bool, processor: bool) -> str:
    """A fence of Python that runs as it is.

    chat: whether prompts go through a chat template. tokenizer: whether there is one. processor: whether there is what
    makes tokens and pixels of a picture; without it a model that sees is asked by text alone.
    """
    sees = model_class == SEEING and processor and chat
    reader = "AutoProcessor" if sees else "AutoTokenizer"
    name, asked = reader.removeprefix("Auto").lower(), json.dumps(example, ensure_ascii=False)
    imported = ", ".join(sorted([model_class, *([reader] if tokenizer else [])]))
    code = [f"from transformers import {imported}", "", f"model_id = {json.dumps(model_id)}"]
    if tokenizer:
        code.append(f"{name} = {reader}.from_pretrained(model_id)")
    code.append(f'model = {model_class}.from_pretrained(model_id, dtype="auto")')
    if not tokenizer:
        return fence("\n".join([*code, "print(model)"]), "python")
    if sees:
        code.append(f'content = [{{"type": "image", "url": "picture.jpg"}}, {{"type": "text", "text": {asked}}}]')
    if chat and model_class in ANSWERING:
        code += [
            f'messages = [{{"role": "user", "content": {"content" if sees else asked}}}]',
            f"inputs = {name}.apply_chat_template(",
            '    messages, add_generation_prompt=True, tokenize=True, return_tensors="pt", return_dict=True',
            ")",
        ]
    else:
        code.append(f'inputs = tokenizer({asked}, return_tensors="pt")')
    if model_class in (*ANSWERING, BOTH_ENDS):
        new = "output[0]" if model_class == BOTH_ENDS else 'output[0, inputs["input_ids"].shape[1] :]'
        code += [
            "output = model.generate(**inputs, max_new_tokens=64, do_sample=False)",
            f"print({name}.decode({new}, skip_special_tokens=True))",
        ]
    else:
        code += ["output = model(**inputs)", "print(output[0].shape)"]
    return fence("\n".join(code), "python")
