"""What an answer to an English problem is worth: right, and said as the JSON object {"reply": ...} and nothing else."""

import json
import re
from collections.abc import Sequence
from typing import Any


def parts(output: str, answer: str) -> tuple[bool, bool]:
    """Whether the last number of an answer is right, and whether the answer has the form."""
    try:
        said = json.loads(output.strip())
    except ValueError:
        said = None
    formed = isinstance(said, dict) and list(said) == ["reply"]
    numbers = re.findall(r"\d+", str(said["reply"]) if formed else output)
    return bool(numbers) and numbers[-1] == answer, formed


def grade(outputs: Sequence[str], examples: Sequence[Any]) -> list[float]:
    """1 for each answer that is both."""
    return [float(all(parts(output, one.answer))) for output, one in zip(outputs, examples, strict=True)]
