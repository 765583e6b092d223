"""The command line prints what the library gives, as text or JSON, and errors as one line."""

import json
from pathlib import Path

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
    assert [(Path(row["path"]).name, row["license"], row["type"]) for row in rows] == [
        ("strict.py", "GPL-3.0-only", "non_permissive")
    ]
    counts = {
        row["language"]: row["files"]
        for row in json.loads(run("languages", str(site / "alpha"), "--json").output)
    }
    assert counts["C"] == 1
    assert counts["Python"] >= 8


def test_scrub_replaces_and_explains(tmp_path: Path) -> None:
    address = "jane.roe" + "@" + "wonderland-mail.org"
    file = tmp_path / "a.py"
    file.write_bytes(f"contact = '{address}'\r\n".encode() + b"\xff")
    out = run("scrub", str(file)).stdout_bytes
    assert address.encode() not in out
    assert out.endswith(b"\r\n\xff")
    (span,) = json.loads(run("scrub", str(file), "--json").output)
    assert (span["type"], span["start"]) == ("EMAIL", 11)
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
