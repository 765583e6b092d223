"""The stage that writes texts again, with secrets and personal data replaced."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform import decisions
from stack_platform.corpus.texts import FilesByContent
from stack_platform.engine.contract import Engine
from stack_platform.engine.stages import Piece, Slice
from stack_platform.manifests import canonical_json
from stack_platform.schemas import SCRUBBED_FILES, SPANS, conform
from stack_platform.scrub.audit import scrub_batch
from stack_platform.scrub.redact import ScrubConfig


def scrub_texts(engine: Engine, config: ScrubConfig, slice_: Slice) -> Iterator[Piece]:
    """Add the scrubbed text of every file, and where each replacement was made."""
    yield Piece(SCRUBBED_FILES.empty_table(), tables={"spans": SPANS.empty_table()})
    by_content = FilesByContent(slice_.files)
    with_text = (by_content.join(texts) for texts in slice_.texts(slice_.files))
    for batch, spans in engine.map(partial(scrub_batch, config=config), with_text):
        files = conform(pa.Table.from_batches([batch]), SCRUBBED_FILES, "scrubbed files")
        yield Piece(
            files, _decide_redactions(files, spans, config), {"spans": conform(spans, SPANS, "spans")}
        )


def _decide_redactions(files: pa.Table, spans: pa.Table, config: ScrubConfig) -> pa.Table:
    found: dict[str, Counter[str]] = {}
    rules: dict[str, set[str]] = {}
    columns: Sequence[list[Any]] = [spans[name].to_pylist() for name in ("content_id", "type", "rule")]
    for content_id, kind, rule in zip(*columns, strict=True):
        found.setdefault(content_id, Counter())[kind] += 1
        rules.setdefault(content_id, set()).add(rule)
    changed = files.filter(pc.is_in(files["content_id"], pa.array(sorted(found), pa.string())))
    ids = changed["content_id"].to_pylist()
    evidence = [{"spans": dict(sorted(found[i].items())), "rules": sorted(rules[i])} for i in ids]
    reasons = ["+".join(sorted(kind.lower() for kind in found[i])) for i in ids]
    return decisions.decide(changed, decisions.REDACT, "scrubbed", reasons, evidence, _version(config))


def _version(config: ScrubConfig) -> str:
    """Name what decided: level, mode, and whatever a policy of one's own adds to them."""
    rules = config.rules()
    named: dict[str, Any] = {"sensitivity": rules.sensitivity, "mode": config.mode}
    if rules.thresholds:
        named["thresholds"] = dict(rules.thresholds)
    if rules.rules:
        named["rules"] = [rule.id for rule in rules.rules]
    if rules.allow:
        named["allow"] = [f"{entry.kind}: {entry.reason}" for entry in rules.allow]
    if config.ner:
        named["model"] = f"{config.ner.model}@{config.ner.revision or 'latest'}"
    return canonical_json(named)
