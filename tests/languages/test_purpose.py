import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.languages.purpose import is_configuration, is_documentation, is_test


@pytest.mark.parametrize(
    "path", ["docs/a.html", "README.md", "a/CHANGELOG", "examples/a.py", "man/man1/a.1", "LICENSE"]
)
def test_documentation_is_marked(path):
    assert is_documentation(path)


@pytest.mark.parametrize("path", ["src/docs.py", "readmes.py", "", "installer.py"])
def test_code_is_not_documentation(path):
    assert not is_documentation(path)


@pytest.mark.parametrize(
    "path", ["tests/a.py", "test_a.py", "a_test.go", "a.spec.ts", "src/ATest.java", "__tests__/a.js"]
)
def test_tests_are_marked(path):
    assert is_test(path)


@pytest.mark.parametrize("path", ["src/contest.py", "latest.js", "attest/a.c", "", "Greatest.java"])
def test_code_is_not_a_test(path):
    assert not is_test(path)


def test_configuration_goes_by_name_or_language():
    assert is_configuration("a/setup.cfg")
    assert is_configuration(".eslintrc")
    assert is_configuration("odd", "TOML")
    assert not is_configuration("a.py", "Python")


@given(st.text(max_size=60))
def test_any_path_is_judged(path):
    assert {is_documentation(path), is_test(path), is_configuration(path)} <= {True, False}
