"""What the Evolve form says, as a search."""

import csv
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubmerge.documents import parse_object
from hubmerge.errors import SearchError, TaskError
from hubmerge.evaluate.drawing import Draw
from hubmerge.evaluate.looking import LOOKING
from hubmerge.evaluate.task import BUILTIN, SPLITS
from hubmerge.evolve.search import Search
from hubmerge.hub.listing import open_repository
from hubmerge.methods import METHODS, Method
from hubmerge.reference import ModelRef

from ..wording import short
from .filled import as_number
from .parts import Drawn
from .upload import read_upload

MOST_BYTES, MOST_ROWS = 5_000_000, 20_000
"""How large a file of examples may be."""
USUAL = "usual"
"""The searcher of somebody who names none: cmaes for recipes, edits for paths."""
_CALLED = {"search": ("search", "train"), "validation": ("validation", "valid", "dev"), "test": ("test",)}
_KINDS = r"\.(?:jsonl|json|csv|tsv|parquet)"
SHARES = {"search": 0.3, "validation": 0.3, "test": 0.4}
"""How the examples of a file are shared out."""


def searchable() -> list[str]:
    """Methods that mix models and have something to vary."""
    mixing = [name for name, method in METHODS.items() if method.max_models != 1 and not method.statistic]
    return [name for name in mixing if gene_names(METHODS[name])]


def gene_names(method: Method) -> list[str]:
    """What may vary in a method's recipes."""
    return list(method.genes)


def explain_genes(method: Method) -> str:
    """What each of them is, in the words of the merge form."""
    return " ".join(f"{p.name}: {p.help}" for p in method.parameters if p.name in gene_names(method))


def task_of(
    given: Mapping[str, Any] | str | None,
    name: str | None,
    language: str | None,
    max_new_tokens: int,
    picture: str | None = None,
    files: Callable[[str], Iterable[str]] = lambda dataset: (),
) -> Mapping[str, Any]:
    """The task's document for what was chosen: `given` (the page's own), a built-in one, or a dataset of the Hub;
    `picture`: the field of its rows that has one; `files` names those of a dataset.

    Never a file of this machine. Raises `TaskError` for anything else.
    """
    name = (name or "").strip()
    if isinstance(given, Mapping) and name == given.get("name", "task"):
        return given
    if name in BUILTIN:
        return BUILTIN[name]
    if name.count("/") != 1:
        raise TaskError(f"Choose a task: one of {', '.join(BUILTIN)}, or a dataset of the Hub as org/name.")
    repo_id, _, revision = name.partition("@")
    examples = {"repo_id": repo_id, **files_of_splits(files(name), repo_id)}
    if revision:
        examples["revision"] = revision
    seen = {"image": picture.strip()} if picture and picture.strip() else {}
    return {**_document(short(repo_id), examples, language, max_new_tokens), **seen}


def files_of_splits(names: Iterable[str], dataset: str) -> dict[str, str]:
    """Which files of a dataset hold each split, one of them or a pattern for several: search.jsonl and its like, or
    what datasets of the Hub call theirs, such as data/train-00000-of-00002.parquet.

    Where nothing is called after validation, search and validation share the rows out. Raises `TaskError` where
    folders have files of the same split, as those of several languages do.
    """
    listed, found = sorted(names), {split: f"{split}.jsonl" for split in SPLITS}
    if not listed or found["search"] in listed:
        return found
    for split, words in _CALLED.items():
        named = re.compile(rf"(?P<place>(?:.*/)?(?:{'|'.join(words)}))(?P<rest>-.*)?(?P<kind>{_KINDS})")
        several = [match for match in map(named.fullmatch, listed) if match]
        places = sorted({(match["place"], match["kind"]) for match in several})
        if len(places) > 1:
            raise TaskError(
                f"{dataset} has several files for {split} ({several[0][0]}, {several[-1][0]}, ...), and this form "
                "cannot say which; use the command line, whose tasks name files."
            )
        if places:
            found[split] = several[0][0] if len(several) == 1 else "{}-*{}".format(*places[0])
        elif split == "validation" and found["search"] != "search.jsonl":
            found[split] = found["search"]
    return found


def task_of_file(path: Path, language: str | None, max_new_tokens: int) -> Mapping[str, Any]:
    """The task of a visitor's own file, CSV or JSON lines with `question` and `answer`, shared out among the splits.

    Raises `TaskError` where it is something else, or too large.
    """
    text = read_upload(path, MOST_BYTES, TaskError)
    rows = (_csv if path.suffix.lower() == ".csv" else _json_lines)(text, path.name)
    found = list(dict.fromkeys((str(row.get("question") or ""), str(row.get("answer") or "")) for row in rows))
    if len(found) > MOST_ROWS:
        raise TaskError(f"{path.name} has {len(found):,} examples; at most {MOST_ROWS:,} are read.")
    if len(found) < 12 or not all(question and answer for question, answer in found):
        raise TaskError(
            f"{path.name} must have at least 12 different examples, each with `question` and `answer` filled in; "
            f"it has {sum(bool(q and a) for q, a in found)} such."
        )
    examples = _shared_out([{"question": question, "answer": answer} for question, answer in found])
    return _document(path.stem[:60], examples, language, max_new_tokens)


def prompts_of(text: str) -> dict[str, Any]:
    """Examples that are prompts alone, one a line, shared out among the splits. Raises `TaskError`."""
    found = list(dict.fromkeys(filter(None, map(str.strip, text.splitlines()))))
    if not len(SHARES) <= len(found) <= MOST_ROWS:
        raise TaskError(
            f"Write at least {len(SHARES)} different prompts, one a line, for the search, its validation and the test; "
            f"these are {len(found):,}."
        )
    return _shared_out([{"question": prompt} for prompt in found])


def _shared_out(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Rows by split, in an order of their own; each split has at least one."""
    random.Random(0).shuffle(rows)
    examples: dict[str, Any] = {}
    start = 0
    for split, share in SHARES.items():
        stop = len(rows) if split == "test" else start + max(1, round(share * len(rows)))
        examples[split] = rows[start:stop]
        start = stop
    return examples


@dataclass(frozen=True)
class SearchForm:
    """What the Evolve form says, a field for each of its components.

    `picture`: the field of a dataset's rows that has one. `file`: a visitor's own examples, in place of `task`.
    `looks`: "" where the models write; where they draw, the task's key for who looks at pictures, and `looker` its
    model. Then `prompts`, one a line, take the place of task and file, and the fields from `steps` to `negative` are
    what the task's `draw` says, nothing as the pipeline has it.
    `spaces`: "ps" for recipes, "dfs" for paths, or both. `search`, `validation` and `test` are examples of each split;
    `minutes` None or 0 is no limit.
    """

    models: list[str] | None
    base: str | None
    task: str | None
    file: str | None
    language: str | None
    longest: float
    picture: str | None
    spaces: str
    method: str
    genes: list[str]
    granularity: str
    searcher: str
    evaluations: float
    popsize: float
    minutes: float | None
    seed: float
    objectives: list[str]
    search: float
    validation: float
    test: float
    compared: bool
    economy: bool
    looks: str = ""
    looker: str = ""
    prompts: str = ""
    steps: float | None = None
    seeds: str = ""
    guidance: str = ""
    height: str = ""
    width: str = ""
    negative: str = ""

    def to_search(
        self, given: Mapping[str, Any] | str | None, token: str | None = None, drawn: Drawn | None = None
    ) -> Search:
        """The search, its genes over each parameter's usual range; `given` is the page's own task. The Hub is asked
        which files a dataset has. Of pipelines that are `drawn` with, the part that draws is searched.

        Raises `SearchError`, and `TaskError` for a task that cannot be.
        """
        names = [name for name in self.models or () if name != self.base]
        base = self.base
        if drawn is not None:
            names, base = list(map(drawn.drawing, names)), drawn.drawing(base) if base else base
        task = self._task(given, token)
        if not names:
            raise SearchError("Choose at least one model in step 1.")
        whole = {name: int(getattr(self, name)) for name in ("evaluations", "popsize", "seed")}
        named = {} if self.searcher == USUAL else {"name": self.searcher}
        document: dict[str, Any] = {"models": names, "task": task, "searcher": {**named, **whole}}
        examples = task["examples"]
        document["splits"] = {
            name: _at_most(examples.get(name), int(getattr(self, name))) for name in SPLITS if name in examples
        }
        spaces = self.spaces.split()
        if "ps" in spaces:
            method = METHODS[self.method]
            ranges = {p.name: list(p.typical) for p in method.parameters if p.name in self.genes}
            genome = {"granularity": self.granularity, "genes": ranges}
            document |= {"merge_method": self.method, "genome": genome}
            if method.base == "required" and not base:
                raise SearchError(
                    f"{method.name} builds on a base model: choose in step 1 what these were tuned from. Where their "
                    'cards do not say it, "Propose models that go with these" finds it by their weights.'
                )
            if base and method.takes_base:
                document["base_model"] = base
        if "dfs" in spaces:
            document["data_flow"] = {"repeats": 2}
        if self.objectives != ["score"]:
            document["fitness"] = {"objectives": self.objectives}
        if self.economy:
            document["economy"] = {"racing": True}
        search = Search.from_dict(document)
        if self.minutes:
            search = search.within(self.minutes)
        return search.compared() if self.compared else search

    def _task(self, given: Mapping[str, Any] | str | None, token: str | None) -> Mapping[str, Any]:
        if not self.looks:
            return self._examples(given, token)
        if self.looks not in LOOKING:
            raise TaskError(f"Who looks at pictures is one of {', '.join(LOOKING)}, not {self.looks[:40]!r}.")
        if not self.looker.strip():
            raise TaskError("Name the model that looks at the pictures, by its Hub ID.")
        draw = self._draw()
        if self.prompts.strip():
            task: Mapping[str, Any] = {"name": "prompts", "examples": prompts_of(self.prompts)}
        else:
            task = self._examples(given, token)
        kept = {key: task[key] for key in ("name", "examples", "prompt", "answer", "language") if key in task}
        captions = {"answer": "{answer}"} if self.file and not self.prompts.strip() else {}
        return {**captions, **kept, self.looks: self.looker.strip(), "draw": draw}

    def _draw(self) -> dict[str, Any]:
        """What `draw` says in the task's document. Raises `TaskError` as it would of YAML."""
        seeds = [int(one) if one.isascii() and one.isdigit() and len(one) < 19 else one for one in _words(self.seeds)]
        said = {
            "steps": int(self.steps) if self.steps is not None and self.steps % 1 == 0 else self.steps,
            "seeds": seeds or None,
            "guidance": as_number(self.guidance),
            "height": as_number(self.height),
            "width": as_number(self.width),
            "negative": self.negative.strip() or None,
        }
        document = {key: value for key, value in said.items() if value is not None}
        Draw.from_document(document)
        return document

    def _examples(self, given: Mapping[str, Any] | str | None, token: str | None) -> Mapping[str, Any]:
        longest = int(self.longest)
        if self.file:
            return task_of_file(Path(self.file), self.language, longest)

        def files(dataset: str) -> Iterable[str]:
            ref = ModelRef.parse(dataset)
            return () if ref.reads_folder or ref.lora else open_repository(ref, token, "dataset")[1].files

        return task_of(given, self.task, self.language, longest, self.picture, files)


def _document(name: str, examples: Mapping[str, Any], language: str | None, max_new_tokens: int) -> Mapping[str, Any]:
    more = {"language": language} if language else {}
    return {"name": name, "examples": examples, **more, "max_new_tokens": max_new_tokens}


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _at_most(examples: Any, count: int) -> int:
    return min(count, len(examples)) if isinstance(examples, list) else count


def _csv(text: str, name: str) -> list[Mapping[str, Any]]:
    try:
        return list(csv.DictReader(text.splitlines()))
    except csv.Error as exc:
        raise TaskError(f"{name} is not CSV that can be read: {exc}.") from None


def _json_lines(text: str, name: str) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for number, line in enumerate(filter(str.strip, text.splitlines()), 1):
        try:
            row = parse_object(line, name, TaskError)
        except TaskError:
            raise TaskError(f'{name}, line {number}: expected {{"question": ..., "answer": ...}}.') from None
        rows.append(row)
    return rows
