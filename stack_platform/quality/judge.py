"""Judge a batch of files: measure, cut off, decontaminate, scan, in one pure function that any engine can map."""

from dataclasses import dataclass, field

import pyarrow as pa

from stack_platform.quality.contamination import ContaminationConfig, find_contaminated, load_index
from stack_platform.quality.malware import MalwareConfig, find_malware
from stack_platform.quality.policy import Evidence, QualityPolicy, Reasons, find_reasons, starcoder2
from stack_platform.quality.signals import add_signals


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """All that decides about quality; small, hashable and picklable, so it travels to workers and names its result.

    Benchmarks are read from their files once in each worker; `contamination.pinned` writes their digests in here.
    """

    policy: QualityPolicy = field(default_factory=starcoder2)
    contamination: ContaminationConfig = ContaminationConfig()
    malware: MalwareConfig = MalwareConfig()


def judge_quality(
    batch: pa.RecordBatch, config: QualityConfig = QualityConfig()
) -> tuple[pa.RecordBatch, Reasons, Evidence]:
    """Give the batch with the signals and without content, and for each file why it leaves, None where it stays.

    Columns in: content, language, path, length_bytes, and is_generated where it is known. The first of malware, the
    policy's cut-offs in their order, and contamination is the reason. `malware.scan((), config.malware)` tells whether
    the scanner is there at all.
    """
    measured = add_signals(batch)
    verdicts = [find_reasons(measured, config.policy)]
    if config.malware.mode != "off":
        contents = [(text or "").encode() for text in batch["content"].to_pylist()]
        verdicts.insert(0, find_malware(contents, config.malware))
    if config.contamination.benchmarks:
        verdicts.append(find_contaminated(batch, load_index(config.contamination)))
    reasons: Reasons = [None] * batch.num_rows
    evidence: Evidence = [None] * batch.num_rows
    for found_reasons, found_evidence in reversed(verdicts):
        for row, reason in enumerate(found_reasons):
            if reason is not None:
                reasons[row], evidence[row] = reason, found_evidence[row]
    kept = [name for name in measured.schema.names if name != "content"]
    return measured.select(kept), reasons, evidence
