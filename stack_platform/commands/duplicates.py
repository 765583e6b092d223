"""Pages about what left as a duplicate, and of what."""

import json
from pathlib import Path

import click

from stack_platform.commands.output import AS_JSON, HOME, open_lake, print_rows

OUT = click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("duplicates.html"))


@click.group()
def duplicates() -> None:
    """Write pages that show which files left as duplicates, and of what."""


@duplicates.command("report")
@click.argument("languages", nargs=-1)
@OUT
@HOME
@AS_JSON
def duplicates_report(languages: tuple[str, ...], out: Path, home: Path, as_json: bool) -> None:
    """Write a page about the duplicates of LANGUAGES, of all by default: savings, the largest clusters, examples."""
    from stack_platform.corpus.duplicate_report import duplicate_report

    _write(out, duplicate_report(open_lake(home), languages), as_json)


@duplicates.command("show")
@click.argument("language")
@click.argument("repository")
@click.argument("path")
@OUT
@HOME
@AS_JSON
def duplicates_show(language: str, repository: str, path: str, out: Path, home: Path, as_json: bool) -> None:
    """Write a page with a file that left and the file that was kept for it, side by side."""
    from stack_platform.corpus.duplicate_report import duplicate_pair

    _write(out, duplicate_pair(open_lake(home), language, repository, path), as_json)


@duplicates.command("across")
@click.argument("languages", nargs=-1, required=True)
@HOME
@AS_JSON
def duplicates_across(languages: tuple[str, ...], home: Path, as_json: bool) -> None:
    """List the files that a language keeps although one of LANGUAGES named before it keeps nearly the same."""
    from stack_platform.corpus.duplicates import decide_across
    from stack_platform.corpus.texts import text_reader

    lake = open_lake(home)
    found = decide_across(lake, languages, text_reader(lake)).to_pylist()
    evidence = [json.loads(row["evidence"]) for row in found]
    rows = [
        {
            **{name: row[name] for name in ("language", "repo_name", "path")},
            "jaccard": each["jaccard"],
            "kept": " ".join(each["kept"][name] for name in ("language", "repo_name", "path")),
        }
        for row, each in zip(found, evidence, strict=True)
    ]
    print_rows(rows, as_json, empty="no language keeps what another one has")


def _write(out: Path, page: str, as_json: bool) -> None:
    out.write_text(page, encoding="utf-8")
    print_rows([{"page": str(out), "bytes": len(page.encode())}], as_json)
