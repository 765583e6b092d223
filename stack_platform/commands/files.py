"""Look at files and folders outside of the lake with the eyes of the platform."""

import json
from pathlib import Path

import click

from stack_platform.commands.output import AS_JSON, HOME, open_lake, print_rows

PLACE = click.argument("place", type=click.Path(exists=True, path_type=Path))


@click.command()
@PLACE
@AS_JSON
def licenses(place: Path, as_json: bool) -> None:
    """Tell the license of each file: its own or the nearest above it, where that is stated and in which words."""
    from stack_platform.corpus.folder import examine

    rows = []
    for row in examine(place).to_pylist():
        evidence = json.loads(row["license_evidence"])
        shown = {
            "path": row["path"],
            "license": row["license_expression"],
            "type": row["license_type"],
            "from": row["license_source"],
            "stated in": row["license_path"],
        }
        words = "; ".join(" ".join(str(item["text"]).split())[:80] for item in evidence["statements"][:3])
        rows.append({**shown, "evidence": evidence} if as_json else {**shown, "words": words})
    print_rows(rows, as_json, empty="the folder has no files")


@click.command()
@click.argument("place", type=click.Path(exists=True, path_type=Path), required=False)
@click.option(
    "--by", type=click.Choice(["language", "group", "type"]), default="language", help="group: by family"
)
@HOME
@AS_JSON
def languages(place: Path | None, by: str, home: Path, as_json: bool) -> None:
    """Count the files and bytes of each language, with its family and type, in PLACE or in the lake's index."""
    from stack_platform.corpus.folder import examine
    from stack_platform.corpus.index import language_summary
    from stack_platform.corpus.stages import INDEX
    from stack_platform.languages.summary import SUMMARY, added_up, summarize

    found = examine(place) if place else None
    if found is None:
        summary = language_summary(open_lake(home).open(INDEX))
    else:
        summary = summarize(found) if found.num_rows else SUMMARY.empty_table()
    rows = added_up(summary, by).to_pylist()
    if not as_json:
        rows = [{**row, "share": _bar(row["share"])} for row in rows]
    print_rows(rows, as_json, empty="there are no files")


def _bar(share: float) -> str:
    """Draw a share of 0 to 1 in steps of 1/16."""
    return f"{share:6.1%} {'█' * round(16 * share)}"


@click.command()
@PLACE
@AS_JSON
def quality(place: Path, as_json: bool) -> None:
    """Measure each file's quality signals and tell which cut-off it is over, if any."""
    from stack_platform.corpus.folder import examine
    from stack_platform.schemas import QUALITY

    found = examine(place)
    shown = {"path": "path", "language": "language", "quality_reason": "leaves for", "num_lines": "lines"}
    if as_json:
        shown = {name: name for name in ("path", "language", "problem", "quality_reason", *QUALITY.names)}
    rows = found.select(list(shown)).to_pylist() if found.num_rows else []
    print_rows([{shown[name]: value for name, value in row.items()} for row in rows], as_json, "no files")
