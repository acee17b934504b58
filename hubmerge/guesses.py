"""What somebody may have meant who wrote something else."""

import difflib
import re
from collections.abc import Iterable

_SURE = 0.6
_LIKELY = 0.5  # of a few short names: fp16 for float16


def nearest(given: str, known: Iterable[str], few: bool = False) -> str | None:
    """The known name that is most like the given one; None where none is. `few`: there are not many to confuse.

    >>> nearest("densty", ["weight", "density"])
    'density'
    >>> nearest("modles", ["modules", "models"])  # letters that changed places
    'models'
    >>> nearest("SLERP", ["linear", "slerp"])
    'slerp'
    """
    names = {name.casefold(): name for name in known}
    wanted = given[:60].casefold()
    swapped = (name for name in names if sorted(name) == sorted(wanted))
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=_LIKELY if few else _SURE)
    found = next(swapped, near[0] if near else None)
    return None if found is None else names[found]


def guess(given: object, known: Iterable[str], few: bool = False) -> str:
    """For the middle of a message: the question whether the nearest known name was meant; nothing where none is near.

    >>> guess("fp16", ["float32", "float16"], few=True)
    ' (did you mean float16?)'
    """
    near = nearest(str(given), known, few)
    return f" (did you mean {near}?)" if near is not None else ""


def missing_colon(name: object, value: object) -> str | None:
    """For the end of a message: how to write what YAML takes for a name without a value; None where it is none.

    >>> missing_colon("weight 0.7", None)
    'write a colon and a space between, as in `weight: 0.7`.'
    """
    found = _NO_COLON.fullmatch(str(name)[:60])
    return f"write a colon and a space between, as in `{found[1]}: {found[2]}`." if found and value is None else None


_NO_COLON = re.compile(r"([A-Za-z]\w*)(?: +|:)([^ ].*)")
