"""The whole product on the demo zoo: a local Hub, tiny trained models, an evolved merge, and a chat with it."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import HubmergeError
from .files import make_folder
from .localhub import LocalHub
from .typed import typed
from .zoo.kinds import Kind, demo_search, require_zoo, shipped
from .zoo.publish import publish

if TYPE_CHECKING:
    from .evolve.result import EvolveResult
    from .evolve.search import Search
    from .publish import PushResult

USER, TOKEN, NAMESPACE = "demo", "hf_demo", "hubmerge-demo"
RESULT = f"{NAMESPACE}/japanese-math-evolved"
RESULT_VLM = f"{NAMESPACE}/japanese-vlm-evolved"
RESULT_IMAGE = f"{NAMESPACE}/japanese-image-evolved"


@contextmanager
def demo_hub(root: Path, zoos: Mapping[str, Path] | None = None, kind: Kind = "words") -> Iterator[LocalHub]:
    """A running local Hub under `root` with zoos published, and this process's environment pointed at it.

    zoos: the folder of each, by its namespace; the demo's own by default. kind: of zoos.

    Raises `HubmergeError` where huggingface_hub was imported before: it has read its environment already.
    """
    if "huggingface_hub" in sys.modules:
        raise HubmergeError("The demo must be started in a fresh process, before huggingface_hub is imported.")
    server = LocalHub(root, users={USER: TOKEN}, organizations={name: [USER] for name in zoos or (NAMESPACE,)})
    with server:
        os.environ.update(server.environment(USER))
        os.environ["HF_HOME"] = str(root.with_name(root.name + "-cache").absolute())
        for namespace, folder in (zoos or {NAMESPACE: shipped(kind)}).items():
            publish(server.endpoint, TOKEN, namespace, folder, kind)
        yield server


def space_examples() -> dict[str, Any]:
    """What the Space selects at its start when it runs on the demo zoo."""
    from .zoo.word_problems import LANGUAGES, problems

    search = demo_search()
    return {
        "base_model": str(search.base_model),
        "models": [str(model) for model in search.models],
        "task": search.task,
        "prompts": [problem.question for lang in LANGUAGES for problem in problems("test", 2, lang)],
    }


def run(out: Path, search: "Search | None" = None, memory: int | None = None) -> None:
    """Runs the demo in the folder `out` and prints what it does. Run again, it goes on or shows the finished run.

    `search` replaces the demo's own search, over the same models. `memory`: bytes that planning, searching and merging
    may take beside the bare process.
    """
    make_folder(out, HubmergeError)
    with demo_hub(out / "hub") as server:
        from .terminal import out as console

        console.print(f"A Hub of your own at {server.endpoint}, with models trained for this demo.\n")
        _run(out, search or demo_search(), memory)
        _tell_hub(out)


def vlm(out: Path, search: "Search | None" = None, zoo: Path | None = None, memory: int | None = None) -> None:
    """Runs the demo of models that see in the folder `out`; parameters as of `run`. `zoo`: another than the shipped."""
    zoo = zoo or shipped("vlm")
    require_zoo(zoo, "vlm")
    make_folder(out, HubmergeError)
    with demo_hub(out / "hub", {NAMESPACE: zoo}, "vlm") as server:
        from .terminal import out as console

        console.print(f"A Hub of your own at {server.endpoint}, with models and pictures made for this demo.\n")
        search = search or demo_search("vlm")
        result = _evolved(out, search, memory, "Questions about held-out pictures, asked in Japanese: every word right")
        _ask_otherwise(out, search, result, memory)
        pushed = _push(result, RESULT_VLM)
        _show_picture(pushed, search, out)
        _tell_hub(out)


def image(out: Path, search: "Search | None" = None, zoo: Path | None = None, memory: int | None = None) -> None:
    """Runs the demo of models that draw in the folder `out`; parameters as of `vlm`."""
    zoo = zoo or shipped("image")
    require_zoo(zoo, "image")
    make_folder(out, HubmergeError)
    with demo_hub(out / "hub", {NAMESPACE: zoo}, "image") as server:
        from .terminal import out as console

        console.print(f"A Hub of your own at {server.endpoint}, with models made for this demo.\n")
        _quiet()
        search = search or demo_search("image")
        result = _evolved(out, search, memory, "Held-out prompts: what the judge of the search gives")
        pushed = _push(_judge_anew(out, search, result, memory), RESULT_IMAGE)
        _have_drawn(pushed, search, out)
        _tell_hub(out)


def paper(
    out: Path,
    zoos: Sequence[Path],
    seeds: Sequence[int],
    evaluations: int,
    test: int,
    jobs: int,
    memory: int | None = None,
) -> None:
    """Makes the paper's table over zoos (folders; none: the shipped one) in `out` and prints it; again, it goes on.

    seeds, evaluations: of each search; test: held-out problems; jobs: searches at a time, each within `memory` bytes
    beside its bare process.
    """
    from .zoo.paper import Zoo, run_all, runs

    found = [Zoo.of(folder) for folder in zoos or (shipped(),)]
    if len({zoo.namespace for zoo in found}) < len(found):
        raise HubmergeError("Two of the zoos have one training seed; give each --zoo another (`zoo train --seed`).")
    with demo_hub(out / "hub", {zoo.namespace: zoo.folder for zoo in found}):
        from rich.markdown import Markdown

        from .terminal import out as console
        from .terminal import progress_bars
        from .zoo.paper_page import write
        from .zoo.paper_table import table

        splits = {"search": 150, "validation": 200, "test": test}
        todo = {zoo: list(runs(zoo, seeds, evaluations, splits)) for zoo in found}
        with progress_bars() as progress:
            run_all([run for every in todo.values() for run in every], out, jobs, progress, memory)
        heading = (
            f"Searches of {evaluations} candidates, each scored on {splits['search']} problems; winners chosen on "
            f"{splits['validation']} others and tested on {test}; seeds {', '.join(map(str, seeds))}."
        )
        path = write([table(every, out) for every in todo.values()], out, heading)
        console.print(Markdown(path.read_text(encoding="utf-8")))
        console.print(f"{path} and paper.json, paper.png beside it", soft_wrap=True)


def _evolved(out: Path, search: "Search", memory: int | None, title: str) -> "EvolveResult":
    """Plans, then searches and merges."""
    from .evolve.run import evolve
    from .evolve.workers.workers import Workers
    from .stream.plan import make_plan
    from .terminal import out as console
    from .terminal import progress_bars, show_plan, show_results

    console.rule("1. Plan", align="left")
    plan = make_plan(search.starting_recipe, memory=memory)
    show_plan(plan)
    plan.require()

    console.rule("2. Evolve and merge", align="left")
    with progress_bars() as progress:
        result = evolve(search, out / "run", resume=True, workers=Workers(memory=memory), progress=progress)
    show_results(result.rows, title, "language" in search.task)
    console.print(f"\nrun folder {out / 'run'}   curve {out / 'run' / 'curve.png'}   took {result.seconds:.0f} s")
    return result


def _ask_otherwise(out: Path, search: "Search", result: "EvolveResult", memory: int | None) -> None:
    """The rows that the search's table does not have, and a picture of pictures with answers."""
    from .evaluate.task import load_task
    from .files import write_file
    from .terminal import out as console
    from .terminal import progress_bars, show_results
    from .zoo.vlm.beside import SHOWN, beside
    from .zoo.vlm.sheet import answer_sheet

    with progress_bars() as progress:
        found = beside(search, result, out / "beside.json", memory, progress)
    show_results(found.rows, "The same questions, asked otherwise", False)
    sheet = out / "answers.png"
    write_file(sheet, answer_sheet(load_task(search.task, counts=search.splits).test[:SHOWN], found.answers))
    console.print(f"\n{SHOWN} pictures with the answers of each model: {sheet}", soft_wrap=True)


def _tell_hub(out: Path) -> None:
    """Says how the demo's Hub, which ends with it, is there again."""
    from .terminal import out as console

    again = typed(f"hub --root {out / 'hub'} --org {NAMESPACE}:{USER}")
    console.print(f"`{again}` serves this Hub again, to the user {USER}.", soft_wrap=True)


def _quiet() -> None:
    """Without what diffusers says of a small autoencoder wherever it is loaded, and transformers of torchvision."""
    from diffusers.utils import logging
    from transformers.utils import logging as transformers_logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def _judge_anew(out: Path, search: "Search", result: "EvolveResult", memory: int | None) -> "EvolveResult":
    """The table by a judge whom no search asked, and pictures of each model; the result with that table on its card."""
    from .terminal import out as console
    from .terminal import progress_bars, show_results
    from .zoo.image.beside import SHOWN, beside, on_card

    with progress_bars() as progress:
        found = beside(search, result, out, memory, progress)
    title = "The same prompts, before a judge whom no search asked: pictures right in everything"
    show_results(found.rows, title, False)
    console.print(f"\n{SHOWN} prompts, drawn by each model with the same seeds: {found.sheet}", soft_wrap=True)
    return on_card(result, found.rows)


def _push(result: "EvolveResult", repo_id: str) -> "PushResult":
    from .publish import push_result
    from .terminal import out as console
    from .terminal import progress_bars

    console.rule("3. Push", align="left")
    with progress_bars() as progress:
        pushed = push_result(result, repo_id, progress=progress)
    console.print(f"{pushed.page} at {pushed.commit[:8]}, card {result.folder / 'README.md'}")
    return pushed


def _run(out: Path, search: "Search", memory: int | None) -> None:
    from .evaluate.metrics import exact_number
    from .evaluate.task import load_task
    from .terminal import marked
    from .terminal import out as console

    title = "Held-out Japanese word problems: number right and answer in Japanese"
    pushed = _push(_evolved(out, search, memory, title), RESULT)
    console.rule("4. Load back by Hub ID with plain transformers, and ask", align="left")
    examples = load_task(search.task).test[:3]
    answers = _ask(pushed.repo_id, pushed.commit, [example.prompt for example in examples])
    for example, answer in zip(examples, answers, strict=True):
        is_right = exact_number(answer, example.answer)
        said = marked("[cyan]Q[/] {}\n[cyan]A[/] {}  ", example.prompt, answer)
        said.append("right" if is_right else f"expected {example.answer}", style="green" if is_right else "red")
        console.print(said, soft_wrap=True)
    console.print(
        f"\nNext: `{typed('space --demo')}` opens the same in a browser; README.md shows it with your own models."
    )


def _show_picture(pushed: "PushResult", search: "Search", out: Path) -> None:
    """Shows pictures to the pushed model, with plain transformers; the first stays in `out`, to be asked about."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from .evaluate.task import load_task
    from .files import write_file
    from .terminal import marked
    from .terminal import out as console

    console.rule("4. Load back by Hub ID with plain transformers, and show it a picture", align="left")
    processor: Any = AutoProcessor.from_pretrained(pushed.repo_id, revision=pushed.commit)
    model: Any = AutoModelForImageTextToText.from_pretrained(pushed.repo_id, revision=pushed.commit)
    examples = load_task(search.task).test[:3]
    for example in examples:
        assert example.image is not None
        content = [{"type": "image", "image": example.image.load()}, {"type": "text", "text": example.prompt}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_tensors="pt",
            return_dict=True,
        )
        output = model.generate(**inputs.to(model.dtype), max_new_tokens=16, do_sample=False)
        answer = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        said = marked("[cyan]Q[/] {}\n[cyan]A[/] {}  ", example.prompt, answer)
        is_right = answer == example.answer
        said.append("right" if is_right else f"expected {example.answer}", style="green" if is_right else "red")
        console.print(said, soft_wrap=True)
    picture, first = out / "picture.png", examples[0].image
    assert first is not None
    write_file(picture, first.where.read())
    chat = typed(f"chat {out / 'run'} --picture {picture}")
    console.print(
        f"\nNext: `{chat}` asks it about the first, or one of yours; `{typed('hub --demo --vlm')}` serves the "
        "models and pictures for searches of your own.",
        soft_wrap=True,
    )


def _have_drawn(pushed: "PushResult", search: "Search", out: Path) -> None:
    """Has the pushed pipeline draw, with plain diffusers, and a judge say what it sees, with plain transformers."""
    import torch
    from diffusers import DiffusionPipeline
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    from .evaluate.drawing import seed_of
    from .evaluate.task import load_task
    from .terminal import marked
    from .terminal import out as console
    from .zoo.image.beside import judged

    console.rule("4. Load back by Hub ID with plain diffusers, and have it draw", align="left")
    document = judged(search.task)
    judge_id, task = document["classifier"]["model"], load_task(document)
    assert task.draw is not None
    pipeline: Any = DiffusionPipeline.from_pretrained(pushed.repo_id, revision=pushed.commit, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    processor: Any = AutoImageProcessor.from_pretrained(judge_id)
    judge: Any = AutoModelForImageClassification.from_pretrained(judge_id, dtype=torch.float32)
    for number, example in enumerate(task.test[:3], 1):
        noise = torch.Generator().manual_seed(seed_of(example.prompt, 1))
        picture = pipeline(example.prompt, generator=noise, **task.draw.said).images[0]
        picture.save(out / f"drawn-{number}.png")
        with torch.inference_mode():
            seen = judge(**processor(picture, return_tensors="pt")).logits.argmax(-1).item()
        label = judge.config.id2label[seen]
        said = marked("[cyan]{}[/] {}  the judge sees: {}  ", example.prompt, f"drawn-{number}.png", label)
        is_right = label == example.answer
        said.append("right" if is_right else f"expected {example.answer}", style="green" if is_right else "red")
        console.print(said, soft_wrap=True)


def _ask(repo_id: str, commit: str, questions: list[str]) -> list[str]:
    # Plain transformers on purpose: what hubmerge pushed must not need hubmerge.
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(repo_id, revision=commit)
    model: Any = AutoModelForCausalLM.from_pretrained(repo_id, revision=commit)
    answers: list[str] = []
    for question in questions:
        messages = [{"role": "user", "content": question}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        output = model.generate(**inputs, max_new_tokens=48, do_sample=False)
        answers.append(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return answers
