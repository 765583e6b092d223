import pytest

from stack_platform.errors import ConfigError
from stack_platform.scrub.policy import LEVELS, Allowance, Policy, Rule, read_policy

YAML = """
sensitivity: strict
thresholds: {KEY: 0.7, NAME: 2}
license_headers: replace
rules:
  - {id: acme.ticket, type: KEY, pattern: 'ACME-[0-9]{8}', score: 0.95, name: a ticket}
  - {id: acme.badge, pattern: 'B[0-9]{6}'}
allow:
  - {value: support@acme.org, reason: published}
  - {path: 'fixtures/*', reason: invented}
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "policy.yaml"
        file.write_text(text, "utf-8")
        return file

    return write


def test_a_policy_is_read_as_written(written):
    assert read_policy(written(YAML)) == Policy(
        "strict",
        {"KEY": 0.7, "NAME": 2},
        "replace",
        (Rule("acme.ticket", "ACME-[0-9]{8}", "KEY", 0.95, "a ticket"), Rule("acme.badge", "B[0-9]{6}")),
        (Allowance("value", "support@acme.org", "published"), Allowance("path", "fixtures/*", "invented")),
    )


def test_an_empty_file_is_the_default(written):
    assert read_policy(written("")) == Policy()


def test_thresholds_of_ones_own_stand_before_those_of_the_level():
    policy = Policy("strict", {"KEY": 0.7})
    assert (policy.threshold("KEY"), policy.threshold("EMAIL")) == (0.7, LEVELS["strict"])


def test_the_first_allowance_that_fits_gives_its_reason():
    policy = Policy(
        allow=(Allowance("path", "docs/*", "examples"), Allowance("rule", "sp.ip*", "no addresses here"))
    )
    assert policy.reason_to_keep("1.2.3.4", "docs/a.md", "sp.email") == "examples"
    assert policy.reason_to_keep("1.2.3.4", "src/a.py", "sp.ip.v4") == "no addresses here"
    assert policy.reason_to_keep("1.2.3.4", "src/a.py", "sp.email") == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sensitivity: high", "permissive, balanced, strict, paranoid"),
        ("sensitive: strict", "'sensitive' is no setting"),
        ("- a", "settings are expected"),
        ("thresholds: {TELEPHONE: 0.5}", "'TELEPHONE'.*PHONE"),
        ("thresholds: {KEY: 0}", "over 0"),
        ("thresholds: {KEY: much}", "'much'"),
        ("license_headers: drop", "keep or replace"),
        ("rules: {id: a}", "list is expected"),
        ("rules: [{id: acme.a}]", "write id, pattern"),
        ("rules: [{id: acme.a, pattern: x, colour: red}]", "write id, pattern"),
        ("rules: [{id: sp.mine, pattern: x}]", "taken or no name"),
        ("rules: [{id: acme.a, pattern: '(x'}]", "no regular expression"),
        ("rules: [{id: acme.a, pattern: 'x*'}]", "matches nothing"),
        ("rules: [{id: acme.a, pattern: x, type: THING}]", "'THING'"),
        ("rules: [{id: acme.a, pattern: x, score: 3}]", "up to 1"),
        ("rules: [{id: acme.a, pattern: x}, {id: acme.a, pattern: y}]", "two rules"),
        ("allow: [{value: x}]", "has no reason"),
        ("allow: [{value: x, path: y, reason: z}]", "exactly one"),
        ("allow: [{pattern: '(x', reason: z}]", "no regular expression"),
        ("allow: [x]", "settings are expected"),
        ("a: [", "cannot be read"),
    ],
)
def test_what_is_wrong_in_a_policy_is_said(written, text, message):
    with pytest.raises(ConfigError, match=message):
        read_policy(written(text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        read_policy(tmp_path / "none.yaml")
