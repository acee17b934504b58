"""Tasks known by name."""

from collections.abc import Mapping
from typing import Any

BUILTIN: Mapping[str, Mapping[str, Any]] = {
    "ja-word-problems": {
        "name": "ja-word-problems",
        "examples": {
            "repo_id": "hubmerge-demo/ja-word-problems",
            "search": "search.jsonl",
            "validation": "validation.jsonl",
            "test": "test.jsonl",
        },
        "metric": "exact_number",
        "language": "ja",
        "max_new_tokens": 32,
    },
    # MGSM-JA, the paper's test set (Shi et al. 2022, arXiv 2210.03057): only ever a test split.
    "mgsm-ja": {
        "name": "mgsm-ja",
        "examples": {"repo_id": "juletxara/mgsm", "test": "mgsm_ja.tsv", "columns": ["question", "answer"]},
        "metric": "exact_number",
        "language": "ja",
        "max_new_tokens": 512,
    },
    # What the paper's Japanese model that sees was tested on (arXiv 2403.13187, section 4.2): only ever test splits.
    "ja-vg-vqa-500": {
        "name": "ja-vg-vqa-500",
        "examples": {"repo_id": "SakanaAI/JA-VG-VQA-500", "test": "*test-*.parquet", "each": "qas"},
        "image": "image",
        "metric": "rouge_l",
        "language": "ja",
        "max_new_tokens": 128,
    },
    "ja-vlm-bench-in-the-wild": {
        "name": "ja-vlm-bench-in-the-wild",
        "examples": {"repo_id": "SakanaAI/JA-VLM-Bench-In-the-Wild", "test": "*test-*.parquet"},
        "image": "image",
        "metric": "rouge_l",
        "language": "ja",
        "max_new_tokens": 256,
    },
    # The project's own (docs/ja-vlm-bench.md): one short answer each, so that nothing but it counts.
    "ja-vlm-bench": {
        "name": "ja-vlm-bench",
        "examples": {
            "repo_id": "hubmerge-demo/ja-vlm-bench",
            "search": "data/train-*.parquet",
            "validation": "data/validation-*.parquet",
            "test": "data/test-*.parquet",
        },
        "image": "image",
        "prompt": "{question}答えだけを短く書いてください。",
        "metric": "exact_match",
        "max_new_tokens": 32,
    },
    # GSM8K (Cobbe et al. 2021, arXiv 2110.14168). Its answers end in "#### 18": the last number counts.
    "gsm8k": {
        "name": "gsm8k",
        "examples": {
            "repo_id": "openai/gsm8k",
            "search": "main/train-00000-of-00001.parquet",
            "validation": "main/train-00000-of-00001.parquet",
            "test": "main/test-00000-of-00001.parquet",
        },
        "metric": "exact_number",
        "max_new_tokens": 512,
    },
}
"""Task documents (see task.py) by the name they are asked for with."""
