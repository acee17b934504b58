"""Tasks of EleutherAI's lm-evaluation-harness (the extra `lm-eval`), asked of a model that is already in memory.

lm_eval: gsm8k                  # or {task, metric, filter, num_fewshot, include_path, chat_template}
examples: {search: train, validation: train, test: test}    # lm-eval's train, validation or test documents

A document's value is what lm-eval's own `process_results` gives for it alone, so it must be a number in 0..1 that is
better when higher; metrics that exist only over all documents (F1, BLEU, word perplexity) are refused.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ..errors import TaskError
from ..progress import Event, Progress
from .examples import TASK, Example, Row

SPLITS = ("train", "validation", "test")
"""The documents of an lm-eval task, as `examples:` names them."""


@dataclass(frozen=True)
class HarnessTask:
    """One task of lm-eval, and which of its figures counts.

    `metric`: of its metrics, by default the first. `filter`: of its filters, by default the first. `num_fewshot`: by
    default as the task says. `include_path`: a folder with tasks of the user's own. `chat_template`: whether prompts
    go through the model's chat template; by default where it has one. `version` is lm-eval's, part of the task's key.
    """

    task: str
    metric: str | None = None
    filter: str | None = None
    num_fewshot: int | None = None
    include_path: str | None = None
    chat_template: bool | None = None
    version: str = ""

    @property
    def source(self) -> None:
        """lm-eval's own affair: None, as for rows written in a task."""
        return None

    @classmethod
    def from_document(cls, given: Any) -> "HarnessTask":
        """The task that `lm_eval:` names. Raises `TaskError` where lm-eval is not installed or does not know it."""
        settings = {"task": given} if isinstance(given, str) else TASK.mapping(given, "lm_eval")
        TASK.require_known(settings, [name for name in cls.__dataclass_fields__ if name != "version"], "lm_eval")
        made = replace(TASK.build(cls, settings, "lm_eval"), version=_version())
        if made.num_fewshot is not None:
            TASK.whole(made.num_fewshot, "num_fewshot of lm_eval", 0)
        _open(made)
        return made

    def read(self, file: str | Sequence[Row], split: str) -> list[Row]:
        """The documents of one of `SPLITS` as rows: prompt, answer and the id that finds the document again."""
        if file not in SPLITS:
            raise TaskError(
                f"`{split}` of an lm-eval task's examples must be one of {', '.join(SPLITS)}, got {file!r}."
            )
        task, documents = _open(self), _documents(self, str(file))
        return [
            {"question": str(task.doc_to_text(doc)), "answer": str(task.doc_to_target(doc)), "id": f"{file}:{index}"}
            for index, doc in enumerate(documents)
        ]


@dataclass(frozen=True)
class HarnessReplies:
    """What lm-eval made of some examples, in their order: the model's replies, their values, generated tokens."""

    texts: tuple[str, ...]
    values: tuple[float, ...]
    tokens: int


def ask(
    settings: HarnessTask,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    *,
    system: str | None,
    batch_size: int,
    memory: int | None,
    progress: Progress,
) -> HarnessReplies:
    """Asks the examples' documents through lm-eval's wrapper of transformers models."""
    from lm_eval.models.huggingface import HFLM

    task = _open(settings)
    if memory is not None:
        from .demand import NEW_TOKENS, Demand
        from .placement import memory_left

        longest = max(len(tokenizer(example.prompt)["input_ids"]) for example in examples)
        asked_for = Demand(min(batch_size, len(examples)), longest, NEW_TOKENS, longest)
        batch_size = asked_for.within(memory_left(model, memory), model).prompts
    with _quiet():
        wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        requests = [_requests(settings, wrapped, example, number, system) for number, example in enumerate(examples)]
        by_kind: dict[str, list[Any]] = defaultdict(list)
        for request in (request for asked in requests for request in asked):
            by_kind[request.request_type].extend([request] * request.repeats)
        for kind, asked in by_kind.items():
            for request, reply in zip(asked, getattr(wrapped, kind)(asked, disable_tqdm=True), strict=True):
                request.resps.append(reply)
        task._instances = [request for asked in requests for request in asked]
        task.apply_filters()
    progress(Event("lm-eval", len(examples), len(examples), "examples"))
    values = [_value(settings, task, asked) for asked in requests]
    said = [str(reply) for asked in requests for request in asked for reply in request.resps]
    generated = [text for kind in by_kind if kind == "generate_until" for text in said]
    tokens = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in generated)
    return HarnessReplies(tuple(_text(asked) for asked in requests), tuple(values), tokens)


def _requests(settings: HarnessTask, wrapped: Any, example: Example, number: int, system: str | None) -> list[Any]:
    task = _open(settings)
    split, _, index = example.id.partition(":")
    doc = _documents(settings, split)[int(index)]
    templated = settings.chat_template
    if templated is None:
        templated = bool(getattr(wrapped.tokenizer, "chat_template", None))
    shots = settings.num_fewshot if settings.num_fewshot is not None else task.config.num_fewshot or 0
    if shots:
        # The shots are a function of the document alone, whatever is asked before it, and never show its own answer.
        task.sampler.df = [shot for shot in _shots(settings) if shot != doc]
        task.set_fewshot_seed(int(index))
    template = wrapped.apply_chat_template if templated else None
    context = task.fewshot_context(
        doc,
        num_fewshot=shots,
        system_instruction=system,
        apply_chat_template=templated,
        chat_template=template,
        gen_prefix=task.doc_to_prefix(doc),
    )
    made = task.construct_requests(
        doc=doc,
        ctx=context,
        metadata=(settings.task, number, task.config.repeats),
        apply_chat_template=templated,
        chat_template=template,
    )
    return made if isinstance(made, list) else [made]


def _value(settings: HarnessTask, task: Any, asked: Sequence[Any]) -> float:
    filters = list(asked[0].filtered_resps)
    chosen = settings.filter or filters[0]
    if chosen not in filters:
        raise TaskError(f"lm-eval's {settings.task} has no filter {chosen!r}; it has {', '.join(filters)}.")
    figures = task.process_results(asked[0].doc, [request.filtered_resps[chosen] for request in asked])
    metric = settings.metric or next(iter(figures))
    if metric not in figures:
        raise TaskError(f"lm-eval's {settings.task} has no metric {metric!r}; it has {', '.join(figures)}.")
    value = figures[metric]
    if not isinstance(value, (bool, int, float)) and getattr(value, "ndim", None) != 0:
        raise TaskError(f"lm-eval's metric {metric} of {settings.task} has no value for one document; choose another.")
    value = float(value)
    if not 0 <= value <= 1 or not task.higher_is_better().get(metric, True):
        raise TaskError(
            f"lm-eval's metric {metric} of {settings.task} is not a number in 0..1 that grows with the model (got "
            f"{value:g}); choose another."
        )
    return value


def _text(asked: Sequence[Any]) -> str:
    if asked[0].request_type == "generate_until":
        return str(asked[0].resps[0])
    likelihoods = [float(reply[0] if isinstance(reply, tuple) else reply) for a in asked for reply in a.resps]
    best = likelihoods.index(max(likelihoods))
    return str(asked[best].arguments[-1]).strip() if len(asked) > 1 else f"log p {likelihoods[0]:.3f}"


@lru_cache(maxsize=8)
def _open(settings: HarnessTask) -> Any:
    from lm_eval.api.task import ConfigurableTask

    with _quiet():
        manager = _manager(settings.include_path)
        if settings.task not in manager.all_subtasks:
            raise TaskError(
                f"lm-eval {settings.version} has no single task {settings.task!r} (groups are not asked as one); "
                "`lm-eval ls tasks` lists them."
            )
        try:
            (task,) = manager.load(settings.task)["tasks"].values()
        except Exception as exc:  # datasets, the Hub and the task's own code can all fail here
            raise TaskError(f"lm-eval cannot open {settings.task}: {type(exc).__name__}: {exc}.") from exc
    if not isinstance(task, ConfigurableTask) or any(
        getattr(task, mark, False) for mark in ("UNSAFE_CODE", "MULTIMODAL")
    ):
        raise TaskError(
            f"lm-eval's {settings.task} runs generated code, asks about images or is not written in YAML; "
            "hubmerge does not ask such tasks."
        )
    return task


@lru_cache(maxsize=4)
def _manager(include_path: str | None) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=include_path)  # reads all YAML files of lm-eval (over 10,000), which takes seconds


@lru_cache(maxsize=24)
def _documents(settings: HarnessTask, split: str) -> list[Any]:
    task = _open(settings)
    found = {"train": task.training_docs, "validation": task.validation_docs, "test": task.test_docs}[split]()
    if found is None:
        raise TaskError(f"lm-eval's {settings.task} has no {split} documents; name another of {', '.join(SPLITS)}.")
    return list(found)


@lru_cache(maxsize=8)
def _shots(settings: HarnessTask) -> list[Any]:
    return list(_open(settings).sampler.fewshot_docs())


def _version() -> str:
    try:
        import lm_eval.models.huggingface  # its imports show at once whether the installation is whole
    except ImportError:
        raise TaskError(
            "`lm_eval` tasks need lm-eval, which is not installed; run pip install 'hubmerge[lm-eval]'."
        ) from None
    return str(lm_eval.__version__)


class _quiet:
    """Keeps lm-eval's loggers to errors inside: it warns of every model that is passed in memory."""

    def __enter__(self) -> None:
        self._level = logging.getLogger("lm_eval").level
        logging.getLogger("lm_eval").setLevel(logging.ERROR)

    def __exit__(self, *_: Any) -> None:
        logging.getLogger("lm_eval").setLevel(self._level)
