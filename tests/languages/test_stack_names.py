import pytest

from stack_platform.errors import ConfigError
from stack_platform.languages.catalog import language_names
from stack_platform.languages.stack_names import RENAMED, SPLIT, from_stack_v2, to_stack_v2


def test_every_name_goes_there_and_back_except_splits():
    for name in language_names():
        if name not in SPLIT:
            assert from_stack_v2(to_stack_v2(name)) == name


def test_renamed_languages_are_in_the_catalog_and_their_old_names_are_not():
    names = set(language_names())
    assert set(RENAMED.values()) <= names
    assert not set(RENAMED) & names
    assert set(SPLIT) | set(SPLIT.values()) <= names


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="did you mean"):
        from_stack_v2("Pyton")
