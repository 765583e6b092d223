"""Build, prove and compare releases, and give those who wrote the code their due."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from stack_platform.commands.output import AS_JSON, HOME, open_lake, print_rows


@click.group()
def release() -> None:
    """Build, prove and compare sealed releases."""


@release.command("build")
@HOME
@AS_JSON
def release_build(home: Path, as_json: bool) -> None:
    """Seal what is scrubbed as the next release of this month."""
    from stack_platform.releases.publish import build_release

    today = datetime.now(UTC)
    made, new = build_release(open_lake(home), (today.year, today.month))
    row = {
        "release": made.release,
        "new": new,
        "files": made.rows,
        "languages": len(made.languages),
        "digest": made.digest,
    }
    print_rows([row], as_json)


@release.command("list")
@HOME
@AS_JSON
def release_list(home: Path, as_json: bool) -> None:
    """List the sealed releases."""
    from stack_platform.releases.manifest import list_releases, read_release

    lake = open_lake(home)
    made = [read_release(lake, name) for name in list_releases(lake)]
    rows = [{"release": r.release, "parent": r.parent, "files": r.rows, "digest": r.digest} for r in made]
    print_rows(rows, as_json)


@release.command("verify")
@click.argument("name", required=False)
@HOME
@AS_JSON
def release_verify(name: str | None, home: Path, as_json: bool) -> None:
    """Read every byte of a release again (the newest one by default) and compare it with its manifest."""
    from stack_platform.releases.publish import verify_release

    problems = verify_release(open_lake(home), name)
    print_rows(
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

    print_rows(diff_releases(open_lake(home), old, new), as_json, empty="the releases hold the same contents")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--release", "name", help="A sealed release; the newest one by default.")
@click.option("--where", help="SQL condition on the release's columns, as \"language = 'Python'\".")
@HOME
@AS_JSON
def notice(folder: Path, name: str | None, where: str | None, home: Path, as_json: bool) -> None:
    """Write the notice bundle of a release, or of a part of it, to FOLDER.

    It holds NOTICE.txt and NOTICE.jsonl (who is to be named for which file), the license texts as found, and an SPDX
    document.
    """
    from stack_platform.releases.attribution import write_bundle

    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    report = write_bundle(open_lake(home), folder, created, name, where)
    print_rows([asdict(report)], as_json)


@click.command()
@click.argument("outbound")
@click.argument("inbound", nargs=-1)
@HOME
@AS_JSON
def compatibility(outbound: str, inbound: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Tell whether code under INBOUND licenses may become part of a work under OUTBOUND.

    Without INBOUND, the licenses of the newest release are asked about, most files first.
    """
    from stack_platform.licenses.compatibility import compatibility as judge
    from stack_platform.releases.manifest import read_release

    expressions = inbound or tuple(read_release(open_lake(home)).licenses)
    print_rows(judge(outbound, expressions).to_pylist(), as_json)
