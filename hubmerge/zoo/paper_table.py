"""The table of `hubmerge.zoo.paper` as values: what every contestant got on every problem, joined by problem."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..documents import parse_object
from ..errors import SearchError
from ..evaluate.statistics import Marks, interval, marks_of, mean_marks
from ..evolve.records.folder import RESULTS_FILE
from .paper import Run
from .trade_off import ENGLISH_FILE, TEST, TRADE_OFF_FILE, Point, read_points
from .word_problems import problems

OURS = "evolved: recipes (PS)"
NAMES = {
    "ps": OURS,
    "dfs": "evolved: paths (DFS)",
    "ps-dfs": "evolved: both (PS+DFS)",
    "ps-all": "evolved: recipes of all four experts",
    "ps-useful": "evolved: the same without the irrelevant one",
}
UNTUNED = ("average", "task arithmetic, untuned", "TIES, untuned", "DARE-TIES, untuned")
TUNED = "task arithmetic, best of five scales"


@dataclass(frozen=True)
class Line:
    """One contestant over one zoo.

    `runs`: its marks with each seed of the search, in the seeds' order; one, where every seed gave the same.
    `metric` and `language`: the shares of right numbers and of answers in Japanese, means over the seeds.
    `seconds` and `evaluations` of one search, 0 where nothing was searched; `english`: right numbers on the English
    twins, None where not asked; `note`: how it was chosen.
    """

    name: str
    runs: tuple[Marks, ...]
    metric: float
    language: float
    seconds: float = 0.0
    evaluations: int = 0
    english: float | None = None
    note: str = ""

    @property
    def marks(self) -> Marks:
        """The mean over the seeds on each problem."""
        return mean_marks(self.runs)

    @property
    def score(self) -> float:
        """The mean over problems and seeds, 0..1."""
        return mean(self.marks.values())

    @property
    def by_seed(self) -> tuple[float, ...]:
        """The score of each seed; one, where every seed gave the same."""
        return tuple(mean(run.values()) for run in self.runs)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the score over problems: of these very models (and seeds), asked other problems."""
        marks = self.marks
        return interval([marks[problem] for problem in sorted(marks)], resamples=10_000)


@dataclass(frozen=True)
class Table:
    """All contestants over one zoo, the test problems of seen templates, and mixtures with the math expert."""

    zoo: str
    lines: tuple[Line, ...]
    seen: frozenset[str]
    mixtures: tuple[Point, ...] = ()

    def __post_init__(self) -> None:
        asked = self.problems
        for line in self.lines:
            if any(run.keys() != asked for run in line.runs):
                raise ValueError(f"{self.zoo}: {line.name} was asked other problems than {self.lines[0].name}.")

    @property
    def problems(self) -> frozenset[str]:
        """The test problems, which every contestant was asked."""
        return frozenset(self.lines[0].runs[0])

    def line(self, name: str) -> Line:
        """The line of that name."""
        return next(line for line in self.lines if line.name == name)

    @property
    def rivals(self) -> tuple[Line, ...]:
        """What PS has to beat: the best untuned merge of any set of models, the best with a tuned scale, the grid,
        random search."""
        by_hand = [[line for line in self.lines if line.name.startswith(names)] for names in (UNTUNED, (TUNED,))]
        others = [line for line in self.lines if "same budget" in line.name]
        return (*(max(lines, key=lambda line: line.score) for lines in by_hand if lines), *others)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, small: the problems once, and of a run a row of digits in their order."""
        from ..evaluate.table import pack

        order = sorted(self.problems)
        lines = [
            {**vars(line), "runs": [pack([run[problem] for problem in order]) for run in line.runs]}
            for line in self.lines
        ]
        return {
            "zoo": self.zoo,
            "problems": order,
            "seen": pack([float(problem in self.seen) for problem in order]),
            "lines": lines,
            "mixtures": [asdict(point) for point in self.mixtures],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Table":
        """Reads what `to_dict` gives."""
        from ..evaluate.table import unpack

        order = document["problems"]
        lines = tuple(
            Line(**{**line, "runs": tuple(marks_of(order, unpack(run)) for run in line["runs"])})
            for line in document["lines"]
        )
        seen = frozenset(problem for problem, kind in zip(order, document["seen"], strict=True) if kind == "1")
        return cls(document["zoo"], lines, seen, tuple(Point(**point) for point in document["mixtures"]))


@dataclass(frozen=True)
class _Found:
    """What one run says of one contestant."""

    marks: Marks
    metric: float
    language: float
    facts: Mapping[str, Any]
    english: float | None
    note: str


def table(runs: Sequence[Run], out: Path) -> Table:
    """The table of the runs over one zoo, all of them finished."""
    found: dict[str, list[_Found]] = {}
    for run in runs:
        for name, one in _rows(run, out):
            found.setdefault(name, []).append(one)
    mixed = next((run.folder(out) / TRADE_OFF_FILE for run in runs if run.mixed), None)
    mixtures = read_points(mixed) if mixed else ()
    lines = tuple(_line(name, rows) for name, rows in found.items())
    return Table(runs[0].zoo.namespace, lines, _seen(runs[0]), mixtures)


def _line(name: str, rows: Sequence[_Found]) -> Line:
    runs = tuple(row.marks for row in rows)
    searched = name in NAMES.values()
    asked = [row.english for row in rows if row.english is not None]
    return Line(
        name,
        runs[:1] if all(run == runs[0] for run in runs) else runs,
        mean(row.metric for row in rows),
        mean(row.language for row in rows),
        mean(row.facts["seconds"] for row in rows) if searched else 0.0,
        rows[0].facts["evaluations"] if searched else 0,
        mean(asked) if asked else None,
        "; ".join(dict.fromkeys(row.note for row in rows if row.note)),
    )


def _rows(run: Run, out: Path) -> Iterator[tuple[str, _Found]]:
    """What a run adds to the table, under the names there."""
    from ..evolve.compared.contestants import EVOLVED_RECIPE, LABELS
    from ..evolve.compared.scales import SCALED_LABEL
    from ..evolve.records.results import EVOLVED, Results

    stored = Results.read(run.folder(out) / RESULTS_FILE)
    for row in stored.rows:
        name, english = row.model, None
        if row.model == EVOLVED:
            name = NAMES[run.name]
            asked = run.folder(out) / ENGLISH_FILE
            english = parse_object(asked.read_bytes(), str(asked), SearchError).get("value") if asked.exists() else None
        elif run.name == "ps-all" and row.model in (*LABELS.values(), SCALED_LABEL):
            name = f"{row.model} (all four)"
        elif row.model != EVOLVED_RECIPE and (run.name == "ps" or (run.name == "ps-all" and "/" in row.model)):
            name = row.model.partition("/")[2] or row.model
        else:
            continue
        yield name, _Found(row.marks, row.metric, row.language, stored.facts, english, row.note)


def _seen(run: Run) -> frozenset[str]:
    """The test problems of seen templates, by the names that the runs know them by."""
    from ..evaluate.task import load_task

    task = load_task(run.search.task, counts=run.search.splits)
    kinds = {problem.question: problem.template for problem in problems(TEST, 600)}
    asked = zip(task.problems(TEST), task.test, strict=True)
    return frozenset(name for name, example in asked if kinds[example.prompt] == "seen")


def mean(values: Iterable[float]) -> float:
    """The mean of some numbers."""
    every = list(values)
    return sum(every) / len(every)
