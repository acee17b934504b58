"""Pictures and texts as a Parquet file that the `datasets` library and the Hub's viewer read."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def features(texts: Iterable[str]) -> dict[str, Any]:
    """The columns as the `datasets` library describes them."""
    return {"image": {"_type": "Image"}, **{name: {"dtype": "string", "_type": "Value"} for name in texts}}


def picture_table(pictures: Sequence[tuple[str, bytes]], texts: Mapping[str, Sequence[str]]) -> bytes:
    """A table with the column `image`, of files by name and content, and `texts` by column; equal pictures lie once."""
    import pyarrow
    from pyarrow import parquet

    stored = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    images = [{"bytes": content, "path": name} for name, content in pictures]
    table = pyarrow.table([pyarrow.array(images, stored), *map(pyarrow.array, texts.values())], names=["image", *texts])
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features(texts)}})})
    file = io.BytesIO()
    # Rows of a hundred, as the viewer likes pictures; a dictionary of a group's pictures never falls back to plain.
    parquet.write_table(table, file, row_group_size=100, dictionary_pagesize_limit=2**24, compression="zstd")
    return file.getvalue()
