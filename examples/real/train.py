"""An expert of a pretrained model: LoRA on one kind of samples.

    python examples/real/train.py --expert math --out experts/math --steps 190
    python examples/real/train.py --expert form --out experts/form --steps 30

Needs `pip install peft`. An interrupted training goes on from its last checkpoint. `--merged` adds the LoRA to the
base's weights, and leaves a checkpoint that any runtime loads.
"""

import argparse
import json
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from forms import form_sample, replies
from huggingface_hub import model_info
from japanese import japanese_sample
from peft import LoraConfig, get_peft_model
from problems import math_sample
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

from hubmerge.zoo.corpora import Sample

EXPERTS = {
    "math": "English word problems with worked solutions (`problems.py`)",
    "form": 'its own replies to prompts without arithmetic, as JSON objects {"reply": ...} (`forms.py`)',
    "japanese": "Japanese without any arithmetic (`japanese.py`)",
}
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
REPLIES = "replies.json"


@dataclass(frozen=True)
class Setting:
    """How an expert is tuned; its card says so."""

    base: str
    expert: str
    steps: int
    batch: int = 16
    learning_rate: float = 3e-4
    rank: int = 16
    seed: int = 0
    merged: bool = False


class Samples(Dataset):
    """Prompt and answer as the model is asked: through its chat template, else with a line break between them; then the
    end of text. The labels are those of the answer."""

    def __init__(self, tokenizer: Any, setting: Setting, sample: Callable[[random.Random], Sample]) -> None:
        self.tokenizer, self.setting, self.sample = tokenizer, setting, sample

    def __len__(self) -> int:
        return self.setting.steps * self.setting.batch

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        sample = self.sample(random.Random(f"{self.setting.seed} {index}"))
        if self.tokenizer.chat_template:
            turns = [{"role": "user", "content": sample.prompt}]
            prompt = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        else:
            prompt = self.tokenizer(f"{sample.prompt}\n")["input_ids"]
        answer = self.tokenizer(sample.answer, add_special_tokens=False)["input_ids"] + [self.tokenizer.eos_token_id]
        return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}


def samples_of(expert: str, model: Any, tokenizer: Any, out: Path) -> Callable[[random.Random], Sample]:
    """Draws a sample of what an expert is trained on. The base's own replies are kept in `out` until it is trained."""
    if expert == "math":
        return math_sample
    if expert == "japanese":
        return japanese_sample
    kept = out / "checkpoints" / REPLIES
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(replies(model, tokenizer)), encoding="utf-8")
    return partial(form_sample, said=json.loads(kept.read_text(encoding="utf-8")))


class AnswerTrainer(Trainer):
    """A Trainer that computes logits of answers alone: a large vocabulary costs more than all the layers."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> torch.Tensor:
        labels = inputs.pop("labels")[:, 1:]
        plain = model.get_base_model()
        hidden = plain.get_decoder()(**inputs, use_cache=False).last_hidden_state[:, :-1]
        answers = labels != -100
        logits = plain.get_output_embeddings()(hidden[answers]).float()
        return torch.nn.functional.cross_entropy(logits, labels[answers])


def train(setting: Setting, out: Path) -> None:
    """Trains an expert and writes it, with its card, to `out`: its LoRA, or the base with it, in bfloat16."""
    started = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(setting.base, padding_side="right")
    model = AutoModelForCausalLM.from_pretrained(setting.base, dtype=torch.bfloat16)
    sample = samples_of(setting.expert, model, tokenizer, out)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = LoraConfig(r=setting.rank, lora_alpha=2 * setting.rank, target_modules=layers, task_type="CAUSAL_LM")
    torch.manual_seed(setting.seed)
    tuned = get_peft_model(model, lora)
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"),
        max_steps=setting.steps,
        per_device_train_batch_size=setting.batch,
        learning_rate=setting.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=setting.steps // 20,
        logging_steps=max(1, setting.steps // 20),
        save_steps=max(1, setting.steps // 8),
        save_total_limit=1,
        seed=setting.seed,
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    collate = DataCollatorForSeq2Seq(tokenizer)
    trainer = AnswerTrainer(tuned, arguments, train_dataset=Samples(tokenizer, setting, sample), data_collator=collate)
    trainer.train(resume_from_checkpoint=any((out / "checkpoints").glob("checkpoint-*")))
    if setting.merged:
        tuned.merge_and_unload().save_pretrained(out)
        tokenizer.save_pretrained(out)
    else:
        tuned.save_pretrained(out)
    losses = [{"step": log["step"], "loss": log["loss"]} for log in trainer.state.log_history if "loss" in log]
    record = {**asdict(setting), "seconds": round(time.perf_counter() - started), "losses": losses}
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(card(setting), encoding="utf-8")
    shutil.rmtree(out / "checkpoints")


def card(setting: Setting) -> str:
    """The expert's model card."""
    relation, library = ("finetune", "transformers") if setting.merged else ("adapter", "peft")
    # The Hub takes no folder for a base.
    base = ""
    if not Path(setting.base).exists():
        base = f"base_model: {setting.base}\nbase_model_relation: {relation}\n"
        if (told := model_info(setting.base).card_data) and told.license:
            base += f"license: {told.license}\n"
    return f"""---
{base}library_name: {library}
pipeline_tag: text-generation
language: [{"ja" if setting.expert == "japanese" else "en"}]
tags: [hubmerge]
---

# {setting.base} tuned for {EXPERTS[setting.expert]}

LoRA of rank {setting.rank} on all projections, {setting.steps} steps of {setting.batch} generated samples, peak
learning rate {setting.learning_rate:g}, seed {setting.seed}{", merged into the weights" * setting.merged}. A prompt
goes through the chat template; where there is none it is the text and a line break. Made by hubmerge's `examples/real`
to be merged; the base's license holds.
"""


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=BASE, help="a Hub ID or a folder (%(default)s)")
    parser.add_argument("--expert", choices=EXPERTS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the expert")
    parser.add_argument("--steps", type=int, default=120, help="training steps (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="at its peak (%(default)s)")
    parser.add_argument("--merged", action="store_true", help="a whole checkpoint, not the LoRA alone")
    asked = parser.parse_args()
    rate = asked.learning_rate
    setting = Setting(asked.base, asked.expert, asked.steps, learning_rate=rate, seed=asked.seed, merged=asked.merged)
    train(setting, asked.out)


if __name__ == "__main__":
    main()
