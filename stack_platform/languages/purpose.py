r"""Tell documentation, tests and configuration from the code they belong to, by path and language alone.

The three marks follow the habits of public repositories: folders (`docs/`, `tests/`), names (`README`, `test_x.py`,
`x.spec.ts`) and, for configuration, the languages that hold settings. They are hints for policies; a file can have
several of them or none.

Known error: a path says how people file things, not what a file holds; code inside documentation is documentation.
"""

import re

_DOCUMENTATION = re.compile(
    r"""
    (?:^|/)(?: docs? | documentation | javadoc | groovydoc | man | examples? | demos? | samples? )/
  | (?:^|/)(?: change(?:log|s) | contributing | copying | install | licen[cs]e | readme | authors | news
              | code_of_conduct | history )(?:\.[\w.-]+)?$
  | (?:^|/)man[1-9]/
    """,
    re.VERBOSE | re.IGNORECASE,
)

_TEST = re.compile(
    r"""
    (?:^|/)(?: tests? | spec | specs | __tests__ | testing | e2e | testdata )/
  | (?:^|/)tests?_[^/]*\.\w+$ | [^/][_.-](?:tests?|spec)\.\w+$ | (?:^|/)conftest\.py$
  | (?-i:[A-Za-z0-9]Tests?(?:Case)?\.(?:java|kt|scala|cs|swift|php|groovy|m|mm|fs|vb)$)
    """,
    re.VERBOSE | re.IGNORECASE,
)

_CONFIGURATION_LANGUAGES = frozenset({"INI", "JSON", "TOML", "XML", "YAML", "Java Properties", "Dotenv"})
_CONFIGURATION = re.compile(
    r"\.(?:ini|json|jsonc|json5|toml|ya?ml|xml|cfg|conf|config|properties|env|plist)$"
    r"|(?:^|/)\.(?:[\w-]+rc|editorconfig|gitattributes|gitignore|gitconfig|env)$",
    re.IGNORECASE,
)


def is_documentation(path: str) -> bool:
    """Tell whether a path from the root of its repository is read rather than run.

    >>> is_documentation("docs/index.html"), is_documentation("src/docs.py")
    (True, False)
    """
    return _DOCUMENTATION.search(path) is not None


def is_test(path: str) -> bool:
    """Tell whether a path from the root of its repository is a test or belongs to one.

    >>> is_test("tests/data/a.json"), is_test("src/contest.py")
    (True, False)
    """
    return _TEST.search(path) is not None


def is_configuration(path: str, language: str | None = None) -> bool:
    """Tell whether a file holds settings, by its name or, where given, its language.

    >>> is_configuration("pyproject.toml"), is_configuration("a.py")
    (True, False)
    """
    return language in _CONFIGURATION_LANGUAGES or _CONFIGURATION.search(path) is not None
