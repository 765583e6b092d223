import hashlib
import time
import uuid
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.errors import ConfigError
from stack_platform.scrub.detect import find_spans
from stack_platform.scrub.policy import LEVELS, Policy
from stack_platform.scrub.spans import TYPES


def found(text, path="", sensitivity="balanced"):
    return [(span.type, text[span.start : span.end]) for span in find_spans(text, path, sensitivity)]


def test_every_kind_is_found_at_its_exact_place(sample):
    assert found(sample.text, "src/app.py") == [(sample.kind, sample.value)]


def test_places_count_code_points(sample):
    assert found("é😀ß\n" + sample.text) == [(sample.kind, sample.value)]


@pytest.mark.parametrize(
    "text",
    [
        "mail user@example.com or a@test.invalid",
        "git clone git@github.com:org/repo.git",
        "from noreply@github.com",
        "icons: logo@2x.png",
        "y = q@k.transpose(0, 1)",
        "requires version 7.41.2.90",
        '[assembly: AssemblyFileVersion("7.41.2.90")]',
        "oid 1.3.6.1.4.1.311",
        "bind 127.0.0.1 and 0.0.0.0",
        "documented at 203.0.113.7 and 2001:db8::1",
        "lan 192.168.1.17",
        "std::vector<int> a = b::c; 12:34:56",
        "id = 4111111111111112",
        "created_at = 1600000033",
        "date 2024-01-31 12:00",
        "call me at 10:30",
        "# SPDX-License-Identifier: GPL-1.0-or-later",
        "# From linux-2.6.35.9",
        "pass `id2label/label2id` to it",
        "class DeepseekV32ForCausalLM:",
        "5240 524C 5282 5281 5290 5293 525C",
        "rng = default_rng(348932549825235)",
        "postgres://postgres:" + "postgres@localhost/",
        '"minipass": "^7.1.3"',
        "schemaKey = 'DOC_Vector_5_32'",
        "API_SECRET=" + "abcdefghijklmnopqrstuvwxyz123456",
        "d3a4b6c8 2.83 3.51.98.32",
        'password = "<choose one>"',
        'password = "${ORDERS_PASSWORD}"',
        'password = os.environ["ORDERS_PASSWORD"]',
        'api_key = "my-own-api-key"',
        'token = "xxxxxxxxxxxxxxxxxxxxxxxx"',
        'secret = vault.read("orders")',
        "credentials: S3CredentialProvider",
        "self.tokenizer_class = MyFastTokenizer",
        f"public_key = '{hashlib.md5(b'public').hexdigest()}'",
        f"sha256: {hashlib.sha256(b'file').hexdigest()}",
        f"commit {hashlib.sha1(b'commit').hexdigest()}",
        f'id: "{uuid.UUID(int=2**127 + 12345678901234567890)}"',
        "https://user:" + "password@host/",
        'if line == "' + "-" * 5 + 'BEGIN " + kind + " PRIVATE" + " KEY":',
        '"' + "-" * 5 + "BEGIN RSA PRIVATE" + " KEY" + "-" * 5 + '\\n" + pem.encode(body) + end',
        "pay to DE89 3704 0044 0532 0130 01",
    ],
)
def test_what_only_looks_sensitive_is_left_alone(text):
    assert found(text) == []


def test_addresses_of_ones_own_network_count_where_they_are_announced():
    assert found("gateway 192.168.17.1\n") == []
    assert found("gateway 192.168.17.1\n", sensitivity="strict") == [("IP_ADDRESS", "192.168.17.1")]
    assert found("connect to 192.168.17.1\n") == [("IP_ADDRESS", "192.168.17.1")]


@pytest.mark.parametrize("text", ["net 10.0.0.0/8", "mask 255.255.255.0", "fe80::/10", "ff02::1"])
def test_constants_of_networks_are_left_to_the_strict(text):
    assert found(text) == []


@pytest.mark.parametrize("text", ["host 127.0.0.1", "listen ::1", "bind 0.0.0.0"])
def test_the_own_machine_is_never_an_address_of_somebody(text):
    assert found(text, sensitivity="paranoid") == []


def test_a_bare_long_token_counts_only_when_paranoid(samples):
    value = samples["typed token"].value
    assert found(f"x({value})", sensitivity="balanced") == []
    assert found(f"x({value})", sensitivity="paranoid") == [("KEY", value)]


def test_files_of_hashes_keep_their_hashes_and_lose_their_addresses(samples):
    email = samples["email"]
    text = f"token = {samples['hex key'].value}\n{email.text}"
    assert found(text, "web/package-lock.json", "paranoid") == [("EMAIL", email.value)]
    assert len(found(text, "web/package.json")) == 2


@pytest.mark.parametrize(
    "name", ["go.sum", "a/Cargo.lock", "yarn.lock", "pnpm-lock.yaml", "SHA256SUMS", "x.min.js", "x.svg"]
)
def test_entropy_rules_skip_dense_files(name, samples):
    assert found(samples["typed token"].text, name, "paranoid") == []


def test_an_unknown_sensitivity_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'high'.*permissive, balanced, strict, paranoid"):
        find_spans("", sensitivity="high")


def test_a_higher_sensitivity_finds_what_a_lower_one_finds(sample):
    text = f"x = 1\n{sample.text}y = 2\n"
    covered = [
        {place for span in find_spans(text, sensitivity=name) for place in range(span.start, span.end)}
        for name in LEVELS
    ]
    assert all(low <= high for low, high in pairwise(covered))


@given(st.text(max_size=300))
def test_any_text_gets_sorted_disjoint_spans_inside_it(text):
    spans = find_spans(text, sensitivity="paranoid")
    assert all(0 <= span.start < span.end <= len(text) and span.type in TYPES for span in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))


def test_lone_surrogates_and_nul_bytes_do_no_harm(sample):
    assert found("\ud800\0" + sample.text) == [(sample.kind, sample.value)]


@pytest.fixture(scope="module")
def ordinary_seconds():
    line = "    def method(self, value: int = 3) -> str:  # returns name and size of the %d-th entry\n"
    return min(seconds("".join(line % n for n in range(12_000))) for _ in range(3))


def seconds(text):
    began = time.process_time()
    find_spans(text, "a.py", sensitivity="strict")
    return time.process_time() - began


HOSTILE = [
    "a",
    "(",
    "a@",
    "1",
    "1.",
    "aA",
    "\\",
    "=",
    "key=",
    '"',
    "eyJ",
    "://a:",
    "::",
    "AKIA",
    "twilio ",
    "a_",
    "LS0tLS1CRUdJTi",
    "-" * 5 + "BEGIN ",
    "+1",
    "é",
    "\n",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_hostile_megabyte_costs_no_more_than_a_few_ordinary_ones(unit, ordinary_seconds):
    text = (unit * (1_000_000 // len(unit)))[:1_000_000]
    assert seconds(text) < 40 * ordinary_seconds + 0.2


DENSE = {
    "e-mail": "a@b.co ",
    "phone": "+14155550199 ",
    "password": 'password="hunter' + '22" ',
    "environment": "PASSWORD=",
    "values in values": "secret=a1::",
    "paths in values": "key=a1/",
    "addresses": "1.2.3.4,",
    "author": "# Author: A B ",
    "key": "-" * 5 + "BEGIN PRIVATE" + " KEY" + "-" * 5 + "\n",
}


@pytest.mark.parametrize("unit", DENSE.values(), ids=DENSE.keys())
def test_time_is_linear_in_the_number_of_hits(unit):
    short, long = (min(seconds(unit * n) for _ in range(2)) for n in (500, 2000))
    assert long < 12 * short + 0.1


def test_a_custom_rule_finds_what_only_its_organization_knows():
    from stack_platform.scrub.policy import Rule

    policy = Policy(rules=(Rule("acme.ticket", "ACME-([0-9]{8})", "KEY", 0.95),))
    (span,) = find_spans("see é ACME-12345678", policy=policy)
    assert ("see é ACME-12345678"[span.start : span.end], span.rule) == ("12345678", "acme.ticket")
    assert find_spans("see ACME-12345678") == []


def test_a_rule_that_needs_lookaround_is_refused():
    from stack_platform.scrub.policy import Rule

    with pytest.raises(ConfigError, match="lookaround"):
        find_spans("x", policy=Policy(rules=(Rule("acme.look", "(?<=a)bcd"),)))


def test_thresholds_of_ones_own_win_over_the_level(samples):
    text = samples["email"].text
    assert find_spans(text, policy=Policy("balanced", {"EMAIL": 2.0})) == []
    assert find_spans("gateway 192.168.17.1\n", policy=Policy("balanced", {"IP_ADDRESS": 0.4}))


def test_what_is_allowed_stays(samples):
    from stack_platform.scrub.policy import Allowance

    sample = samples["email"]
    for kind, matcher in {
        "value": sample.value,
        "pattern": r".*@analytical-engine\.org",
        "path": "tests/*",
        "rule": "sp.em*",
    }.items():
        policy = Policy(allow=(Allowance(kind, matcher, "invented"),))
        assert find_spans(sample.text, "tests/a.py", policy=policy) == []
    assert find_spans(
        sample.text, "src/a.py", policy=Policy(allow=(Allowance("path", "tests/*", "invented"),))
    )
