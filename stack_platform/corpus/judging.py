"""The two stages that judge a file by its text alone: what license it is under, and how good it is."""

import json
from collections.abc import Iterator
from functools import partial

import pyarrow as pa

from stack_platform import decisions
from stack_platform.corpus.texts import FilesByContent
from stack_platform.engine.contract import Engine
from stack_platform.engine.stages import Piece, Slice
from stack_platform.licenses.judge import judge_files
from stack_platform.licenses.policy import LicenseConfig, policy_version, reason_to_drop
from stack_platform.quality.judge import QualityConfig, judge_quality
from stack_platform.schemas import LICENSED_FILES, MEASURED_FILES, conform

_JUDGED = ("detected_licenses", "license_type")  # columns of The Stack v2 that judging fills


def filter_licenses(engine: Engine, config: LicenseConfig, slice_: Slice) -> Iterator[Piece]:
    """Keep the files whose license the policy allows; the evidence of each that leaves."""
    yield Piece(LICENSED_FILES.empty_table())
    by_content = FilesByContent(slice_.files.drop_columns(list(_JUDGED)))
    described = (by_content.join(texts) for texts in slice_.texts(slice_.files))
    for batch in engine.map(partial(_judge_license, config), described):
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
        version = policy_version(config)
        yield Piece(
            files,
            decisions.decide(leaving, decisions.DROP, "license_filtered", named, evidence, version),
        )


def _judge_license(config: LicenseConfig, batch: pa.RecordBatch) -> pa.RecordBatch:
    judged = judge_files(batch, config)
    return judged.select([name for name in judged.schema.names if name != "content"])


def filter_quality(engine: Engine, config: QualityConfig, slice_: Slice) -> Iterator[Piece]:
    """Keep the files that pass the cut-offs, hold no benchmark item and no malware; signal and limit of each other."""
    yield Piece(MEASURED_FILES.empty_table())
    by_content = FilesByContent(slice_.files)
    described = (by_content.join(texts) for texts in slice_.texts(slice_.files))
    for batch, reasons, evidence in engine.map(partial(judge_quality, config=config), described):
        files = conform(pa.Table.from_batches([batch]), MEASURED_FILES, "measured files")
        leaving = files.filter(pa.array([reason is not None for reason in reasons], pa.bool_()))
        named = [reason for reason in reasons if reason is not None]
        found = [item or {} for item, reason in zip(evidence, reasons, strict=True) if reason is not None]
        yield Piece(
            files,
            decisions.decide(
                leaving, decisions.DROP, "quality_filtered", named, found, config.policy.version
            ),
        )
