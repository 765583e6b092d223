"""Secrets leave the texts, every replacement is accounted for, and a policy of one's own is named in the decision."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stack_platform.corpus.checks import nothing_left_to_scrub
from stack_platform.corpus.index import indexed_languages
from stack_platform.corpus.stages import INDEX, Policies, corpus_stages
from stack_platform.corpus.texts import text_reader
from stack_platform.engine.local import LocalEngine
from stack_platform.engine.stages import run_stage
from stack_platform.scrub.policy import Policy, Rule
from stack_platform.scrub.redact import ScrubConfig
from stack_platform.tables import Lake

MAIL = "ada.lovelace" + "@" + "analytical-engine.org"
TEXT = f'''"""Talk to the engine."""

OWNER = "{MAIL}"
TICKET = "ACME-{12345678}"


def greet(name):
    """Say hello to somebody who came."""
    return f"hello {{name}}, write to {{OWNER}} about {{TICKET}}"
'''


@pytest.fixture
def lake(own_site: Path, tmp_path: Path, rebuild: Callable[[Lake, Path], None]) -> Lake:
    (own_site / "alpha/copy_b.py").write_text(TEXT)
    lake = Lake(tmp_path / "lake")
    rebuild(lake, own_site)
    return lake


def again(lake: Lake, scrub: ScrubConfig) -> None:
    with LocalEngine(1) as engine:
        for stage in corpus_stages(engine, Policies(scrub=scrub)).values():
            run_stage(lake, stage, indexed_languages(lake.open(INDEX)), text_reader(lake))


def decision(lake: Lake):
    rows = lake.open("scrubbed", "Python").read("decisions").to_pylist()
    return next(row for row in rows if row["path"] == "alpha/copy_b.py")


def test_a_secret_leaves_the_text_and_is_accounted_for(lake: Lake) -> None:
    partition = lake.open("scrubbed", "Python")
    text = next(
        row["content"] for row in partition.read("files").to_pylist() if row["path"] == "alpha/copy_b.py"
    )
    (span,) = (row for row in partition.read("spans").to_pylist() if row["path"] == "alpha/copy_b.py")
    assert MAIL not in text
    assert span["surrogate"] in text
    assert (span["type"], TEXT[span["start"] : span["end"]]) == ("EMAIL", MAIL)
    assert decision(lake)["reason"] == "email"
    assert nothing_left_to_scrub(lake, "Python").passed


def test_a_policy_of_ones_own_is_named_in_the_decision(lake: Lake) -> None:
    again(
        lake,
        ScrubConfig(policy=Policy(thresholds={"EMAIL": 2}, rules=(Rule("acme.ticket", "ACME-[0-9]{8}"),))),
    )
    row = decision(lake)
    version = json.loads(row["policy_version"])
    assert row["reason"] == "key"
    assert version == {
        "mode": "surrogate", "rules": ["acme.ticket"], "sensitivity": "balanced", "thresholds": {"EMAIL": 2}
    }  # fmt: skip


def test_surrogates_within_a_repository_are_possible(lake: Lake) -> None:
    before = lake.open("scrubbed", "Python").read("spans")["surrogate"].to_pylist()
    again(lake, ScrubConfig(scope="repository"))
    assert before != lake.open("scrubbed", "Python").read("spans")["surrogate"].to_pylist()
