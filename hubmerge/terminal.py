"""What the command line shows: progress bars, plans, tables. Nothing here decides anything."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree as Branches

from .amounts import duration, size
from .console import Wide, err, marked, out
from .console import clean_logs as clean_logs
from .console import clean_output as clean_output
from .progress import Event
from .progress import Progress as Callback

if TYPE_CHECKING:
    from .evaluate.table import Row
    from .evolve.plan import SearchPlan
    from .extract.adapter import Extraction
    from .hub.source import Source
    from .lineage.tree import Tree as Lineage
    from .reproduce import Reproduction
    from .stream.findings import Finding
    from .stream.plan import Plan
    from .stream.verify import Verification


@contextmanager
def progress_bars() -> Iterator[Callback]:
    """Bars for every stage of the work inside, one line a stage; plain lines where the output is not a terminal."""
    if not err.is_terminal or err.is_dumb_terminal:
        with _progress_lines() as lines:
            yield lines
        return
    columns = (
        TextColumn("{task.description:<12}", style="cyan", markup=False),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=err, transient=False) as bars:
        tasks: dict[str, TaskID] = {}
        paces: dict[str, _Pace] = {}

        def show(event: Event) -> None:
            if event.stage not in tasks:
                tasks[event.stage] = bars.add_task(event.stage, total=None, amount="", note="")
            elif event.done < bars.tasks[tasks[event.stage]].completed:  # the stage begins again
                bars.reset(tasks[event.stage])
            bars.update(
                tasks[event.stage],
                completed=event.done,
                total=event.total or None,
                amount=_amount(event),
                note="  ".join(filter(None, [event.note, paces.setdefault(event.stage, _Pace()).left(event)])),
            )

        yield show


class _Pace:
    """How fast a stage goes: what this run did over the last few events. What an earlier run had done counts for
    nothing, nor does what was done before the stage began again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque(maxlen=32)
        self._last = Event("", 0, 0)

    def left(self, event: Event) -> str:
        """What is left of the stage at that pace, in words; nothing where that is not known."""
        now, own = self._clock(), event.done - event.kept
        if event.done < self._last.done or event.kept > self._last.kept:
            self._seen.clear()
        self._last = event
        if not self._seen or own > self._seen[-1][1]:
            self._seen.append((now, own))
        began, before = self._seen[0]
        seconds, done = self._seen[-1][0] - began, self._seen[-1][1] - before
        if seconds <= 0 or not 0 < event.done < event.total:
            return ""
        return f"about {duration(seconds / done * (event.total - event.done))} left"


QUIET = 30.0
"""Seconds between two lines about one stage, where no bar can be drawn."""


@contextmanager
def _progress_lines(clock: Callable[[], float] = time.monotonic) -> Iterator[Callback]:
    """A line where a stage begins, one now and then, and one about where each stage came to: as soon as another begins
    where it is done, else at the end."""
    began = last = clock()
    current: dict[str, Event] = {}
    paces: dict[str, _Pace] = {}
    told: dict[str, Event] = {}

    def tell(event: Event) -> None:
        told[event.stage] = event
        words = [event.stage, _amount(event) if event.done or event.total else "", event.note]
        words.append(paces[event.stage].left(event))
        line = "  ".join([*filter(None, words), duration(clock() - began)])
        err.print(line, soft_wrap=True)

    def tell_rest(which: Callable[[Event], bool] = lambda event: True) -> None:
        for stage, event in current.items():
            if told[stage] != event and which(event):
                tell(event)

    def show(event: Event) -> None:
        nonlocal last
        is_new = event.stage not in current
        if is_new:
            tell_rest(lambda before: 0 < before.total <= before.done)
        current.pop(event.stage, None)  # what is told last comes last
        current[event.stage] = event
        paces.setdefault(event.stage, _Pace(clock)).left(event)
        if is_new or clock() - last >= QUIET:
            last = clock()
            tell(event)

    try:
        yield show
    finally:
        tell_rest()


def _amount(event: Event) -> str:
    if event.unit == "B":
        done, total = size(event.done), size(event.total) if event.total else ""
    else:
        done, total = f"{event.done:,}", f"{event.total:,} {event.unit}" if event.total else event.unit
    return f"{done}/{total}" if event.total else f"{done} {total}".strip()


def show_json(value: object) -> None:
    """Prints plain values as JSON, for programs."""
    out.print(json.dumps(value, indent=2, ensure_ascii=False), soft_wrap=True)


def show_plan(plan: Plan) -> None:
    """Prints what a merge will do: sources, output, cost, warnings; what forbids it is left to `plan.require`."""
    from .recipe import Recipe

    _show_sources(plan.sources)
    if not plan.tensors:  # what is refused has no result to tell of
        _show_findings(plan.findings)
        return
    dtypes = sorted({tensor.dtype for tensor in plan.tensors})
    before = "".join(f"{', '.join(stage.methods)} (stage:{stage.name}), then " for stage in plan.stages[:-1])
    named = isinstance(plan.recipe, Recipe) and plan.recipe.modules
    parts = [f"{', '.join(stage.methods)} ({name})" for name, stage in plan.stage.modules if named]
    if isinstance(plan.recipe, Recipe) and (taken := plan.recipe.copied):
        parts.append(f"copied ({', '.join(taken)})")
    carried = plan.stage.carried
    result = (
        f"{len(plan.tensors)} tensors{f' ({carried} of them carried as they are)' if carried else ''}, "
        f"{plan.parameters:,} parameters, "
        f"{', '.join(dtypes)}, {size(plan.output_bytes)} in {len(plan.shards)} file(s)"
    )
    out.print(marked("\n{}[bold]{}[/] -> {}", before, ", ".join(parts) or plan.recipe.merge_method, result))
    spilled = f" ({size(plan.spill_bytes)} of it for stages that are read twice)" if plan.spill_bytes else ""
    cores = f"{plan.threads} core{'s' if plan.threads > 1 else ''}"
    out.print(
        f"to fetch {size(plan.fetch_bytes)} | peak memory {size(plan.peak_memory)} | "
        f"disk {_disk(plan.disk_bytes)}{spilled} | computing {duration(plan.compute_seconds)} on {cores}"
    )
    for one in plan.statistics:
        out.print(marked("measure [bold]{}[/]", one.told), soft_wrap=True)
    _show_findings(plan.findings)


def show_extraction(extraction: Extraction) -> None:
    """Prints how near a LoRA comes to what a model learnt, by kinds of modules, and what it cannot say."""
    from .extract.summary import kinds

    plan = extraction.plan
    _show_sources(plan.sources)
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="dim")
    for heading in ("modules", "number", "rank", "energy kept", "least of them"):
        table.add_column(heading, justify="left" if heading == "modules" else "right")
    for kind in kinds(extraction):
        row = f"{kind.modules:,}", kind.ranks, f"{kind.energy:.1%}", f"{kind.least:.1%}"
        table.add_row(kind.name, *row)
    out.print()
    out.print(table)
    same = f", {extraction.unchanged:,} unchanged" if extraction.unchanged else ""
    result = (
        f"{len(extraction.modules):,} modules{same}, {plan.parameters:,} parameters, "
        f"{size(plan.output_bytes)}: {extraction.energy:.1%} of the square of what changed in them, "
        f"error {max(0.0, 1 - extraction.energy) ** 0.5:.1%}"
    )
    out.print(marked("\n[bold]extract-lora[/] -> {}", result))
    _show_findings(plan.findings)


def show_search_plan(plan: SearchPlan) -> None:
    """Prints what a search will do: its models, its genes and budget, what it fetches, writes and holds; warnings as
    `show_plan`."""
    _show_sources(plan.models)
    spaces = {"ps": "recipes", "dfs": "paths through the layers"}
    for phase in plan.phases:
        genes = ", then ".join(f"{count:,}" for count in phase.genes)
        budget = (
            f"{phase.searcher}, {phase.evaluations:,} evaluations"
            f"{f' or {phase.minutes:g} minutes of them' if phase.minutes else ''}, {genes} genes"
        )
        out.print(marked("\n[bold]{}[/]: {}", spaces[phase.space], budget))
    if plan.begun_with is not None:
        out.print(marked("begins with {}", plan.begun_with), soft_wrap=True)
    asked = f"drawing comes on top ({plan.together} pictures at a time)"
    if plan.demand is not None:
        asked = (
            f"asking it {size(plan.held.generation)} ({plan.demand.prompts} prompts of up to "
            f"{plan.demand.prompt_tokens} tokens at a time, {plan.demand.new_tokens} new ones)"
        )
    out.print(
        f"to fetch {size(plan.fetch)} | disk {_disk(plan.output)} | memory: models {size(plan.held.sources)} "
        f"(mapped files), one candidate {size(plan.held.model)}, making it {size(plan.held.merging)}, {asked}"
    )
    _show_findings(plan.findings)


def _disk(count: int) -> str:
    from .stream.budget import SMALL_FILES

    return f"{size(count)} (with {size(SMALL_FILES)} left free for tokenizer, card and records)"


def _show_findings(findings: Sequence[Finding]) -> None:
    # Errors end the command, which says them then, and once is enough.
    for finding in findings:
        if finding.level == "warning":
            out.print(marked("[yellow]warning:[/] {}", finding.message))
    if not findings:
        out.print("no problems found", style="green")
    elif not any(finding.level == "error" for finding in findings):
        out.print("nothing stands in its way", style="green")


def _show_sources(sources: Iterable[Source]) -> None:
    from .hub.auto_class import class_of

    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="dim")
    for heading in ("source", "commit", "architecture", "parameters", "dtype", "licence"):
        justify: Literal["left", "right"] = "right" if heading == "parameters" else "left"
        table.add_column(heading, justify=justify, no_wrap=heading not in ("source", "architecture"), overflow="fold")
    for source in sources:
        dtypes = sorted({tensor.dtype for tensor in source.tensors.values()})
        table.add_row(
            "\n+ ".join(part.ref.whole for part in source.parts),
            "\n".join(part.commit[:8] if part.commit else "folder" for part in source.parts),
            _architecture([own] if (own := class_of(source.config)) else source.config.get("architectures")),
            f"{source.parameters:,}",
            ", ".join(dtypes),
            "\n".join(part.licence.id or "unknown" for part in source.parts),
        )
    out.print(table)


def show_verification(result: Verification) -> None:
    """Prints how much was checked, and that all of it is right or what is not."""
    hashed = f"{size(result.nbytes)} hashed in {result.seconds:.1f} s"
    out.print(marked("[bold]{}[/]: {}", result.model, hashed))
    out.print(f"{result.matching:,} tensor(s) as the merge wrote them", style="green")
    if result.unreproduced == ():
        out.print("merged again, all came out the same", style="green")
    if result.remark is not None:
        out.print(result.remark, style="yellow")
    for finding in result.findings:
        out.print(finding, style="red")


def show_tree(tree: Lineage, out: Console = out) -> None:
    """Draws what models come from, each under what was made of it; what several have in common, and their base."""
    from .lineage.likeness import YARDSTICK

    drawn: set[str] = set()

    def grow(branch: Branches, name: str, depth: int = 1) -> int:
        """Draws what is below; how many levels that are."""
        node, deepest = tree.nodes[name], depth
        for remark in node.remarks:
            branch.add(Text(remark, style="yellow"))
        for doubt in node.doubted:
            said = f"{doubt.told} says {doubt.repo_id}, whose weights are others' ({doubt.likeness:.2f})"
            branch.add(Text(said, style="red"))
        for parent in node.parents:
            told = [parent.relation or "", f"by its {parent.told}" if parent.told != "likeness" else "by its weights"]
            near = f"{parent.likeness:.3f} alike" if parent.likeness is not None else ""
            gone = tree.nodes[parent.repo_id].gone if parent.repo_id in tree.nodes else None
            seen = "drawn above" if parent.repo_id in drawn and tree.nodes[parent.repo_id].parents else ""
            note = ", ".join(filter(None, [*told, near, gone, seen]))
            below = branch.add(marked("{} [dim]{}[/]", parent.repo_id, note))
            if parent.repo_id not in drawn and parent.repo_id in tree.nodes:
                drawn.add(parent.repo_id)
                deepest = max(deepest, grow(below, parent.repo_id, depth + 1))
        return deepest

    for name in tree.asked:
        top = Branches(marked("[bold]{}[/]", name))
        drawn.add(name)
        levels = grow(top, name)
        out.print(Wide(top, 4 * levels + 80), crop=False)  # each level is four letters further in
    if len(tree.asked) > 1:
        common = ", ".join(tree.common) or "none that is known"
        out.print(marked("\ncommon ancestors, the nearest first: {}", common), soft_wrap=True)
    if tree.base is not None:
        out.print(marked("base that fits: [bold]{}[/]", tree.base), soft_wrap=True)
    elif tree.common and tree.asked[1:]:
        out.print("base that fits: none; each of these was tuned itself, or cannot be read", soft_wrap=True)
    if tree.distances:
        out.print(f"how far from it ({YARDSTICK}):", soft_wrap=True)
    for name, apart in (tree.distances or {}).items():
        out.print(marked("  {}: {}", name, f"{apart:.1%}"), soft_wrap=True)
    if tree.kinship:
        out.print("how alike what they add to it is (0: different things; 1: the same):", soft_wrap=True)
    for (one, other), value in (tree.kinship or {}).items():
        out.print(marked("  {} and {}: {}", one, other, _hundredths(value)), soft_wrap=True)
    if tree.siblings:
        out.print("siblings that fit, those that learnt something else first:")
    for found in tree.siblings:
        told = f"at most {_hundredths(found.kinship)} alike, {found.distance:.1%} from the base"
        out.print(marked("  {} [dim]{}[/]", found.repo_id, told), soft_wrap=True)


def _hundredths(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # never -0.00


def show_reproduction(result: Reproduction) -> None:
    """Prints how many tensors came out as they are stored, and which did not."""
    where = marked(" into [bold]{}[/]", result.folder) if result.folder else ""
    told = marked("[bold]{}[/]: {} merged again by {}", result.model, size(result.nbytes), result.file)
    out.print(told.append(where).append(f" in {result.seconds:.1f} s"), soft_wrap=True)
    all_of = "all " if result.ok else ""
    out.print(f"{all_of}{result.identical:,} tensor(s) identical", style="green")
    for finding in result.findings:
        out.print(finding, style="red")


def _architecture(stated: object) -> str:
    """The architecture by as short a name as says it: what most models are is left out, so that a row fits a line."""
    names = [name for name in stated if isinstance(name, str)] if isinstance(stated, list) else []
    return ", ".join(name.removesuffix("ForCausalLM") or name for name in names) or "?"


def show_results(rows: Sequence[Row], title: str, spoken: bool) -> None:
    """Prints scores with their number of examples and 95% intervals, and p against the last row.

    `spoken`: whether the task asks for a language; then a score has two parts, which are shown too: what it would be in
    any language, and the share in that one.
    """
    compared = any(row.p_value is not None for row in rows)
    otherwise = "right" if all(isinstance(row.values, str) for row in rows) else "any language"  # 0 and 1, or shares
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    table.add_column("model")
    for heading in (
        "score",
        "95% interval",
        "n",
        *([otherwise, "language"] if spoken else []),
        *(["p"] if compared else []),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        values = [f"{row.value:.1%}", f"{row.low:.1%} - {row.high:.1%}", str(row.n)]
        values += [f"{row.metric:.1%}", f"{row.language:.1%}"] if spoken else []
        if compared:
            values.append("" if row.p_value is None else "<.001" if row.p_value < 0.001 else f"{row.p_value:.3f}")
        table.add_row(row.model, *values, style="bold green" if compared and row.p_value is None else "")
    out.print(table)
    if compared:
        out.print("p: how often chance alone parts two models so far (paired with the last row)", style="dim")
    for row in rows:
        if row.note:
            out.print(f"{row.model}: {row.note}", style="dim")
