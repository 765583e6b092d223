import pytest

from stack_platform.scrub.known import Format, announced, begins_known, refuted


def test_the_engine_teaches_the_formats_of_its_vendors():
    (meraki,) = {row.body for row in announced("MERAKI_API_KEY = ")}
    assert meraki == "[0-9a-f]{40}"


@pytest.mark.parametrize("lead", ["meraki_api_key = ", "MerakiToken: ", "// meraki key "])
def test_a_value_of_another_format_is_refuted(lead):
    assert refuted(lead, "0f" * 19)
    assert not refuted(lead, "0f" * 20)


def test_a_name_of_no_vendor_refutes_nothing():
    assert not refuted("api_key = ", "0f" * 19)
    assert not refuted("MERAKI_WEBHOOK_URL = ", "0f" * 19)


def test_what_begins_like_a_vendors_token_is_known():
    assert begins_known("gh" + "p_short")
    assert refuted("x = ", "gh" + "p_short")
    assert not begins_known("hello_world")


def test_a_rule_that_nobody_can_read_refutes_nothing():
    assert Format("", "(unfinished", any_case=False).fits("anything")
