"""What people see of a materialization in the UI: counts by reason, a sample, schema, plots."""

import base64
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import dagster as dg
import pyarrow as pa

from stack_platform.corpus.funnel import StageTotal, funnel
from stack_platform.corpus.index import IndexReport, language_summary
from stack_platform.corpus.snapshot import SnapshotReport
from stack_platform.corpus.stages import INDEX
from stack_platform.engine.stages import StageReport
from stack_platform.languages.summary import added_up
from stack_platform.licenses.summary import license_summary
from stack_platform.quality.contamination import load_index
from stack_platform.quality.judge import QualityConfig
from stack_platform.quality.malware import scan
from stack_platform.schemas import LICENSE_COLUMNS
from stack_platform.scrub.audit import counts
from stack_platform.tables import Lake, Partition

Metadata = dict[str, Any]
SAMPLE = ["repo_name", "path", "license_expression", "license_source", "length_bytes", "is_generated"]


def report_partitions(
    context: dg.AssetExecutionContext, reports: Sequence[Any], describe: Callable[[Any], Metadata]
) -> dg.MaterializeResult[Any]:
    """Attach metadata to each language of the run; one language alone also gives the data version."""
    for report in reports:
        context.add_asset_metadata(describe(report), partition_key=report.language)
    one = reports[0].digest if len(reports) == 1 else None
    return dg.MaterializeResult(data_version=dg.DataVersion(one) if one else None)


def describe_stage(lake: Lake, report: StageReport) -> Metadata:
    """Counts, reasons, a sample and the schema of one language's partition."""
    partition = lake.open(report.stage, report.language)
    return {
        "dagster/row_count": report.files_out,
        "files_in": report.files_in,
        "bytes": report.bytes_out,
        "unchanged": report.skipped,
        "dropped": reasons_table(report.dropped),
        **({"redacted": reasons_table(report.redacted)} if report.redacted else {}),
        "sample": sample_table(partition),
        "dagster/column_schema": column_schema(partition),
        "digest": report.digest,
    }


def describe_licenses(lake: Lake, report: StageReport) -> Metadata:
    """Describe the licensed files: by expression and by where it was found, and the words that decided."""
    partition = lake.open(report.stage, report.language)
    columns = ["repo_name", "path", "license_type", *(field.name for field in LICENSE_COLUMNS)]
    found = license_summary(partition.read("files", columns), partition.read("decisions"))
    return {
        **describe_stage(lake, report),
        "licenses": reasons_table(found.by_expression, "expression"),
        "license found in": reasons_table(found.by_source, "source"),
        "evidence": rows_table(found.sample),
    }


def describe_quality(config: QualityConfig, lake: Lake, report: StageReport) -> Metadata:
    """Describe the files that passed, by which policy, against which benchmark items, and whether ClamAV looked."""
    malware = scan((), config.malware)
    items = load_index(config.contamination).report if config.contamination.benchmarks else None
    return {
        **describe_stage(lake, report),
        "policy": config.policy.version,
        "malware": f"{malware.status}: {malware.detail}",
        **({"benchmark items": rows_table(items.slice(0, 50).to_pylist())} if items is not None else {}),
    }


def describe_snapshots(reports: Sequence[SnapshotReport]) -> Metadata:
    """Describe what each source gave that is new, and what the archive holds of it."""
    rows = [
        {
            "source": report.source,
            "new": "nothing" if report.unchanged else f"{sum(report.new.values()):,} rows",
            **{table: report.rows.get(table, 0) for table in ("origin", "revision", "directory", "content")},
            "visits": ", ".join(f"{count:,} {status}" for status, count in report.visits.items()),
        }
        for report in reports
    ]
    skipped: Counter[str] = Counter()
    for report in reports:
        skipped.update(report.skipped)
    return {
        "sources": rows_table(rows),
        "skipped contents": reasons_table(skipped),
        "unchanged": all(report.unchanged for report in reports),
    }


def describe_index(lake: Lake, report: IndexReport) -> Metadata:
    """Describe the index: languages by family and type, as a table and a plot, and what is in no language."""
    languages = language_summary(lake.open(INDEX))
    return {
        "dagster/row_count": report.indexed,
        "paths": report.paths,
        "as of": rows_table([{"date": report.as_of or "latest visits", **report.point_in_time}]),
        "languages": rows_table(languages.slice(0, 60).to_pylist()),
        "families and types": languages_plot(languages),
        "in no language": reasons_table(report.dropped),
        "unchanged": report.skipped,
        "digest": report.digest,
    }


def describe_scrubbed(lake: Lake, report: StageReport) -> Metadata:
    """Describe the last stage of the data wing: what was replaced, by which rules, and the way there as a plot."""
    plot = funnel_plot(funnel(lake, [report.language]), report.language)
    account = counts(lake.open(report.stage, report.language).read("spans"))
    return {
        **describe_stage(lake, report),
        "replaced": reasons_table(account["by_type"], "type", "spans"),
        "distinct values": reasons_table(account["distinct_by_type"], "type", "values"),
        "top rules": reasons_table(account["top_rules"], "rule", "spans"),
        "characters replaced": account["characters"],
        "funnel": plot,
    }


def reasons_table(
    found: Mapping[str, int], heading: str = "reason", counted: str = "files"
) -> dg.MetadataValue:
    """Counts by reason as a Markdown table."""
    most = sorted(found.items(), key=lambda item: -item[1])
    rows = "\n".join(f"| {reason} | {count:,} |" for reason, count in most)
    return dg.MetadataValue.md(f"| {heading} | {counted} |\n|---|---:|\n{rows}" if found else "none")


def sample_table(partition: Partition, table: str = "files", rows: int = 5) -> dg.MetadataValue:
    """Show the first rows of a table, without the texts."""
    batch = next(partition.batches(table), None)
    if batch is None or not batch.num_rows:
        return dg.MetadataValue.md("no rows")
    names = [name for name in SAMPLE if name in batch.schema.names] or batch.schema.names[:6]
    return rows_table(batch.select(names).slice(0, rows).to_pylist())


def rows_table(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    """Show rows as a Markdown table; what is text in them is shown as it is."""
    if not rows:
        return dg.MetadataValue.md("none")
    lines = ["| " + " | ".join(_cell(value) for value in row.values()) + " |" for row in rows]
    names = list(rows[0])
    return dg.MetadataValue.md(
        "| " + " | ".join(names) + " |\n|" + "---|" * len(names) + "\n" + "\n".join(lines)
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    text = " ".join(str(value).split()).replace("|", "\\|").replace("`", "'")
    return f"`{text}`" if text else ""


def column_schema(partition: Partition, table: str = "files") -> dg.TableSchema:
    """Columns and types of a table."""
    columns = [dg.TableColumn(field.name, str(field.type)) for field in partition.schema(table)]
    return dg.TableSchema(columns=columns)


def funnel_plot(totals: Sequence[StageTotal], title: str) -> dg.MetadataValue:
    """Draw how many files and bytes each stage kept; with fixed margins, for every language has one."""
    figure, axes = _figure(2, None)
    figure.subplots_adjust(left=0.17, right=0.98, wspace=0.06)
    names = [total.stage for total in totals][::-1]
    for axis, values, label in (
        (axes[0], [total.files for total in totals][::-1], "files"),
        (axes[1], [total.bytes / 1e6 for total in totals][::-1], "MB"),
    ):
        bars = axis.barh(
            names, values, color=["#1a7f5a", "#3b9c79", "#5fb08f", "#8cc8b1", "#b9dfd0"][: len(values)]
        )
        axis.bar_label(
            bars, [f"{value:,.0f}" if value >= 10 else f"{value:,.2g}" for value in values], padding=3
        )
        axis.set_title(f"{title}: {label}", fontsize=10)
        axis.margins(x=0.25)
    axes[1].set_yticklabels([])
    return _png(figure)


def languages_plot(languages: pa.Table) -> dg.MetadataValue:
    """Draw the bytes of the largest families of languages and of each type."""
    figure, axes = _figure(2)
    families, types = (added_up(languages, by).slice(0, 15).to_pylist() for by in ("group", "type"))
    for axis, names, sizes, files in (
        (axes[0], *_columns(families, "group", "bytes", "files")),
        (axes[1], *_columns(types, "type", "bytes", "files")),
    ):
        bars = axis.barh([str(name) for name in names], [size / 1e6 for size in sizes], color="#3b9c79")
        axis.bar_label(bars, [f"{count:,} files" for count in files], padding=3, fontsize=7)
        axis.set_xscale("log")
        axis.set_xlabel("MB")
        axis.margins(x=0.35)
    return _png(figure)


def _columns(rows: Sequence[Mapping[str, Any]], *names: str) -> list[list[Any]]:
    """Turn rows upside down, the last first: a bar chart grows upwards."""
    return [[row[name] for row in rows][::-1] for name in names]


def loss_plot(steps: Sequence[int], losses: Sequence[float], before: float, after: float) -> dg.MetadataValue:
    """Draw the training loss, and the held-out loss before and after."""
    figure, (axis,) = _figure(1)
    window = max(1, len(losses) // 8)
    recent = [
        sum(losses[max(0, i - window) : i + 1]) / (i + 1 - max(0, i - window)) for i in range(len(losses))
    ]
    axis.plot(steps, losses, color="#b9dfd0", label="training, each step")
    axis.plot(steps, recent, color="#1a7f5a", label=f"training, mean of the last {window + 1}")
    axis.axhline(before, color="#b35900", linestyle="--", label=f"held out, before: {before:.3f}")
    axis.axhline(after, color="#0b5394", linestyle="--", label=f"held out, after: {after:.3f}")
    axis.set_xlabel("step")
    axis.set_ylabel("loss (nats per token)")
    axis.legend(fontsize=8)
    return _png(figure)


def _figure(panels: int, layout: Literal["constrained"] | None = "constrained") -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * panels, 2.6), layout=layout)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, axes


def _png(figure: Any) -> dg.MetadataValue:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=90)
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(data.getvalue()).decode()})")
