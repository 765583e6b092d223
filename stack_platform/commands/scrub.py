"""Scrub a file outside of the lake, tell why, and show it."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from stack_platform.commands.output import AS_JSON, print_json, print_rows
from stack_platform.scrub.redact import ScrubConfig

FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
SENSITIVITY = click.option(
    "--sensitivity", default="balanced", show_default=True, help="permissive, balanced, strict or paranoid"
)
POLICY = click.option(
    "--policy", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML; its level wins"
)
MODE = click.option("--mode", default="surrogate", show_default=True, help="surrogate, token or mask")


class _TextByDefault(click.Group):
    """Takes `scrub FILE` for `scrub text FILE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Name the command where none is named."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["text", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_TextByDefault)
def scrub() -> None:
    """Print FILE with secrets and personal data replaced, explain what is found, or show it on a page."""


@scrub.command("text")
@FILE
@SENSITIVITY
@MODE
@POLICY
@AS_JSON
def scrub_file(file: Path, sensitivity: str, mode: str, policy: Path | None, as_json: bool) -> None:
    """Print a file with secrets and personal data replaced; with --json, what was found and where."""
    from stack_platform.scrub.redact import scrub_text

    scrubbed = scrub_text(_read(file), str(file), _config(sensitivity, mode, policy))
    if as_json:
        print_json([asdict(span) for span in scrubbed.spans])
    else:
        sys.stdout.buffer.write(scrubbed.text.encode("utf-8", "surrogateescape"))


@scrub.command("explain")
@FILE
@SENSITIVITY
@POLICY
@AS_JSON
def scrub_explain(file: Path, sensitivity: str, policy: Path | None, as_json: bool) -> None:
    """Tell of everything found, at any score: by which rule, whether it counts, and from which level it would."""
    from stack_platform.scrub.explain import explain

    found = explain(_read(file), str(file), _config(sensitivity, "surrogate", policy))
    shown = ("line", "type", "rule", "score", "outcome", "counts_from", "shape", "context")
    rows = [asdict(each) if as_json else {name: getattr(each, name) for name in shown} for each in found]
    print_rows(rows, as_json, empty="nothing was found")


@scrub.command("page")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("scrubbing.html"))
@SENSITIVITY
@MODE
@POLICY
@AS_JSON
def scrub_page(
    files: tuple[Path, ...], out: Path, sensitivity: str, mode: str, policy: Path | None, as_json: bool
) -> None:
    """Write a page with FILES before and after, values masked, and the figures of every level."""
    from stack_platform.scrub.page import comparison_page

    page = comparison_page(((str(file), _read(file)) for file in files), _config(sensitivity, mode, policy))
    out.write_text(page, encoding="utf-8", errors="backslashreplace")
    print_rows([{"page": str(out), "files": len(files)}], as_json)


def _config(sensitivity: str, mode: str, policy: Path | None) -> ScrubConfig:
    from stack_platform.scrub.policy import read_policy

    return ScrubConfig(sensitivity, mode, policy=read_policy(policy) if policy else None)


def _read(file: Path) -> str:
    return file.read_bytes().decode("utf-8", "surrogateescape")
