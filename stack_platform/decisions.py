"""The one ledger of removals and redactions: who, at which stage, why, on what evidence.

A stage decides by writing rows of this table; `apply` takes files and decisions and gives the files that stay.
A subject of kind `file` is one path of one repository, `content` every copy of the bytes, `repository` all of its
files. Evidence is a JSON object with sorted keys: a rule and the text it matched, a witness and its similarity.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform.errors import SchemaError
from stack_platform.manifests import canonical_json
from stack_platform.schemas import DECISIONS

DROP, REDACT = "drop", "redact"


def decide(
    files: pa.Table,
    action: str,
    stage: str,
    reasons: Sequence[str],
    evidence: Sequence[Mapping[str, Any]],
    policy_version: str,
) -> pa.Table:
    """Write one decision for each of the files.

    Columns in: repo_name, path, content_id, language (a missing language is null). `reasons` and `evidence` have
    one entry a file.
    """
    n = files.num_rows
    languages = files["language"] if "language" in files.column_names else pa.nulls(n, pa.string())
    columns = {
        "subject": ["file"] * n,
        "swhid": pc.binary_join_element_wise("swh:1:cnt", files["content_id"].cast(pa.string()), ":"),
        "repo_name": files["repo_name"],
        "path": files["path"],
        "language": languages,
        "action": [action] * n,
        "stage": [stage] * n,
        "reason": pa.array(reasons, pa.string()),
        "evidence": pa.array([canonical_json(e) for e in evidence], pa.string()),
        "policy_version": [policy_version] * n,
    }
    return pa.table(columns).cast(DECISIONS)


def none() -> pa.Table:
    """Return the empty decisions table: everything stays as it is."""
    return DECISIONS.empty_table()


def apply(files: pa.Table, decisions: pa.Table) -> pa.Table:
    """Keep the files that no `drop` decision names; their order and columns stay.

    Raises:
        SchemaError: a decision has a subject of unknown kind.

    """
    drops = decisions.filter(pc.equal(decisions["action"], DROP))
    unknown = set(drops["subject"].unique().to_pylist()) - {"file", "content", "repository"}
    if unknown:
        raise SchemaError(
            f"decisions name subjects of unknown kind {sorted(unknown)}; known are file, content, repository"
        )
    gone = pc.is_in(_file_keys(files), _file_keys(_of_kind(drops, "file")))
    contents = pc.binary_join_element_wise("swh:1:cnt", files["content_id"].cast(pa.string()), ":")
    gone = pc.or_(gone, pc.is_in(contents, _of_kind(drops, "content")["swhid"].combine_chunks()))
    gone = pc.or_(
        gone, pc.is_in(files["repo_name"], _of_kind(drops, "repository")["repo_name"].combine_chunks())
    )
    return files.filter(pc.invert(gone))


def count_reasons(decisions: pa.Table, action: str = DROP) -> dict[str, int]:
    """Count the decisions of an action by reason, most frequent first."""
    chosen = decisions.filter(pc.equal(decisions["action"], action))
    counts = Counter(chosen["reason"].to_pylist())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _of_kind(decisions: pa.Table, kind: str) -> pa.Table:
    return decisions.filter(pc.equal(decisions["subject"], kind))


def _file_keys(table: pa.Table) -> pa.Array:
    """Join repository and path by NUL, which neither can hold."""
    joined = pc.binary_join_element_wise(
        table["repo_name"].cast(pa.string()), table["path"].cast(pa.string()), "\0"
    )
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined
