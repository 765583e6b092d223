"""Exports that others wrote, and servers that others wrote."""

import os
import urllib.request
from collections import defaultdict
from pathlib import Path

import pytest

from stack_platform.archive.export.source import ExportConfig
from stack_platform.archive.export.tables import ExportTables, UrlKeys
from stack_platform.archive.remote import open_store
from stack_platform.archive.sources import Known, Reading

TREE = {b"a.py": b"print('a')\n", b"lib": {b"\xff": b"any name\n"}}


def read(config):
    tables = defaultdict(list)
    for table, batch in config.open().read(Known(), Reading()):
        tables[table] += batch.to_pylist()
    return tables


@pytest.fixture
def moto():
    """Serve S3 by moto; give its address."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def upload(address, bucket, folder):
    """Put a folder into a bucket that everybody may read, as the public export is."""
    headers = {"x-amz-acl": "public-read", "Content-Type": "application/octet-stream"}
    urllib.request.urlopen(
        urllib.request.Request(f"{address}/{bucket}", method="PUT", headers=headers), timeout=10
    )
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            url = f"{address}/{bucket}/{path.relative_to(folder).as_posix()}"
            request = urllib.request.Request(url, path.read_bytes(), headers, method="PUT")
            urllib.request.urlopen(request, timeout=10)


@pytest.mark.s3
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", ["parquet", "orc"])
def test_an_export_on_a_server_of_others_is_read_anonymously(export, tmp_path, moto, form):
    export.repository("https://example.org/a", TREE)
    export.write(tmp_path / "bucket/graph/2024-08-23", form)
    gone = export.content(b"never uploaded\n")
    export.repository("https://example.org/b", {b"gone": b"never uploaded\n", b"kept": b"kept\n"})
    export.write(tmp_path / "bucket/graph/2024-08-23", form)
    del export.data[export.rows["content"][gone]["sha1"]]
    export.write_contents(tmp_path / "bucket/content")
    upload(moto, "softwareheritage", tmp_path / "bucket")
    tables = read(
        ExportConfig("s3://softwareheritage/graph/2024-08-23", "s3://softwareheritage/content", endpoint=moto)
    )
    assert {row["data"] for row in tables["content"]} == {b"print('a')\n", b"any name\n", b"kept\n"}
    assert [row["reason"] for row in tables["skipped_content"]] == [
        "not available: missing: the store has no such object"
    ]
    assert [row["status"] for row in tables["origin_visit_status"]] == ["full", "partial"]


@pytest.mark.peer
def test_an_export_of_software_heritage_reads_the_same_in_both_formats():
    """The folder `example_dataset` of the package swh-graph (GPL-3, never imported), named by a variable."""
    folder = os.environ.get("SWH_EXAMPLE_DATASET")
    if not folder:
        pytest.skip(
            "SWH_EXAMPLE_DATASET is not set: pip download --no-deps swh-graph, unzip it, and name "
            "its folder swh/graph/example_dataset"
        )
    both = [read(ExportConfig(folder, format=form)) for form in ("orc", "parquet")]
    assert both[0] == both[1]
    assert len(both[0]["origin"]) == 2
    for form in ("orc", "parquet"):
        tables = ExportTables(open_store(str(Path(folder))), folder, form)
        rows = list(tables.lookup("origin", "url", UrlKeys(())))
        assert sum(batch.num_rows for batch in rows) == 2
