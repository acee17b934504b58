"""Makes ja-vlm-bench as a dataset repository, and puts it on a Hub.

One Parquet file a split, with pictures as the `datasets` library and the Hub's viewer read them, and a card.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ...errors import PlanError
from ...extras import require
from ...files import make_folder
from ...progress import Event, Progress, silent
from ...stream.written import Written
from ..cards import NAMESPACE
from .baselines import baselines
from .card import Made, bench_card
from .painter import paint
from .parquet import picture_table
from .rows import ASKED, SCENES, Row, rows
from .scenes import KINDS, Scene

NAME = "ja-vlm-bench"
TEXTS = ("id", "kind", "template", "question", "question_en", "answer", "answer_en")
"""The columns beside `image`."""
CARD = "README.md"


def write_bench(
    out: Path, scenes: Mapping[str, int] = SCENES, progress: Progress = silent, repo_id: str = f"{NAMESPACE}/{NAME}"
) -> Made:
    """Draw the benchmark into the folder `out`, with `scenes` pictures of each kind in a split; what was made.

    The card names `repo_id`. The same bytes every time, where Pillow, pyarrow and zlib are the same. Reports pictures.
    Raises `PlanError` where a file in `out` is somebody else's, `HubmergeError` where Pillow or pyarrow is missing.
    """
    require("PIL", "pyarrow")
    make_folder(out / "data", PlanError)
    written = Written(out)
    names = {split: f"data/{split}-00000-of-00001.parquet" for split in scenes}
    written.require([*names.values(), CARD])
    written.remove(CARD)  # while files are being replaced, nothing says what is in them
    asked = {split: [*rows(split, scenes)] for split in scenes}
    made = Made({}, {}, {}, baselines(asked["train"], asked["test"]), baselines(asked["test"], asked["test"])[-1].blind)
    total = len(KINDS) * sum(scenes.values())
    for split, listed in asked.items():
        pictures: list[bytes] = []
        for scene in _scenes(listed):
            done = sum(made.pictures.values()) + len(pictures)
            progress(Event("draw", done, total, "pictures", split))
            pictures.append(paint(scene).png())
        content = _parquet(listed, pictures)
        written.write(names[split], content)
        made.pictures[split] = len(pictures)
        made.nbytes[split] = len(content)
        made.digests[split] = _digest(listed, pictures)
    written.write(CARD, bench_card(made, repo_id).encode())
    progress(Event("draw", total, total, "pictures"))
    return made


def publish_bench(
    repo_id: str,
    token: str | None = None,
    endpoint: str | None = None,
    scenes: Mapping[str, int] = SCENES,
    progress: Progress = silent,
    public: bool = False,
) -> str:
    """Make the benchmark and upload it to the dataset repository `repo_id` of a Hub; its ID.

    Running it again makes no new commit. Raises `HubError` where the repository holds what hubmerge did not put there,
    or is public and was not asked to be.
    """
    from ...hub.agent import hub_api
    from ..publish import claim, upload

    require("PIL", "pyarrow")
    api = hub_api(token, endpoint)
    claim(api, repo_id, "dataset", private=not public)  # before the drawing, not after it
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_bench(folder, scenes, progress, repo_id)
        return upload(api, folder, repo_id, "dataset", f"Upload {NAME}")


def _scenes(listed: Sequence[Row]) -> Iterator[Scene]:
    return (row.scene for row in listed[::ASKED])


def _digest(listed: Sequence[Row], pictures: Sequence[bytes]) -> str:
    """sha256 of all texts and pictures of a split, whatever file they are in."""
    digest = hashlib.sha256()
    for row in listed:
        digest.update(json.dumps([getattr(row, name) for name in TEXTS], ensure_ascii=False).encode())
    for picture in pictures:
        digest.update(picture)
    return digest.hexdigest()


def _parquet(listed: Sequence[Row], pictures: Sequence[bytes]) -> bytes:
    """A split as Parquet; the picture that two rows share is stored once."""
    shown = [(f"{row.id.rpartition('-')[0]}.png", pictures[at // ASKED]) for at, row in enumerate(listed)]
    return picture_table(shown, {name: [getattr(row, name) for row in listed] for name in TEXTS})
