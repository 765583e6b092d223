import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.scrub.numbers import iban_valid, luhn_valid
from stack_platform.scrub.surrogates import is_surrogate, surrogate

KEY = b"test key"
values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


def shape(text):
    return re.sub("[0-9]", "9", re.sub("[a-z]", "a", re.sub("[A-Z]", "A", text)))


def test_a_surrogate_differs_is_known_and_is_stable(sample):
    made = surrogate(sample.kind, sample.value, KEY)
    assert made != sample.value
    assert is_surrogate(sample.kind, made)
    assert not is_surrogate(sample.kind, sample.value)
    assert made == surrogate(sample.kind, sample.value, KEY)


def test_key_scope_and_attempt_each_change_the_surrogate(samples):
    kind, _, value, _ = samples["typed token"]
    made = {
        surrogate(kind, value, KEY),
        surrogate(kind, value, b"other"),
        surrogate(kind, value, KEY, "repo"),
    }
    assert len(made | {surrogate(kind, value, KEY, "", 1)}) == 4


@given(values)
def test_a_shaped_surrogate_keeps_length_and_is_recognized(value):
    made = surrogate("KEY", value, KEY)
    assert len(made) == len(value)
    if len(value) >= 3:
        assert is_surrogate("KEY", made) or not any(char.isalnum() for char in value[:200])


def test_keys_and_tokens_keep_their_character_classes(samples):
    for name in ("typed token", "hex key", "jwt", "vendor token"):
        value = samples[name].value
        assert shape(surrogate("KEY", value, KEY)) == shape(value)
    assert re.fullmatch("[0-9a-f]{32}", surrogate("KEY", samples["hex key"].value, KEY))


def test_escapes_survive():
    value = "ab\\n12\\u00e9cd%2Fef34\\x41gh56ij78"
    made = surrogate("PASSWORD", value, KEY)
    assert [made.find(part) for part in ("\\n", "\\u00e9", "%2F", "\\x41")] == [
        value.find(part) for part in ("\\n", "\\u00e9", "%2F", "\\x41")
    ]


@pytest.mark.parametrize("name", ["rsa key", "key in a json string", "putty key"])
def test_key_blocks_keep_their_armor_and_lines(samples, name):
    value = samples[name].value
    made = surrogate("PRIVATE_KEY", value, KEY)
    assert [len(line) for line in made.split("\n")] == [len(line) for line in value.split("\n")]
    assert made[:16] == value[:16]


@given(st.ip_addresses())
def test_addresses_become_documentation_addresses(address):
    made = ipaddress.ip_address(surrogate("IP_ADDRESS", str(address), KEY))
    networks = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
    assert made.version == address.version
    assert any(
        made in ipaddress.ip_network(net)
        for net in networks
        if ipaddress.ip_network(net).version == made.version
    )


@given(st.from_regex(r"\A[2-6][0-9]{12,18}\Z"))
def test_cards_fail_luhn_and_belong_to_no_network(number):
    made = surrogate("CREDIT_CARD", number, KEY)
    assert made.startswith("9")
    assert not luhn_valid(made)
    assert len(made) == len(number)


def test_reserved_forms(samples):
    assert re.fullmatch(r"user-[0-9a-f]{8}@example\.com", surrogate("EMAIL", samples["email"].value, KEY))
    phone = surrogate("PHONE", "+49 (30) 90182-4711", KEY)
    assert shape(phone) == "+99 (99) 99999-9999"
    assert "55501" in re.sub(r"\D", "", phone)
    assert not iban_valid(surrogate("IBAN", samples["iban"].value, KEY).replace(" ", ""))


def test_short_secrets_share_the_word_redacted():
    assert surrogate("PASSWORD", "Tr0ub4", KEY) == surrogate("PASSWORD", "s3cr3t", KEY) == "REDACT"


@given(st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=16, max_size=40))
def test_an_ordinary_value_is_no_surrogate(value):
    assert not is_surrogate("KEY", value)


@pytest.mark.parametrize("kind", ["PHONE", "CREDIT_CARD", "IBAN"])
def test_a_number_joined_with_something_else_is_replaced_by_shape(kind):
    value = "4111111111111111/ab=cd"
    made = surrogate(kind, value, KEY)
    assert (len(made), made[16], made[19]) == (len(value), "/", "=")
    assert made != value
