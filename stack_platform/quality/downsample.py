"""Make a language smaller to a cap of bytes, so that files stay where they stayed before.

Files are put in the order of a keyed hash of their content id; those stay whose bytes, added up in that order, fit
under the cap. So what stays under one cap stays under every larger one, and a new file can only move the border:
files far from it do not change sides. Copies of a content stand together, by repository and path. The key decides
which sample is drawn.
Known error: a language ends up below its cap by up to the size of the first file that did not fit.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from stack_platform.errors import ConfigError, SchemaError
from stack_platform.quality.policy import Evidence, Reasons

_NEEDED = ("language", "content_id", "repo_name", "path", "length_bytes")


def downsample(
    files: pa.Table, caps: Mapping[str, int], key: bytes = b"downsample"
) -> tuple[Reasons, Evidence]:
    """Find the files that leave their language over its cap: reason `over_cap` and evidence, None where one stays.

    Columns in: language, content_id, repo_name, path, length_bytes. caps: language to bytes; other languages stay
    whole. The answer does not depend on the order of the rows. Raises SchemaError for a missing column, ConfigError
    for a cap below 0 or a key of more than 64 bytes.
    """
    missing = [name for name in _NEEDED if name not in files.column_names]
    if missing:
        raise SchemaError(
            f"down-sampling needs the columns {', '.join(missing)}; the table has {files.column_names}"
        )
    for language, cap in caps.items():
        if cap < 0:
            raise ConfigError(f"the cap of {language} is {cap}; write bytes, or leave the language out")
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        raise ConfigError(f"the key of down-sampling has {len(key)} bytes; write at most 64")
    reasons: Reasons = [None] * files.num_rows
    evidence: Evidence = [None] * files.num_rows
    languages = np.array(files["language"].to_pylist(), dtype=object)
    for language, cap in caps.items():
        rows = np.flatnonzero(languages == language)
        total, leaving = _over_cap(files.take(rows), cap, key)
        for row in rows[leaving].tolist():
            reasons[row] = "over_cap"
            evidence[row] = {"signal": "language_bytes", "value": total, "limit": cap}
    return reasons, evidence


def _over_cap(files: pa.Table, cap: int, key: bytes) -> tuple[int, list[int]]:
    """Return the bytes of a language's files and the rows that leave."""
    sizes = files["length_bytes"].to_pylist()
    total = sum(sizes)
    if total <= cap:
        return total, []
    keys = list(zip(*(files[name].to_pylist() for name in ("content_id", "repo_name", "path")), strict=True))
    ranks = [
        hashlib.blake2b(str(content).encode(), digest_size=8, key=key).digest() for content, _, _ in keys
    ]
    order = sorted(range(len(sizes)), key=lambda row: (ranks[row], keys[row]))
    reached = np.cumsum([sizes[row] for row in order])
    return total, order[int(np.searchsorted(reached, cap, side="right")) :]
