"""Write the notice bundle of a release, or of the part of it that a condition chooses.

Copyright lines and license texts come from the graph, where texts are as their authors wrote them: a scrubbed text
may have lost an author's address.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import duckdb
import pyarrow as pa

from stack_platform.archive.contents import read_contents
from stack_platform.corpus.graph import open_graph
from stack_platform.corpus.index import DROPPED
from stack_platform.corpus.stages import INDEX
from stack_platform.corpus.texts import FilesByContent, text_reader
from stack_platform.errors import SchemaError
from stack_platform.licenses.attribution import LicenseTexts
from stack_platform.licenses.evidence import evidence_files
from stack_platform.licenses.notices import COLUMNS, NoticeReport, write_notices
from stack_platform.licenses.spdx_document import DocumentConfig
from stack_platform.releases.manifest import read_release
from stack_platform.tables import Lake

_ROWS = [name for name in COLUMNS if name != "content"]


def write_bundle(
    lake: Lake, folder: Path, created: str, release: str | None = None, where: str | None = None
) -> NoticeReport:
    """Write NOTICE.jsonl, NOTICE.txt, licenses/ and spdx.json for a release, the newest one by default.

    `where` is an SQL condition on the release's columns, as `language = 'Python'`; `created` is the time that the
    SPDX document states, as 2026-11-23T00:00:00Z.

    Raises:
        ReleaseError: there is no such release.
        SchemaError: the condition is wrong; the message is DuckDB's.

    """
    made = read_release(lake, release)
    files = _files(lake, [file["path"] for file in made.files], where)
    by_content = FilesByContent(files)
    described = (by_content.join(texts) for texts in text_reader(lake)(files)) if files.num_rows else iter(())
    name = f"stack_platform-{made.release}"
    document = DocumentConfig(name, created, f"https://spdx.org/spdxdocs/{name}")
    return write_notices(folder, described, _license_texts(lake, files), document)


def _files(lake: Lake, paths: list[str], where: str | None) -> pa.Table:
    columns = [*_ROWS, "src_encoding"]
    condition = f"WHERE {where}" if where else ""
    with duckdb.connect() as connection:
        connection.read_parquet([lake.source(path) for path in paths]).create_view("release")
        query = f"SELECT {', '.join(columns)} FROM release {condition} ORDER BY repo_name, path"  # noqa: S608  the user's own
        try:
            return connection.sql(query).to_arrow_table()
        except duckdb.Error as error:
            raise SchemaError(f"the condition {where!r} cannot be used: {error}") from error


def _license_texts(lake: Lake, files: pa.Table) -> LicenseTexts:
    """Find the license texts, notices and annotations in the repositories of the files."""
    wanted = set(files["repo_name"].unique().to_pylist())
    places = {
        (repo, path): content_id
        for repo, path, content_id in _places(lake)
        if repo in wanted and _goes_with_files(path)
    }
    ids = pa.array(sorted(set(places.values())), pa.string())
    texts = {
        content_id.as_py(): data.as_py()
        for batch in read_contents(open_graph(lake).sources("content"), ids, allow_missing=True)
        for content_id, data in zip(batch["content_id"], batch["data"], strict=True)
    }
    return lambda repo, path: texts.get(places.get((repo, path), ""))


def _places(lake: Lake) -> Iterator[tuple[str, str, str]]:
    index = lake.open(INDEX)
    for language in index.manifest.tables:
        if not language.startswith("_"):
            for batch in index.batches(language, ["repo_name", "path", "content_id"]):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
    for batch in index.batches(DROPPED, ["repo_name", "path", "swhid"]):
        for repo, path, swhid in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield repo, path, str(swhid).rpartition(":")[2]


def _goes_with_files(path: str) -> bool:
    return evidence_files(path) is not None or PurePosixPath(path).name.upper().startswith("NOTICE")
