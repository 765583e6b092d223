"""The command line: each command is one library call and a way to print what it gives.

Every command takes `--json`. Errors the platform raises on purpose become one line and exit code 1.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from stack_platform.errors import StackError
from stack_platform.tables import Lake

HOME = click.option(
    "--home",
    envvar="STACK_PLATFORM_HOME",
    default=".stack_platform",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder that holds everything the platform writes.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


class _Errors(click.Group):
    """Prints the platform's own errors as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StackError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Errors)
@click.version_option(package_name="stack-platform")
def main() -> None:
    """Source code into models one may publish: ask the data why, and build releases of it."""


@main.command()
@click.argument("subject")
@HOME
@AS_JSON
def why(subject: str, home: Path, as_json: bool) -> None:
    """Tell why a file is in the training set, or which stage removed it and on what evidence.

    SUBJECT is a content SWHID, a path of the snapshot, or a file on this machine.
    """
    from stack_platform.corpus.why import explain

    stories = explain(_lake(home), subject)
    if as_json:
        _print_json([{**asdict(story), "verdict": story.verdict} for story in stories])
        return
    console = Console()
    for story in stories:
        console.print(
            f"[bold]{story.path}[/]  in {story.repo_name}  ({story.language or 'no language'})",
            highlight=False,
        )
        console.print(f"  {story.swhid}", highlight=False)
        console.print(
            f"  {story.verdict}", style="green" if "in the training set" in story.verdict else "yellow"
        )
        if story.license_expression:
            where = f" (by its {story.license_source}: {story.license_path})" if story.license_path else ""
            console.print(f"  license {story.license_expression}{where}", highlight=False)
        for step in story.steps:
            console.print(
                f"    {step.stage:<17}{step.verdict:<10}{step.reason or ''}", highlight=False, markup=False
            )
            for name, value in (step.evidence or {}).items():
                console.print(f"      {name}: {_short(value)}", style="dim", highlight=False, markup=False)


@main.command()
@HOME
@AS_JSON
def funnel(home: Path, as_json: bool) -> None:
    """Show what each stage kept, and what it dropped or redacted by reason."""
    from stack_platform.corpus.funnel import funnel as totals

    rows = [asdict(total) for total in totals(_lake(home))]
    _print_rows(rows, as_json)


@main.command()
@click.argument("sql")
@HOME
@AS_JSON
def query(sql: str, home: Path, as_json: bool) -> None:
    """Run SQL over what is committed: one view per stage, decisions, spans, and the graph's tables."""
    from stack_platform.releases.query import query as run

    _print_rows(run(_lake(home), sql).to_pylist(), as_json)


@main.group()
def release() -> None:
    """Build, prove and compare sealed releases."""


@release.command("build")
@HOME
@AS_JSON
def release_build(home: Path, as_json: bool) -> None:
    """Seal what is scrubbed as the next release of this month."""
    from stack_platform.releases.publish import build_release

    today = datetime.now(UTC)
    made, new = build_release(_lake(home), (today.year, today.month))
    row = {
        "release": made.release,
        "new": new,
        "files": made.rows,
        "languages": len(made.languages),
        "digest": made.digest,
    }
    _print_rows([row], as_json)


@release.command("list")
@HOME
@AS_JSON
def release_list(home: Path, as_json: bool) -> None:
    """List the sealed releases."""
    from stack_platform.releases.manifest import list_releases, read_release

    lake = _lake(home)
    made = [read_release(lake, name) for name in list_releases(lake)]
    rows = [{"release": r.release, "parent": r.parent, "files": r.rows, "digest": r.digest} for r in made]
    _print_rows(rows, as_json)


@release.command("verify")
@click.argument("name", required=False)
@HOME
@AS_JSON
def release_verify(name: str | None, home: Path, as_json: bool) -> None:
    """Read every byte of a release again (the newest one by default) and compare it with its manifest."""
    from stack_platform.releases.publish import verify_release

    problems = verify_release(_lake(home), name)
    _print_rows(
        [{"problem": problem} for problem in problems], as_json, empty="every file is as it was sealed"
    )
    if problems:
        sys.exit(1)


@release.command("diff")
@click.argument("old")
@click.argument("new")
@HOME
@AS_JSON
def release_diff(old: str, new: str, home: Path, as_json: bool) -> None:
    """Count what two releases do not share, by language."""
    from stack_platform.releases.publish import diff_releases

    _print_rows(diff_releases(_lake(home), old, new), as_json, empty="the releases hold the same contents")


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--sensitivity", default="balanced", show_default=True, help="permissive, balanced, strict or paranoid"
)
@AS_JSON
def scrub(file: Path, sensitivity: str, as_json: bool) -> None:
    """Print a file with secrets and personal data replaced; with --json, what was found and where."""
    from stack_platform.scrub.redact import ScrubConfig, scrub_text

    text = file.read_bytes().decode("utf-8", "surrogateescape")
    scrubbed = scrub_text(text, str(file), ScrubConfig(sensitivity=sensitivity))
    if as_json:
        _print_json([asdict(span) for span in scrubbed.spans])
    else:
        sys.stdout.buffer.write(scrubbed.text.encode("utf-8", "surrogateescape"))


@main.command()
@click.argument("place", type=click.Path(exists=True, path_type=Path))
@AS_JSON
def licenses(place: Path, as_json: bool) -> None:
    """Tell the license of a file, or of every file of a folder, with the evidence."""
    from stack_platform.licenses.detect import detect_license
    from stack_platform.licenses.policy import license_type

    rows = []
    for path in _files_under(place):
        found = detect_license(path.read_bytes(), path.name)
        if found.expression != "NONE" or place.is_file():
            evidence = [asdict(item) for item in found.evidence]
            rows.append(
                {
                    "path": str(path),
                    "license": found.expression,
                    "type": license_type(found.expression),
                    "evidence": evidence,
                }
            )
    _print_rows(rows, as_json, empty="no file states a license")


@main.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@AS_JSON
def languages(folder: Path, as_json: bool) -> None:
    """Count the files and bytes of each language in a folder."""
    from stack_platform.languages.detect import detect_language

    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for path in _files_under(folder):
        data = path.read_bytes()
        language = detect_language(path.name, data) or "(none)"
        files[language] += 1
        sizes[language] += len(data)
    rows = [{"language": name, "files": n, "bytes": sizes[name]} for name, n in files.most_common()]
    _print_rows(rows, as_json, empty="the folder has no files")


@main.command()
@click.option("--keep", default=1, show_default=True, help="Versions of each partition to keep.")
@HOME
@AS_JSON
def vacuum(keep: int, home: Path, as_json: bool) -> None:
    """Delete old versions of partitions that no release holds. Not to be run while something writes."""
    from stack_platform.releases.manifest import pinned_files

    lake = _lake(home)
    removed = lake.vacuum(keep, pinned_files(lake))
    _print_rows([{"removed": key} for key in removed], as_json, empty="nothing to remove")


def _lake(home: Path) -> Lake:
    return Lake(home / "lake")


def _files_under(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(path for path in place.rglob("*") if path.is_file() and ".git" not in path.parts)


def _print_rows(rows: Sequence[Any], as_json: bool, empty: str = "nothing") -> None:
    plain = [asdict(row) if is_dataclass(row) and not isinstance(row, type) else row for row in rows]
    if as_json:
        _print_json(plain)
        return
    if not plain:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False)
    for name in plain[0]:
        table.add_column(name, overflow="fold")
    for row in plain:
        table.add_row(*(_short(value) for value in row.values()))
    Console().print(table)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(_short(item) for item in value)
    return str(value) if value is not None else ""
