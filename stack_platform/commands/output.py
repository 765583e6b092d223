"""What every command shares: where the home is, and how rows are printed, for people or as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

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


def open_lake(home: Path) -> Lake:
    """Open the lake of a home."""
    return Lake(home / "lake")


def print_rows(rows: Sequence[Any], as_json: bool, empty: str = "nothing") -> None:
    """Print rows as a table, or as JSON."""
    plain = [asdict(row) if is_dataclass(row) and not isinstance(row, type) else row for row in rows]
    if as_json:
        print_json(plain)
        return
    if not plain:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False)
    for name in plain[0]:
        table.add_column(name, overflow="fold")
    for row in plain:
        table.add_row(*(short(value) for value in row.values()))
    Console().print(table)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def short(value: Any) -> str:
    """Write a value in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {short(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(short(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if value is not None else ""
