"""The four stages between the index and the training set, each a function of one language's slice.

raw_snapshot → license_filtered → deduplicated → scrubbed. Each stage takes the rooms' pure functions and writes
what they find as decisions; `engine.stages` applies and commits them. Texts are read from the graph; only
`scrubbed` holds text again.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform import decisions
from stack_platform.corpus.texts import FilesByContent
from stack_platform.dedup.exact import exact_duplicates
from stack_platform.dedup.leaders import NearDuplicateConfig, find_near_duplicates
from stack_platform.dedup.preference import PreferenceConfig, preference_order
from stack_platform.engine.contract import Engine
from stack_platform.engine.stages import Input, Piece, Slice, Stage, is_stale, upstream_input
from stack_platform.licenses.judge import LicenseConfig, judge_files, reason_to_drop
from stack_platform.licenses.policy import POLICY_VERSION
from stack_platform.manifests import canonical_json
from stack_platform.schemas import FILES, LICENSED_FILES, SCRUBBED_FILES, SPANS, conform
from stack_platform.scrub.audit import scrub_batch
from stack_platform.scrub.redact import ScrubConfig
from stack_platform.tables import Lake

INDEX = "file_index"
STAGES = ("raw_snapshot", "license_filtered", "deduplicated", "scrubbed")


@dataclass(frozen=True, slots=True)
class NoConfig:
    """A stage without settings."""


@dataclass(frozen=True, slots=True)
class DedupConfig:
    """Both kinds of duplicates within a language."""

    preference: PreferenceConfig = PreferenceConfig()
    near: NearDuplicateConfig = NearDuplicateConfig()


def corpus_stages(
    engine: Engine,
    licenses: LicenseConfig = LicenseConfig(),
    dedup: DedupConfig = DedupConfig(),
    scrub: ScrubConfig = ScrubConfig(),
) -> dict[str, Stage]:
    """Give the stages by name, in the order files pass them."""
    stages = (
        Stage("raw_snapshot", INDEX, "1", NoConfig(), _take, _index_input),
        Stage(
            "license_filtered",
            "raw_snapshot",
            f"1 {POLICY_VERSION}",
            licenses,
            partial(_license, engine, licenses),
            upstream_input,
        ),
        Stage("deduplicated", "license_filtered", "1", dedup, partial(_deduplicate, dedup), upstream_input),
        Stage("scrubbed", "deduplicated", "1", scrub, partial(_scrub, engine, scrub), upstream_input),
    )
    return {stage.name: stage for stage in stages}


def changed_languages(lake: Lake, stages: Mapping[str, Stage]) -> dict[str, str]:
    """Give language → identity of its rows in the index, for each that some stage has not brought up to date.

    A language that was materialized and has no file any more is among them; one that never had is not.
    """
    index = lake.latest(INDEX)
    if index is None:
        return {}
    indexed = {name for name in index.manifest.tables if not name.startswith("_")}
    languages = sorted(indexed | set(lake.partitions(STAGES[0])))
    stale = [name for name in languages if any(is_stale(lake, stage, name) for stage in stages.values())]
    return {name: index.manifest.counts["identities"].get(name, "") for name in stale}


def _index_input(lake: Lake, stage: Stage, language: str) -> Input:
    """Find the index's rows of one language, and the identity of those rows only."""
    index = lake.open(stage.upstream)
    return Input(
        lambda: index.read(language, schema=FILES), index.manifest.counts["identities"].get(language, "")
    )


def _take(slice_: Slice) -> Iterator[Piece]:
    yield Piece(slice_.files)


def _license(engine: Engine, config: LicenseConfig, slice_: Slice) -> Iterator[Piece]:
    yield Piece(LICENSED_FILES.empty_table())
    unjudged = slice_.files.drop_columns(["detected_licenses", "license_type"])
    by_content = FilesByContent(unjudged)
    described = (by_content.join(texts) for texts in slice_.texts(slice_.files))
    for batch in engine.map(_judge, described):
        files = conform(pa.Table.from_batches([batch]), LICENSED_FILES, "judged files")
        reasons = [reason_to_drop(kind, config) for kind in files["license_type"].to_pylist()]
        leaving = files.filter(pa.array([reason is not None for reason in reasons], pa.bool_()))
        evidence = [
            {"expression": e, "source": s, "path": p, "statements": json.loads(f)["statements"]}
            for e, s, p, f in zip(
                *(leaving[c].to_pylist() for c in ("license_expression", "license_source", "license_path")),
                leaving["license_evidence"].to_pylist(),
                strict=True,
            )
        ]
        named = [reason for reason in reasons if reason is not None]
        made = decisions.decide(leaving, decisions.DROP, "license_filtered", named, evidence, POLICY_VERSION)
        yield Piece(files, made)


def _judge(batch: pa.RecordBatch) -> pa.RecordBatch:
    judged = judge_files(batch)
    return judged.select([name for name in judged.schema.names if name != "content"])


def _deduplicate(config: DedupConfig, slice_: Slice) -> Iterator[Piece]:
    files = slice_.files
    exact = exact_duplicates(files, config.preference)
    copies = _decide_copies(files, exact)
    rest = decisions.apply(files, copies)
    rest = rest.take(preference_order(rest, config.preference))
    near = find_near_duplicates(
        rest["blob_id"].combine_chunks(), partial(_read_blobs, slice_, rest), config.near
    )
    yield Piece(files, pa.concat_tables([copies, _decide_near(rest, near)]))


def _decide_copies(files: pa.Table, exact: pa.Table) -> pa.Table:
    keys = ["repo_name", "path"]
    rows = exact.join(files.select([*keys, "language"]), keys).sort_by([(key, "ascending") for key in keys])
    evidence = [
        {"kept": {"repo_name": repo, "path": path}}
        for repo, path in zip(
            rows["keeper_repo_name"].to_pylist(), rows["keeper_path"].to_pylist(), strict=True
        )
    ]
    reasons = ["exact_duplicate"] * rows.num_rows
    return decisions.decide(rows, decisions.DROP, "deduplicated", reasons, evidence, "1")


def _read_blobs(slice_: Slice, files: pa.Table, ids: pa.Array | None) -> Iterator[pa.RecordBatch]:
    wanted = files if ids is None else files.filter(pc.is_in(files["blob_id"], ids))
    by_content = FilesByContent(wanted.select(["content_id", "blob_id"]))
    for texts in slice_.texts(wanted):
        yield by_content.join(texts).select(["blob_id", "content"])


def _decide_near(files: pa.Table, near: pa.Table) -> pa.Table:
    rows = files.take(pc.index_in(near["blob_id"], files["blob_id"].combine_chunks()))
    kept = files.take(pc.index_in(near["witness"], files["blob_id"].combine_chunks()))
    evidence = [
        {
            "kept": {"repo_name": repo, "path": path, "swhid": f"swh:1:cnt:{content}"},
            "jaccard": round(jaccard, 4),
        }
        for repo, path, content, jaccard in zip(
            *(kept[name].to_pylist() for name in ("repo_name", "path", "content_id")),
            near["jaccard"].to_pylist(),
            strict=True,
        )
    ]
    reasons = ["near_duplicate"] * rows.num_rows
    return decisions.decide(rows, decisions.DROP, "deduplicated", reasons, evidence, "1")


def _scrub(engine: Engine, config: ScrubConfig, slice_: Slice) -> Iterator[Piece]:
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
    version = canonical_json({"sensitivity": config.sensitivity, "mode": config.mode})
    return decisions.decide(changed, decisions.REDACT, "scrubbed", reasons, evidence, version)
