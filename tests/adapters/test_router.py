import pytest

from stack_platform.adapters import Router, route
from stack_platform.errors import AdapterError

TABLE = {"Python": "py", "C++": {"cpp": 0.7, "c": 0.3}, "JavaScript": ["js", "ts"]}
ADAPTERS = ["py", "cpp", "c", "js", "ts"]


def test_a_language_finds_its_adapter_by_any_of_its_names():
    router = Router(TABLE)
    assert [router(name) for name in ("Python", "python", "py", "c++")] == ["py", "py", "py", TABLE["C++"]]


def test_a_batch_has_one_choice_for_each_request():
    rows = route(Router(TABLE, default="__base__"), ["C++", None, "JavaScript", "Rust"], ADAPTERS)
    assert rows == [{"cpp": 0.7, "c": 0.3}, "__base__", ["js", "ts"], "__base__"]


def test_a_table_or_a_function_is_a_router():
    assert route(TABLE, ["Python"], ADAPTERS) == ["py"]
    assert route(lambda language: "c" if language is None else "cpp", [None, "C"], ADAPTERS) == ["c", "cpp"]


@pytest.mark.parametrize(
    ("language", "message"),
    [
        ("Rust", "no adapter for language 'Rust'; there are: C\\+\\+, JavaScript, Python"),
        (None, "no adapter for a request without language"),
        ("Pythn", "the router: .*Python"),
    ],
)
def test_a_language_without_adapter_is_named(language, message):
    with pytest.raises(AdapterError, match=message):
        Router(TABLE)(language)


def test_a_table_with_a_language_that_is_none_is_refused():
    with pytest.raises(AdapterError, match="the router: language 'Klingonn'"):
        Router({"Klingonn": "k"})
    with pytest.raises(AdapterError, match="two entries for 'Python'"):
        Router({"Python": "a", "py": "b"})


def test_an_adapter_that_the_model_lacks_is_named():
    with pytest.raises(AdapterError, match="gave 'js' for language 'JavaScript'; the model has: py"):
        route(TABLE, ["JavaScript"], ["py"])
    with pytest.raises(AdapterError, match="gave None for language 'C'"):
        route(lambda language: None, ["C"], ADAPTERS)
