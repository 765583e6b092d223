import json
from pathlib import Path

import pytest

from stack_platform.errors import ConfigError, SourceError
from stack_platform.languages import catalog, derive_catalog

DAGSTER_FORBIDS = ("...", "\a", "\b", "\f", "\n", "\r", "\t", "\v", "\0")


def test_names_are_sorted_unique_and_many():
    names = catalog.language_names()
    assert list(names) == sorted(set(names))
    assert len(names) >= 800


def test_names_can_be_partition_keys():
    for name in catalog.language_names():
        assert name.isascii()
        assert name.isprintable()
        assert name == name.strip()
        assert not name.startswith(".")
        assert not any(forbidden in name for forbidden in DAGSTER_FORBIDS)
        assert not set(name) & set(',/\\|:[]"')


def test_names_stay_apart_on_file_systems_that_ignore_case():
    names = catalog.language_names()
    assert len({name.lower() for name in names}) == len(names)


def test_language_ids_are_unique():
    numbers = [language.language_id for language in catalog.catalog().languages.values()]
    assert len(set(numbers)) == len(numbers)


def test_catalog_says_where_it_comes_from():
    provenance = json.loads(Path(catalog.__file__).with_name("catalog.json").read_text())["provenance"]
    assert provenance["package"] == "linguist-languages"
    assert provenance["version"].count(".") == 2
    assert provenance["license"] == provenance["upstream_license"] == "MIT"


def test_find_returns_the_whole_entry():
    python = catalog.find("Python")
    assert python.type == "programming"
    assert python.group == "Python"
    assert ".py" in python.extensions
    assert "python3" in python.interpreters
    assert catalog.find("TSX").group == "TypeScript"


@pytest.mark.parametrize(("wrong", "right"), [("Pyton", "'Python'"), ("golang", "'Go'"), ("C+ +", "'C++'")])
def test_find_offers_the_nearest_names(wrong, right):
    with pytest.raises(ConfigError, match="is not in the catalog; did you mean") as raised:
        catalog.find(wrong)
    assert repr(wrong) in str(raised.value)
    assert right in str(raised.value)


@pytest.mark.parametrize("wrong", ["", "zzzzqqqq", "\0"])
def test_find_says_what_a_name_looks_like_where_nothing_is_near(wrong):
    with pytest.raises(ConfigError, match="as linguist spells it"):
        catalog.find(wrong)


def test_longest_known_extension_wins():
    assert catalog.by_extension("page.blade.php") == ("Blade",)
    assert "PHP" in catalog.by_extension("page.other.php")
    assert catalog.by_extension("MAIN.PY") == ("Python",)
    assert catalog.by_extension("none") == ()


def test_filenames_keep_their_case_and_aliases_do_not():
    assert catalog.by_filename("Makefile") == ("Makefile",)
    assert catalog.by_filename("mAKEFILE") == ()
    assert catalog.by_alias(" CPP ") == ("C++",)
    assert catalog.by_alias("jupyter-notebook") == ("Jupyter Notebook",)
    assert "Shell" in catalog.by_interpreter("bash")


def test_derivation_keeps_zero_and_sorts():
    description = {"name": "linguist-languages", "version": "1.2.3", "license": "MIT"}
    languages = [
        {"name": "Zed", "type": "data", "languageId": 5, "color": "#fff"},
        {"name": "Abc", "type": "data", "languageId": 0, "extensions": [".abc"]},
    ]
    derived = json.loads(derive_catalog.catalog_text(description, languages))
    assert derived["languages"] == [
        {"name": "Abc", "type": "data", "language_id": 0, "extensions": [".abc"]},
        {"name": "Zed", "type": "data", "language_id": 5},
    ]


def test_derivation_refuses_another_folder(tmp_path):
    with pytest.raises(SourceError, match=r"holds no package\.json"):
        derive_catalog.read_package(tmp_path)
    (tmp_path / "package.json").write_text('{"name": "left-pad"}')
    with pytest.raises(SourceError, match="'left-pad'"):
        derive_catalog.read_package(tmp_path)


def test_prose_languages_are_for_readers():
    assert {"Text", "Markdown", "reStructuredText"} <= set(catalog.prose_languages())
    assert not {"Python", "JSON", "HTML"} & set(catalog.prose_languages())
