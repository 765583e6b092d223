"""From raw to scrubbed in numbers: what went in and came out of each stage, by language and by reason."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from stack_platform.corpus.stages import STAGES
from stack_platform.engine.stages import StageReport, stage_report
from stack_platform.tables import Lake


@dataclass(frozen=True, slots=True)
class StageTotal:
    """One stage summed over languages."""

    stage: str
    languages: int
    files: int
    bytes: int
    dropped: dict[str, int]
    redacted: dict[str, int]


def funnel(lake: Lake, languages: Sequence[str] | None = None) -> list[StageTotal]:
    """Sum the committed partitions of each stage; stages that have none are left out."""
    totals = []
    for stage in STAGES:
        reports = _reports(lake, stage, languages)
        if reports:
            totals.append(_total(stage, reports))
    return totals


def _reports(lake: Lake, stage: str, languages: Sequence[str] | None) -> list[StageReport]:
    partitions = [lake.latest(stage, language) for language in languages or lake.partitions(stage)]
    return [stage_report(partition, skipped=False) for partition in partitions if partition is not None]


def _total(stage: str, reports: list[StageReport]) -> StageTotal:
    dropped: Counter[str] = Counter()
    redacted: Counter[str] = Counter()
    for report in reports:
        dropped.update(report.dropped)
        redacted.update(report.redacted)
    return StageTotal(
        stage,
        len(reports),
        sum(report.files_out for report in reports),
        sum(report.bytes_out for report in reports),
        dict(dropped.most_common()),
        dict(redacted.most_common()),
    )
