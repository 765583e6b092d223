import gzip
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stack_platform.archive.repositories import REPOSITORIES, describe_repositories, read_repositories
from stack_platform.errors import ConfigError, SchemaError, SourceError


def event(kind, name, date, **payload):
    return {"type": kind, "repo": {"id": 1, "name": name}, "payload": payload, "created_at": date}


def record(name, language, spdx_id, number=1):
    return {
        "id": number,
        "full_name": name,
        "license": {"spdx_id": spdx_id} if spdx_id else None,
        "language": language,
        "created_at": "2020-01-01T00:00:00Z",
    }


@pytest.fixture
def hours(tmp_path):
    """Two hours of GH Archive."""
    first = [
        event("WatchEvent", "Acme/Tool", "2023-01-01T00:10:00Z", action="started"),
        event("WatchEvent", "acme/tool", "2023-01-01T00:20:00Z", action="started"),
        event("PushEvent", "acme/tool", "2023-01-01T00:30:00Z"),
        event(
            "PullRequestEvent",
            "acme/tool",
            "2023-01-01T00:40:00Z",
            pull_request={"base": {"repo": record("acme/tool", "C", None)}},
        ),
    ]
    second = [
        event(
            "PullRequestEvent",
            "acme/tool",
            "2023-01-01T01:00:00Z",
            pull_request={"base": {"repo": record("acme/tool", "Python", "MIT")}},
        ),
        event("ForkEvent", "acme/tool", "2023-01-01T01:10:00Z", forkee=record("me/tool", "Python", "MIT", 9)),
    ]
    for name, events in (("2023-01-01-0", first), ("2023-01-01-1", second)):
        with gzip.open(tmp_path / f"{name}.json.gz", "wt") as out:
            out.writelines(json.dumps(item) + "\n" for item in events)
    return tmp_path


def test_events_count_stars_and_forks_and_the_newest_record_describes(hours):
    table = read_repositories(hours)
    assert table.schema == REPOSITORIES
    tool, fork = table.to_pylist()
    assert (tool["repo_name"], tool["star_events_count"], tool["fork_events_count"]) == ("acme/tool", 2, 1)
    assert (tool["gha_license_id"], tool["gha_language"]) == ("MIT", "Python")
    assert tool["gha_event_created_at"] == datetime(2023, 1, 1, 1, tzinfo=UTC)
    assert tool["gha_created_at"] == datetime(2020, 1, 1, tzinfo=UTC)
    assert (fork["repo_name"], fork["github_id"], fork["star_events_count"]) == ("me/tool", 9, 0)


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/Acme/Tool",
        "https://github.com/acme/tool.git",
        "http://www.github.com/acme/tool/",
        "git@github.com:acme/tool.git",
        "ssh://git@github.com/acme/tool",
        "acme/tool",
    ],
)
def test_an_origin_is_found_however_its_url_is_written(hours, url):
    files = pa.table({"repo_name": [url, "https://gitlab.com/acme/tool"], "path": ["a", "b"]})
    mine, other = describe_repositories(files, read_repositories(hours)).to_pylist()
    assert (mine["repo_name"], mine["star_events_count"]) == (url, 2)
    assert other["star_events_count"] is None


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_table_may_have_any_of_the_columns(tmp_path, suffix):
    table = pa.table({"repo_name": ["pkg:pypi/b", "a/a"], "star_events_count": [5, 7], "more": ["x", "y"]})
    path = tmp_path / f"stars.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path)
    elif suffix == "csv":
        path.write_text("repo_name,star_events_count,more\npkg:pypi/b,5,x\na/a,7,y\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    read = read_repositories(path)
    assert read["repo_name"].to_pylist() == ["a/a", "pkg:pypi/b"]
    assert read["star_events_count"].to_pylist() == [7, 5]
    assert read["gha_license_id"].null_count == 2


def test_bad_tables_are_refused_with_what_is_wrong(tmp_path):
    def refused(name, text, error, message):
        (tmp_path / name).write_text(text)
        with pytest.raises(error, match=message):
            read_repositories(tmp_path / name)

    refused("a.csv", "name,stars\nx,1\n", SchemaError, "no column repo_name")
    refused("b.csv", "repo_name,star_events_count\nx,1\nX,2\n", SchemaError, "more than once")
    refused("c.csv", "repo_name,star_events_count\nx,many\n", SchemaError, "do not fit")
    refused("d.txt", "", ConfigError, "no table of repositories")
    refused("e.parquet", "no parquet", SourceError, "cannot be read")
    with pytest.raises(ConfigError, match="no table"):
        read_repositories(tmp_path / "missing.csv")
    (tmp_path / "hours").mkdir()
    with pytest.raises(ConfigError, match="no hours"):
        read_repositories(tmp_path / "hours")
    (tmp_path / "hours/2023-01-01-0.json").write_text('{"type": "Watch\n')
    with pytest.raises(SourceError, match="2023-01-01-0"):
        read_repositories(tmp_path / "hours")
