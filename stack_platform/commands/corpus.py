"""Ask what is committed: why, how much, and anything in SQL."""

from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from stack_platform.commands.output import AS_JSON, HOME, open_lake, print_json, print_rows, short


@click.command()
@click.argument("subject")
@HOME
@AS_JSON
def why(subject: str, home: Path, as_json: bool) -> None:
    """Tell why a file is in the training set, or which stage removed it and on what evidence.

    SUBJECT is a content SWHID, a path of the snapshot, or a file on this machine.
    """
    from stack_platform.corpus.why import explain

    stories = explain(open_lake(home), subject)
    if as_json:
        print_json([{**asdict(story), "verdict": story.verdict} for story in stories])
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
                console.print(f"      {name}: {short(value)}", style="dim", highlight=False, markup=False)


@click.command()
@HOME
@AS_JSON
def funnel(home: Path, as_json: bool) -> None:
    """Show what each stage kept, and what it dropped or redacted by reason."""
    from stack_platform.corpus.funnel import funnel as totals

    rows = [asdict(total) for total in totals(open_lake(home))]
    print_rows(rows, as_json)


@click.command()
@click.argument("sql")
@HOME
@AS_JSON
def query(sql: str, home: Path, as_json: bool) -> None:
    """Run SQL over what is committed: one view per stage, decisions, spans, and the graph's tables."""
    from stack_platform.releases.query import query as run

    print_rows(run(open_lake(home), sql).to_pylist(), as_json)


@click.command()
@click.option("--keep", default=1, show_default=True, help="Versions of each partition to keep.")
@HOME
@AS_JSON
def vacuum(keep: int, home: Path, as_json: bool) -> None:
    """Delete old versions of partitions that no release holds. Not to be run while something writes."""
    from stack_platform.releases.manifest import pinned_files

    lake = open_lake(home)
    removed = lake.vacuum(keep, pinned_files(lake))
    print_rows([{"removed": key} for key in removed], as_json, empty="nothing to remove")
