import json
import re
from pathlib import Path

import pytest

from stack_platform.licenses.detect import detect_license
from stack_platform.licenses.policy import license_type

HARD = json.loads(Path(__file__).with_name("hard_cases.json").read_text(encoding="utf-8"))


def _fill(text):
    """Replace {X} by the text of X, and {X|old|new} by the same with other words."""

    def spell(match):
        whole = HARD["texts"][match[1]]
        return whole.replace(match[2], match[3]) if match[2] else whole

    return re.sub(r"\{([A-Z][\w.-]*)(?:\|([^|]*)\|([^|]*))?\}", spell, text)


@pytest.mark.parametrize("case", HARD["cases"], ids=lambda case: case["kind"])
def test_nothing_restricted_is_permissive_and_nothing_permissive_is_lost(case):
    finding = detect_license(_fill(case["text"]).encode(), case["name"])
    assert (license_type(finding.expression) == "permissive") == case["permissive"], finding
    assert not case["expected"] or finding.expression in case["expected"]


def test_there_are_enough_hard_cases():
    assert len(HARD["cases"]) >= 150
    assert sum(not case["permissive"] for case in HARD["cases"]) >= 100
