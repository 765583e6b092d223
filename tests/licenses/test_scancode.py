import importlib.util

import pytest

from stack_platform.errors import ConfigError
from stack_platform.licenses.detect import detect_license
from stack_platform.licenses.policy import license_type
from stack_platform.licenses.scancode import read_with_scancode

ODD = b"Permission is granted to read this on Tuesdays.\n"


def answer(expression):
    return lambda content, name: [(expression, "a.RULE", 0, len(content))]


def test_only_what_nobody_could_name_is_asked():
    asked = []

    def residual(content, name):
        asked.append(name)
        return []

    assert detect_license(b"# SPDX-License-Identifier: MIT\n", "a.py", residual=residual).expression == "MIT"
    assert detect_license(b"x = 1\n", "b.py", residual=residual).expression == "NONE"
    assert detect_license(ODD, "c.txt", residual=residual).expression == "UNKNOWN"
    assert asked == ["c.txt"]


def test_the_answer_is_a_finding_like_any_other():
    finding = detect_license(ODD, "c.txt", residual=answer("FSFAP"))
    assert finding.expression == "FSFAP"
    assert finding.evidence[0].tier == "scancode"
    assert finding.spans == ((0, len(ODD)),)


@pytest.mark.parametrize(
    "restriction", ["For non-commercial use only.", "Not for military use.", "The software may not be sold."]
)
def test_the_restriction_guard_runs_after_the_answer_too(restriction):
    finding = detect_license(ODD + restriction.encode(), "LICENSE", residual=answer("MIT"))
    assert license_type(finding.expression) != "permissive"


def test_a_permission_given_as_a_special_exception_presupposes_other_terms():
    finding = detect_license(b"As a special exception. " + ODD, "c.txt", residual=answer("FSFULLRWD"))
    assert license_type(finding.expression) != "permissive"


def test_an_answer_in_unknown_words_changes_nothing():
    assert detect_license(ODD, "c.txt", residual=answer("not an id")).expression == "UNKNOWN"


def test_a_missing_extra_is_said_with_the_command_that_installs_it():
    if importlib.util.find_spec("licensedcode") is not None:
        pytest.skip("ScanCode is installed here")
    with pytest.raises(ConfigError, match=r"stack-platform\[scancode\]"):
        read_with_scancode(b"x", "x")


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_scancode_names_lines_of_the_content():
    pytest.importorskip("licensedcode")
    content = b"int x;\n/* Licensed under the MIT license. */\nint y;\n"
    (statement,) = read_with_scancode(content, "x.c")
    assert statement.expression == "MIT"
    assert content[statement.start : statement.end] == b"/* Licensed under the MIT license. */"
