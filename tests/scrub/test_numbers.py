import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.scrub.numbers import iban_valid, luhn_valid


@pytest.mark.parametrize("number", ["79927398713", "4111111111111111", "378282246310005", "0"])
def test_luhn_accepts_published_numbers(number):
    assert luhn_valid(number)


@given(st.text("0123456789", min_size=1, max_size=20), st.integers(0, 19), st.integers(1, 9))
def test_luhn_notices_every_single_wrong_digit(number, place, change):
    place %= len(number)
    wrong = number[:place] + str((int(number[place]) + change) % 10) + number[place + 1 :]
    assert not (luhn_valid(number) and luhn_valid(wrong))


@pytest.mark.parametrize("code", ["DE89370400440532013000", "GB82WEST12345698765432", "NO9386011117947"])
def test_iban_accepts_the_examples_of_the_registry(code):
    assert iban_valid(code)
    assert not iban_valid(code[:-1] + str((int(code[-1]) + 1) % 10))
