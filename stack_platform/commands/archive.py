"""Ask the archive: which sources it has, what an origin held at a date, how a file changed."""

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import click

from stack_platform.commands.output import AS_JSON, HOME, open_lake, print_rows
from stack_platform.errors import ConfigError

AS_OF = click.option("--as-of", help="Date to go back to, as 2023-09-06; the latest visits by default.")


@click.command()
@click.option("--init", is_flag=True, help="Write an example sources.yaml into the home to edit.")
@HOME
@AS_JSON
def sources(init: bool, home: Path, as_json: bool) -> None:
    """List the sources of the home's sources.yaml and what the archive holds of each."""
    from stack_platform.archive.sources_file import EXAMPLE, read_sources
    from stack_platform.corpus.graph import GRAPH

    file = home / "sources.yaml"
    if init:
        if file.exists():
            raise ConfigError(f"{file} is there already; edit it, or move it away first")
        home.mkdir(parents=True, exist_ok=True)
        file.write_bytes(EXAMPLE.read_bytes())
        click.echo(f"wrote {file}; edit it, then materialize software_heritage_graph")
        return
    lake = open_lake(home)
    named = read_sources(file) if file.is_file() else ()
    configured = {source.name: source for source in named}
    rows = []
    for name in [*configured, *(found for found in lake.partitions(GRAPH) if found not in configured)]:
        kept = lake.latest(GRAPH, name)
        rows.append(
            {
                "source": name,
                "kind": configured[name].kind if name in configured else "",
                "schedule": configured[name].schedule if name in configured else None,
                "origins": kept.manifest.rows("origin") if kept else 0,
                "visits": dict(kept.manifest.counts["visits"]) if kept else {},
                "contents": kept.manifest.rows("content") if kept else 0,
            }
        )
    print_rows(rows, as_json, empty=f"no source; write one with: stack-platform sources --init (to {file})")


@click.command()
@AS_OF
@click.option("--origin", "origins", multiple=True, help="URL of an origin; all by default, may be repeated.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the files as Parquet.")
@HOME
@AS_JSON
def snapshot(
    as_of: str | None, origins: tuple[str, ...], out: Path | None, home: Path, as_json: bool
) -> None:
    """Show what each origin held at a date, and whether that is exact (by a visit) or by its commits' dates."""
    import pyarrow.parquet as pq

    from stack_platform.archive.files import read_date
    from stack_platform.corpus.point_in_time import look_back

    found = look_back(open_lake(home), read_date(as_of) if as_of else None, origins)
    if out is not None:
        pq.write_table(found.files, out, compression="zstd")
    columns = ["repo_name", "point_in_time", "visit_date", "branch_name", "revision_id", "committer_date"]
    print_rows(found.origins.select([*columns, "files", "problem"]).to_pylist(), as_json)


@click.command()
@click.argument("origin")
@click.argument("path")
@AS_OF
@HOME
@AS_JSON
def history(origin: str, path: str, as_of: str | None, home: Path, as_json: bool) -> None:
    """List the commits that changed the file at PATH of ORIGIN, newest first."""
    from stack_platform.archive.files import read_date
    from stack_platform.corpus.point_in_time import trace

    found = trace(open_lake(home), origin, path, read_date(as_of) if as_of else None)
    rows = [
        {**row, "date": _date(row["date"]), "author": _person(row["author"])} for row in found.to_pylist()
    ]
    print_rows(rows, as_json, empty=f"no commit touched {path}; paths are as `snapshot --out` has them")


def _date(date: dict[str, int] | None) -> str | None:
    """Write a date of the archive; one that no calendar has stays seconds since 1970."""
    if date is None:
        return None
    try:
        return datetime.fromtimestamp(date["seconds"], UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{date['seconds']} s since 1970"


def _person(author: bytes | None) -> str | None:
    """Write an author: the start of the digest, or the full name where the archive keeps it."""
    if author is None:
        return None
    return (
        author.hex()[:12] if len(author) == sha256().digest_size else author.decode(errors="backslashreplace")
    )
