"""A sealed version of everything that is scrubbed."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets.corpus import scrubbed
from assets.reporting import Metadata, funnel_plot, reasons_table
from resources.lake import LakeResource
from resources.policies import PoliciesResource
from stack_platform.corpus.funnel import funnel
from stack_platform.releases.manifest import Release
from stack_platform.releases.publish import build_release
from stack_platform.tables import Lake


@dg.asset(
    name="release", deps=[scrubbed], group_name="releases", kinds={"parquet", "json"}, owners=["team:data"]
)
def sealed_release(lake: LakeResource, policies: PoliciesResource) -> dg.MaterializeResult[Any]:
    """An immutable manifest of every scrubbed file with its SHA-256, counts, licenses and parents."""
    tables = lake.open()
    today = datetime.now(UTC)
    made, new = build_release(tables, (today.year, today.month), policies=policies.open())
    metadata = describe_release(tables, made, new=new)
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(made.digest))


def describe_release(lake: Lake, made: Release, *, new: bool) -> Metadata:
    """Name, size, languages and licenses of a release, and the way there as a plot."""
    sizes = {name: language["files"] for name, language in made.languages.items()}
    return {
        "release": made.release,
        "newly sealed": new,
        "dagster/row_count": made.rows,
        "files by language": reasons_table(sizes),
        "files by license": reasons_table(dict(list(made.licenses.items())[:20])),
        "funnel": funnel_plot(funnel(lake, list(made.languages)), f"release {made.release}"),
        "load": dg.MetadataValue.md(f"`stack-platform release verify {made.release}`"),
        "digest": made.digest,
    }
