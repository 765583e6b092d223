"""SQL over what is committed: one DuckDB view per stage, and one for all decisions.

Views: raw_snapshot, license_filtered, deduplicated, scrubbed (files), decisions (of every stage), spans (of
scrubbed), and the tables of the graph under their own names (origin, snapshot, release, directory_entry, …).
"""

import duckdb
import pyarrow as pa

from stack_platform.corpus.graph import find_graph
from stack_platform.corpus.index import DROPPED
from stack_platform.corpus.stages import INDEX, STAGES
from stack_platform.errors import SchemaError, TableError
from stack_platform.schemas import ARCHIVE
from stack_platform.tables import Lake


def query(lake: Lake, sql: str) -> pa.Table:
    """Run a query over the newest committed partitions.

    Raises:
        SchemaError: the query is wrong; the message is DuckDB's.
        TableError: nothing is committed yet.

    """
    views = _views(lake)
    if not views:
        raise TableError(
            f"nothing is committed in {lake.root} yet; run `make demo` or materialize the assets"
        )
    with duckdb.connect() as connection:
        for name, sources in views.items():
            connection.read_parquet(sources, union_by_name=True).create_view(name)
        try:
            return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise SchemaError(f"{error}\nviews are: {', '.join(sorted(views))}") from error


def _views(lake: Lake) -> dict[str, list[str]]:
    views: dict[str, list[str]] = {}
    for stage in STAGES:
        for language in lake.partitions(stage):
            partition = lake.open(stage, language)
            views.setdefault(stage, []).extend(partition.sources("files"))
            views.setdefault("decisions", []).extend(partition.sources("decisions"))
            if "spans" in partition.manifest.tables:
                views.setdefault("spans", []).extend(partition.sources("spans"))
    if (index := lake.latest(INDEX)) is not None:
        views.setdefault("decisions", []).extend(index.sources(DROPPED))
    if (graph := find_graph(lake)) is not None:
        for table in ARCHIVE:
            views[table] = graph.sources(table)
    return views
