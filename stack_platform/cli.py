"""The command line: each command is one library call and a way to print what it gives.

Every command takes `--json`. Errors the platform raises on purpose become one line and exit code 1.
"""

from typing import Any

import click

from stack_platform.commands import archive, corpus, duplicates, files, releases, scrub
from stack_platform.errors import StackError


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


for command in (
    archive.sources,
    archive.snapshot,
    archive.history,
    corpus.why,
    corpus.funnel,
    corpus.query,
    duplicates.duplicates,
    corpus.vacuum,
    releases.release,
    releases.notice,
    releases.compatibility,
    files.languages,
    files.licenses,
    files.quality,
    scrub.scrub,
):
    main.add_command(command)
