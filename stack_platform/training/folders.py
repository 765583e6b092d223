"""A folder that is there whole or not at all.

Everything is written to a hidden neighbor, which takes the place of the target by a rename at the end. A kill
leaves at most the hidden neighbor. Where the target exists it is moved aside first, because a rename cannot
replace a folder that holds files: a kill between the two renames leaves no target, and the old one under its
hidden name.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to write to, which becomes `target` when the `with` block ends without an error."""
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    unique = uuid.uuid4().hex[:12]
    fresh = target.with_name(f".{target.name}.{unique}.new")
    stale = target.with_name(f".{target.name}.{unique}.old")
    fresh.mkdir()
    try:
        yield fresh
        if target.exists():
            target.rename(stale)
        fresh.rename(target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        if stale.exists() and not target.exists():
            stale.rename(target)
        raise
    shutil.rmtree(stale, ignore_errors=True)
