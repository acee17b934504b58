"""The process that `studio.py` starts: it draws what it is asked for, one request after another, within its memory.

Requests and answers are JSON, one a line. The pipeline that was asked last stays. It reads what is on this machine and
asks no Hub: whoever asks it has fetched the model, and holds the token.
"""

import base64
import io
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import HubmergeError, Interrupted, ResourceError, TaskError
from ..hub.source import open_source
from .drawing import Draw, Painter
from .examples import Example

SHARE = 0.5
"""Of the memory that is free when it begins, where no other limit is given: two processes may draw at a time."""
_SIDE = 512
"""Of a picture by a pipeline that does not say how large its own are."""


class _Process:
    """What is held between requests: the last pipeline, and the number of the request that is to stop."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.painter: Painter | None = None
        self.stopped = -1

    def draw(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The pictures that a request asks for, prompt by prompt, and each step before: {"picture": PNG in base64}."""
        from .pipelines import load_painter

        plain = Draw(int(request["steps"]), guidance=request["guidance"], negative=request["negative"])
        if request["model"] != self.name or self.painter is None:
            self.painter = None
            self.painter = load_painter(open_source(request["model"]), plain)
            self.name = request["model"]
        pipeline = self.painter.pipeline
        side = _side(pipeline, request["side"], request["most_side"])
        how = replace(plain, height=side, width=side)
        how.require_takes(type(pipeline))
        _shorten(pipeline)
        for prompt in request["prompts"]:
            for seed in request["seeds"]:
                yield from self._picture(self.painter, request["id"], Example(prompt, ""), replace(how, seeds=(seed,)))

    def _picture(self, painter: Painter, number: int, example: Example, how: Draw) -> Iterator[dict[str, Any]]:
        steps = 0
        network = next((painter.parts[name] for name in ("unet", "transformer") if name in painter.parts), None)

        def before(part: Any, *_: Any) -> None:
            nonlocal steps
            if self.stopped >= number:
                raise Interrupted("The picture was taken back.")
            if part is network:
                steps += 1
                _say({"id": number, "step": min(steps, how.steps)})

        watched = [part.register_forward_pre_hook(before) for part in painter.parts.values()]
        try:
            for _, _, picture in painter.draw([example], how, 1):
                file = io.BytesIO()
                picture.save(file, "PNG")
                yield {"picture": base64.b64encode(file.getvalue()).decode()}
        finally:
            for one in watched:
                one.remove()

    def look(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """How many numbers a model's processor makes of a picture: {"numbers": n}."""
        from ..stream.carried import Carried
        from .models import load_processor
        from .pictures import Picture, Place
        from .seeing import processed, question_texts

        processor, where = load_processor(Carried(open_source(request["model"]))), Place(Path(request["picture"]))
        example = Example(request["text"], "", image=Picture.of(where.read(), where))
        made = processed(processor, [example], question_texts(processor, [example], None))
        yield {"numbers": sum(int(value.numel()) for value in made.values() if hasattr(value, "numel"))}


def serve(memory: int, limited: bool) -> None:
    """Answers requests from standard input until it ends. `memory`: bytes that this may take beyond what it begins
    with, 0: `SHARE` of what is free, where it is `limited` at all."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    global _say
    _say = partial(_write, answers)
    process, requests = _Process(), queue.SimpleQueue[dict[str, Any]]()

    def listen() -> None:
        for line in sys.stdin:
            request = json.loads(line)  # of the process that started this one
            if "stop" in request:
                process.stopped = max(process.stopped, int(request["stop"]))
            else:
                requests.put(request)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    if limited:
        _limit(memory)
    while True:
        request = requests.get()
        number = request["id"]
        try:
            for answer in getattr(process, request["work"])(request):
                _say({"id": number, **answer})
            _say({"id": number, "done": True})
        except HubmergeError as exc:
            _say({"id": number, "error": str(exc), "kind": type(exc).__name__})
        except MemoryError:
            process.name = process.painter = None
            _say({"id": number, "error": _TOO_MUCH, "kind": ResourceError.__name__})
        except Exception as exc:  # of diffusers and torch, which trip over strangers' settings in many ways
            process.name = process.painter = None
            short = "allocate memory" in str(exc) or "out of memory" in str(exc)
            said = (str(exc) or type(exc).__name__).splitlines()[0][:200]
            kind = ResourceError if short else TaskError
            _say(
                {
                    "id": number,
                    "error": _TOO_MUCH if short else f"The model cannot be used: {said}",
                    "kind": kind.__name__,
                }
            )


_TOO_MUCH = "This takes more memory than there is to give; ask for a smaller picture, or take a smaller model."
_say: Any = None


def _write(file: Any, answer: Mapping[str, Any]) -> None:
    file.write(json.dumps(answer) + "\n")
    file.flush()


def _side(pipeline: Any, asked: int | None, most: int | None) -> int | None:
    """Pixels of a side: what was asked for, or else the pipeline's own within `most`; None: as the pipeline has it."""
    if asked is not None or most is None:
        return asked
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    sample = getattr(pipeline, "default_sample_size", None) or getattr(
        getattr(network, "config", None), "sample_size", None
    )
    own = sample * pipeline.vae_scale_factor if isinstance(sample, int) else _SIDE
    return max(8, min(own, most) // 8 * 8)


def _shorten(pipeline: Any) -> None:
    """A tokenizer that was told no length fills texts up to one that no memory holds."""
    for name, part in pipeline.components.items():
        if name.startswith("tokenizer") and getattr(part, "model_max_length", 0) > 10_000:
            part.model_max_length = 512


def _limit(memory: int) -> None:
    """Lets the system refuse what is beyond it (where it counts addresses: Linux does), unless a GPU maps its own."""
    import torch

    if torch.cuda.is_available() or not hasattr(os, "nice"):
        return
    import resource

    # What all work needs, and the threads of torch, are there before.
    from transformers import AutoProcessor  # noqa: F401

    from ..stream.device import free_memory
    from . import seeing  # noqa: F401

    with suppress(ImportError):
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline  # noqa: F401
    torch.ones(2**20).sum()

    most = memory or int(free_memory() * SHARE)
    os.nice(5)
    with suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as file:
        most += int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
