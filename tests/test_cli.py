"""The command line prints what the library gives, as text or JSON, and errors as one line."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from stack_platform.cli import main
from stack_platform.tables import Lake


@pytest.fixture
def home(corpus: Lake) -> str:
    return str(Path(corpus.root).parent)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def every_command(group=main, prefix: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, (*prefix, name))
        else:
            yield (*prefix, name)


@pytest.mark.parametrize("command", list(every_command()), ids=" ".join)
def test_every_command_has_help_and_json_and_stands_in_the_contract(command: tuple[str, ...]) -> None:
    text = run(*command, "--help").output
    assert "--json" in text
    assert f"`{' '.join(command)}`" in (Path(__file__).parents[1] / "docs/contract.md").read_text()


def test_why_tells_the_story_of_a_file(home: str) -> None:
    text = run("why", "alpha/near_b.py", "--home", home).output
    assert "removed by deduplicated: near_duplicate" in text
    assert "alpha/near_a.py" in text
    (story,) = json.loads(run("why", "alpha/near_b.py", "--home", home, "--json").output)
    assert story["steps"][-1]["evidence"]["jaccard"] >= 0.7
    assert story["swhid"].startswith("swh:1:cnt:")


def test_an_error_is_one_line_and_exit_code_1(home: str) -> None:
    done = run("why", "no/such/file.py", "--home", home)
    assert done.exit_code == 1
    assert done.output.startswith("Error: the snapshot holds nothing named 'no/such/file.py'")
    assert len(done.output.splitlines()) == 1


def test_funnel_and_query_agree(home: str) -> None:
    stages = {
        row["stage"]: row["files"] for row in json.loads(run("funnel", "--home", home, "--json").output)
    }
    (row,) = json.loads(run("query", "SELECT count(*) AS n FROM scrubbed", "--home", home, "--json").output)
    assert row["n"] == stages["scrubbed"]
    assert "raw_snapshot" in run("funnel", "--home", home).output


def test_licenses_and_languages_of_a_folder(site: Path) -> None:
    rows = json.loads(run("licenses", str(site / "alpha"), "--json").output)
    assert [(row["path"], row["license"], row["type"]) for row in rows if row["license"] != "NONE"] == [
        ("strict.py", "GPL-3.0-only", "non_permissive")
    ]
    assert len(rows) == len([path for path in (site / "alpha").iterdir() if path.is_file()])
    counts = {
        row["language"]: row["files"]
        for row in json.loads(run("languages", str(site / "alpha"), "--json").output)
    }
    assert counts["C"] == 1
    assert counts["Python"] >= 8


def test_languages_of_the_lake_are_those_of_its_stages(home: str, tmp_path: Path) -> None:
    rows = {row["language"]: row for row in json.loads(run("languages", "--home", home, "--json").output)}
    (raw,) = json.loads(
        run(
            "query",
            "SELECT count(*) AS n FROM raw_snapshot WHERE language = 'Python'",
            "--home",
            home,
            "--json",
        ).output
    )
    assert rows["Python"]["files"] == raw["n"]
    (kinds,) = (
        row
        for row in json.loads(run("languages", "--by", "type", "--home", home, "--json").output)
        if row["type"] == "programming"
    )
    assert kinds["bytes"] == sum(row["bytes"] for row in rows.values() if row["type"] == "programming")
    assert "█" in run("languages", "--by", "group", "--home", home).output
    assert run("languages", str(tmp_path)).output == "there are no files\n"


def test_scrub_replaces_and_explains(tmp_path: Path) -> None:
    address = "jane.roe" + "@" + "wonderland-mail.org"
    file = tmp_path / "a.py"
    file.write_bytes(f"contact = '{address}'\r\n".encode() + b"\xff")
    out = run("scrub", str(file)).stdout_bytes
    assert address.encode() not in out
    assert out.endswith(b"\r\n\xff")
    (span,) = json.loads(run("scrub", str(file), "--json").output)
    assert (span["type"], span["start"]) == ("EMAIL", 11)
    (told,) = json.loads(run("scrub", "explain", str(file), "--json").output)
    assert (told["type"], told["line"], told["outcome"]) == ("EMAIL", 1, "replaced")
    assert address not in run("scrub", "explain", str(file)).output
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"allow: [{{value: {address}, reason: published}}]\n")
    assert address.encode() in run("scrub", str(file), "--policy", str(policy)).stdout_bytes
    page = tmp_path / "page.html"
    assert run("scrub", "page", str(file), "--out", str(page), "--mode", "token").exit_code == 0
    assert address not in page.read_text()
    assert "&lt;EMAIL&gt;" in page.read_text()
    done = run("scrub", str(file), "--sensitivity", "extreme")
    assert done.exit_code == 1
    assert "balanced" in done.output


def test_releases_are_built_listed_verified_and_compared(corpus: Lake, tmp_path: Path) -> None:
    import shutil

    home = tmp_path / "home"
    shutil.copytree(corpus.root, home / "lake")
    (made,) = json.loads(run("release", "build", "--home", str(home), "--json").output)
    assert made["new"]
    (listed,) = json.loads(run("release", "list", "--home", str(home), "--json").output)
    assert listed["digest"] == made["digest"]
    assert run("release", "verify", "--home", str(home)).output == "every file is as it was sealed\n"
    assert (
        "hold the same contents"
        in run("release", "diff", made["release"], made["release"], "--home", str(home)).output
    )
    assert run("vacuum", "--home", str(home)).exit_code == 0
    next((home / "lake" / "scrubbed" / "Python").glob("files-*.parquet")).unlink()
    done = run("release", "verify", "--home", str(home))
    assert done.exit_code == 1
    assert "is missing" in done.output


def test_a_snapshot_tells_what_each_origin_held_and_how_that_is_known(home: str, tmp_path: Path) -> None:
    out = tmp_path / "files.parquet"
    rows = json.loads(run("snapshot", "--home", home, "--out", str(out), "--json").output)
    assert {row["repo_name"] for row in rows} == {"pkg:pypi/alpha", "pkg:pypi/beta", "pkg:pypi/gamma"}
    assert all(row["point_in_time"] == "visit" and row["files"] for row in rows)
    assert pq.read_table(out).num_rows == sum(row["files"] for row in rows)
    done = run("snapshot", "--as-of", "yesterday", "--home", home)
    assert done.exit_code == 1
    assert "write it as 2023-09-06" in done.output
    assert "has no history of commits" in run("history", "pkg:pypi/beta", "a.py", "--home", home).output


def test_sources_are_listed_and_an_example_is_written_once(home: str, tmp_path: Path) -> None:
    (row,) = json.loads(run("sources", "--home", home, "--json").output)
    assert (row["source"], row["origins"]) == ("installed", 3)
    assert "wrote" in run("sources", "--init", "--home", str(tmp_path)).output
    assert "is there already" in run("sources", "--init", "--home", str(tmp_path)).output
    assert "installed" in run("sources", "--home", str(tmp_path)).output


def test_quality_of_a_file_tells_the_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "wide.py"
    file.write_text(f"x = {list(range(900))!r}\n")
    (row,) = json.loads(run("quality", str(file), "--json").output)
    assert (row["language"], row["quality_reason"], row["num_lines"]) == ("Python", "long_average_line", 1)
    assert "long_average_line" in run("quality", str(tmp_path)).output


def test_licenses_of_a_folder_are_inherited(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"license": "MIT"}')
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.js").write_text("let a = 1\n")
    rows = {row["path"]: row for row in json.loads(run("licenses", str(tmp_path), "--json").output)}
    found = rows["src/a.js"]
    assert (found["license"], found["type"], found["from"], found["stated in"]) == (
        "MIT",
        "permissive",
        "package",
        "package.json",
    )


def test_a_notice_bundle_names_those_who_wrote_what_is_released(corpus: Lake, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "home/lake")
    shutil.copytree(corpus.root, lake.root, dirs_exist_ok=True)
    home = str(tmp_path / "home")
    run("release", "build", "--home", home)
    folder = tmp_path / "notice"
    (report,) = json.loads(run("notice", str(folder), "--home", home, "--json").output)
    assert report["files"] > 5
    assert "Copyright (c) 2020 Somebody" in (folder / "NOTICE.txt").read_text()
    assert json.loads((folder / "spdx.json").read_text())["spdxVersion"] == "SPDX-2.3"
    (part,) = json.loads(
        run("notice", str(folder), "--where", "language = 'C'", "--home", home, "--json").output
    )
    assert part["files"] == 1
    assert "cannot be used" in run("notice", str(folder), "--where", "nonsense", "--home", home).output
    verdicts = json.loads(run("compatibility", "GPL-2.0-only", "--home", home, "--json").output)
    assert [(row["inbound"], row["verdict"]) for row in verdicts] == [("MIT", "yes")]


def test_pages_about_duplicates_show_who_left_for_whom(home: str, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    (made,) = json.loads(
        run("duplicates", "report", "Python", "--out", str(out), "--home", home, "--json").output
    )
    assert made["bytes"] == out.stat().st_size
    assert "copy_a.py" in out.read_text() or "copy_b.py" in out.read_text()
    sql = "SELECT repo_name, path FROM decisions WHERE reason = 'near_duplicate' LIMIT 1"
    (left,) = json.loads(run("query", sql, "--home", home, "--json").output)
    shown = run(
        "duplicates", "show", "Python", left["repo_name"], left["path"], "--out", str(out), "--home", home
    )
    assert shown.exit_code == 0
    assert left["path"] in out.read_text()
    across = json.loads(run("duplicates", "across", "Python", "C", "--home", home, "--json").output)
    assert {row["language"] for row in across} <= {"C"}
    refused = run("duplicates", "show", "Python", left["repo_name"], "no/such.py", "--home", home)
    assert (refused.exit_code, "did not leave Python" in refused.output) == (1, True)
