import datetime as dt
import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.dedup.preference import PreferenceConfig
from stack_platform.dedup.repositories import REPOSITORY_DUPLICATES, RepositoryConfig, repository_duplicates
from stack_platform.errors import ConfigError, SchemaError


def table(repos: list[dict]) -> pa.Table:
    """Make one row per content; a repository has a name, contents and any of the other columns."""
    rows = [
        {
            "repo_name": repo["name"],
            "content_id": content,
            "directory_id": repo.get("directory", f"root of {repo['name']}"),
            "revision_id": repo.get("revision"),
            "license_type": repo.get("license", "permissive"),
            "star_events_count": repo.get("stars"),
            "fork_events_count": None,
            "revision_date": repo.get("date"),
            "path": f"src/{place}",
            "blob_id": content,
        }
        for repo in repos
        for place, content in enumerate(repo["contents"])
    ]
    kinds = {
        "star_events_count": pa.int64(),
        "fork_events_count": pa.int64(),
        "revision_date": pa.timestamp("us", "UTC"),
    }
    names = (
        "repo_name content_id directory_id revision_id license_type star_events_count fork_events_count "
        "revision_date path blob_id"
    ).split()
    return pa.Table.from_pylist(rows, pa.schema([(name, kinds.get(name, pa.string())) for name in names]))


def found(repos: list[dict], **settings) -> dict[str, tuple[str, str, float | None]]:
    rows = repository_duplicates(table(repos), RepositoryConfig(**settings)).to_pylist()
    return {row["repo_name"]: (row["keeper_repo_name"], row["reason"], row["overlap"]) for row in rows}


def numbered(count: int, prefix: str = "c") -> list[str]:
    return [f"{prefix}{place}" for place in range(count)]


def test_forks_and_mirrors_leave_for_the_starred_original():
    repos = [
        {"name": "fork", "contents": ["x", "y"], "directory": "d1", "stars": 1},
        {"name": "original", "contents": ["x", "y"], "directory": "d1", "stars": 90},
        {"name": "mirror", "contents": ["p"], "revision": "r1", "directory": "d2"},
        {"name": "a-mirrored", "contents": ["p", "q"], "revision": "r1", "directory": None},
        {"name": "another part of it", "contents": ["r"], "revision": "r2", "directory": "d3"},
        {"name": "second part of it", "contents": ["s"], "revision": "r2", "directory": "d4"},
        {"name": "alone", "contents": ["z"]},
    ]
    assert found(repos) == {
        "fork": ("original", "same_root_directory", None),
        "mirror": ("a-mirrored", "same_revision", None),
    }


def test_a_near_copy_leaves_and_one_with_more_of_its_own_stays():
    upstream = {"name": "upstream", "contents": numbered(40), "stars": 5}
    near = {"name": "near", "contents": [*numbered(36), *numbered(4, "own")]}
    far = {"name": "far", "contents": [*numbered(35), *numbered(5, "mine")]}
    assert found([near, far, upstream]) == {"near": ("upstream", "near_copy", 0.9)}
    assert found([near, far, upstream], overlap=0.875)["far"] == ("upstream", "near_copy", 0.875)
    assert found([near, far, upstream], overlap=1.0) == {}


def test_permissive_wins_over_stars_and_older_over_newer_unless_asked():
    old, new = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    repos = [
        {"name": "a", "contents": numbered(12), "license": "non_permissive", "stars": 1000},
        {"name": "b", "contents": numbered(12), "date": new},
        {"name": "c", "contents": numbered(12), "date": old},
    ]
    assert {keeper for keeper, _, _ in found(repos).values()} == {"c"}
    newest = repository_duplicates(table(repos), preference=PreferenceConfig(revision_date="newest"))
    assert newest["keeper_repo_name"].to_pylist() == ["b", "b"]


def test_small_repositories_leave_only_for_the_same_contents():
    small = {"name": "small", "contents": numbered(3)}
    large = {"name": "large", "contents": numbered(30), "stars": 9}
    same = {"name": "twin", "contents": numbered(3), "stars": 1}
    assert found([small, large]) == {}
    assert found([small, large, same]) == {"small": ("twin", "same_contents", 1.0)}
    assert found([small, large], min_contents=3) == {"small": ("large", "near_copy", 1.0)}


def test_a_repository_never_leaves_for_one_that_leaves():
    one = {"name": "1", "contents": numbered(20), "stars": 3}
    two = {"name": "2", "contents": numbered(22)[2:], "stars": 2}
    three = {"name": "3", "contents": numbered(24)[4:], "stars": 1}
    assert found([three, two, one]) == {"2": ("1", "near_copy", 0.9)}


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_agrees_with_a_walk_that_compares_everything(seed):
    dice = random.Random(seed)
    repos: list[dict] = []
    for number in range(25):
        base = (
            dice.choice(repos)["contents"] if repos and dice.random() < 0.7 else numbered(30, f"n{number}-")
        )
        contents = [c for c in base if dice.random() > 0.06] + numbered(dice.randrange(4), f"own{number}-")
        repos.append({"name": f"{number:02}", "contents": contents, "stars": 100 - number})
    kept: list[dict] = []
    expected = {}
    for repo in repos:
        own = set(repo["contents"])
        for keeper in kept:
            if len(own & set(keeper["contents"])) >= 0.9 * len(own) - 1e-9 and len(own) >= 10:
                expected[repo["name"]] = keeper["name"]
                break
        else:
            kept.append(repo)
    dice.shuffle(repos)
    assert {name: keeper for name, (keeper, _, _) in found(repos).items()} == expected


def test_files_without_repository_or_content_take_part_in_nothing():
    files = table([{"name": None, "contents": ["a"]}, {"name": None, "contents": ["a"]}])
    assert repository_duplicates(files).equals(REPOSITORY_DUPLICATES.empty_table())
    assert repository_duplicates(table([])).equals(REPOSITORY_DUPLICATES.empty_table())
    assert found([{"name": "a", "contents": [None]}, {"name": "b", "contents": [None]}]) == {}


def test_settings_and_tables_that_cannot_work_are_refused():
    for setting, message in (
        ({"overlap": 0.0}, "overlap is 0.0"),
        ({"min_contents": 0}, "min_contents is 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            RepositoryConfig(**setting)
    with pytest.raises(SchemaError, match="files lack the column directory_id"):
        repository_duplicates(table([]).drop_columns(["directory_id"]))
    with pytest.raises(SchemaError, match="files lack the column star_events_count"):
        repository_duplicates(table([]).drop_columns(["star_events_count"]))
