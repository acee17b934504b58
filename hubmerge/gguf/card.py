"""The card of a repository of GGUF files: of which model they are, in which formats, and how to run them."""

from collections.abc import Sequence
from typing import Any

import yaml
from huggingface_hub import constants

from ..hub.licences import combine
from ..hub.markdown import escape, fence, link, table
from ..hub.source import parts_of
from ..hub.summary import source_link
from ..reference import ModelRef
from .conversion import Conversion


def render(conversion: Conversion, repo_id: str, files: Sequence[str]) -> str:
    """The README.md of `repo_id`, which holds these `files` of a model."""
    source = conversion.source
    licence = combine([source], f"{constants.ENDPOINT}/{repo_id}#licence")
    bases = [part.name for part in parts_of([source]) if part.commit is not None]
    metadata: dict[str, Any] = {
        "license": licence.license,
        "license_name": licence.license_name,
        "license_link": licence.license_link,
        "library_name": "gguf",
        "pipeline_tag": "text-generation",
        "base_model": bases or list(source.base_models),
        "base_model_relation": "quantized" if bases else None,
        "tags": ["gguf", "hubmerge"],
    }
    front = yaml.safe_dump({key: value for key, value in metadata.items() if value}, sort_keys=False)
    usage = [f"llama-cli -hf {repo_id}", f"ollama run hf.co/{repo_id}"]
    licences = [(escape(row.model), link(row.licence, row.link)) for row in licence.rows]
    parts = [
        f"---\n{front}---",
        f"# {escape(ModelRef(repo_id).title.rpartition('/')[2])}",
        f"{source_link(source)} for llama.cpp, ollama and LM Studio: weights, configuration, tokenizer and chat "
        "template in one file. Each was read back and compared with the model, every number within what its format "
        "allows.",
        "\n".join(f"- `{escape(file)}`" for file in files),
        "\n".join(f"- {remark}" for remark in conversion.remarks),
        f"## Run it\n\n{fence(chr(10).join(usage), 'bash')}",
        f"## Licence\n\n{table(('Model', 'Licence'), licences)}",
        "\n".join(f"- {escape(text)}" for text in licence.warnings),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
