import dataclasses

from stack_platform.scrub.explain import explain, shape
from stack_platform.scrub.policy import Allowance, Policy
from stack_platform.scrub.redact import ScrubConfig


def test_an_explanation_says_what_rule_found_what_where_and_never_the_value(sample):
    explained = explain("\n" + sample.text, "src/app.py")
    assert any(row.outcome == "replaced" and row.type == sample.kind for row in explained)
    for row in explained:
        assert sample.value not in str(dataclasses.astuple(row))
        assert row.says
        assert row.digest
    assert explained[0].line == 2


def test_what_does_not_count_is_explained_too():
    (row,) = explain("gateway 192.168.17.1\n")
    assert (row.outcome, row.counts_from, row.threshold) == ("below the threshold", "strict", 0.5)
    assert row.context == "gateway <IP_ADDRESS>"


def test_an_allowance_is_named_with_its_reason(samples):
    config = ScrubConfig(policy=Policy(allow=(Allowance("path", "docs/*", "examples"),)))
    (row,) = explain(samples["email"].text, "docs/a.md", config)
    assert row.outcome == "allowed: examples"


def test_other_secrets_of_the_line_are_masked(samples):
    one, two = samples["email"].value, samples["ipv4"].value
    rows = explain(f"mail {one} from host {two}\n")
    assert {row.context for row in rows} == {"mail <EMAIL> from host <IP_ADDRESS>"}


def test_a_shape_tells_kinds_and_runs():
    assert shape("Ab-123é x") == "Aa-9{3}a_a"
