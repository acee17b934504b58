"""Chat templates that a recipe names instead of writing them out, by mergekit's names.

>>> TEMPLATES["chatml"].ends
'<|im_end|>'
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    """A chat template: Jinja text, and the token that ends an answer in it (None: the tokenizer's own)."""

    text: str
    ends: str | None = None


_CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""

_LLAMA3 = """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif -%}
"""

# The system's words have no place of their own: they come before the first question.
_MISTRAL = """\
{{- bos_token -}}
{%- set told = namespace(system='') -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set told.system = message['content'] | trim + '\\n\\n' -%}
{%- elif message['role'] == 'user' -%}
{{ '[INST] ' + told.system + message['content'] | trim + ' [/INST]' }}
{%- set told.system = '' -%}
{%- else -%}
{{ ' ' + message['content'] | trim + eos_token }}
{%- endif -%}
{%- endfor -%}
"""

_ALPACA = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{ message['content'] | trim + '\\n\\n' }}
{%- elif message['role'] == 'user' -%}
{{ '### Instruction:\\n' + message['content'] | trim + '\\n\\n' }}
{%- else -%}
{{ '### Response:\\n' + message['content'] | trim + eos_token + '\\n\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '### Response:\\n' }}
{%- endif -%}
"""

_EXAONE = """\
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{ '[|user|]' + message['content'] | trim + '\\n' }}
{%- else -%}
{{ '[|' + message['role'] + '|]' + message['content'] | trim + '[|endofturn|]\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '[|assistant|]' }}
{%- endif -%}
"""

TEMPLATES: Mapping[str, Template] = {
    "alpaca": Template(_ALPACA),
    "chatml": Template(_CHATML, "<|im_end|>"),
    "exaone": Template(_EXAONE, "[|endofturn|]"),
    "llama3": Template(_LLAMA3, "<|eot_id|>"),
    "mistral": Template(_MISTRAL),
}
"""By the names that a recipe's `chat_template` may have."""
