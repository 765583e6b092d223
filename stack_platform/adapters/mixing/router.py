"""Which adapter answers a request: by its language, or by a function of the caller's.

The platform trains one adapter for each language, so a table from language to adapter is the usual router. Languages
are written as linguist names them, or by an alias or another case of the name ("py", "c++"). What a router returns for
each request is what `adapter_names` takes for each row.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stack_platform.adapters.mixing.active import BASE, Choice
from stack_platform.errors import AdapterError, ConfigError
from stack_platform.languages.catalog import by_alias, find

Route = Callable[[str | None], Choice]
"""From the language of a request, or None where it has none, to the adapters that answer it."""


@dataclass(frozen=True, slots=True)
class Router:
    """A table from language to adapter, or to an active set of several."""

    table: Mapping[str, Choice] = field(default_factory=dict)
    """Linguist's name to adapter, to several, or to several with weights."""
    default: Choice | None = None
    """For languages that the table lacks, and for requests without one: an adapter, or `__base__`; None is an error."""

    def __post_init__(self) -> None:
        named: dict[str, Choice] = {}
        for language, choice in self.table.items():
            name = _name(language)
            if name in named:
                raise AdapterError(f"the router has two entries for {name!r}; keep one")
            named[name] = choice
        object.__setattr__(self, "table", named)

    def __call__(self, language: str | None) -> Choice:
        """Return the adapters for a language.

        Raises: AdapterError when the table lacks it and there is no default.
        """
        if language is not None and (choice := self.table.get(_name(language))) is not None:
            return choice
        if self.default is None:
            there = ", ".join(sorted(self.table)) or "none"
            raise AdapterError(
                f"no adapter for {_shown(language)}; there are: {there}. Add one, or give a default"
            )
        return self.default


def route(
    router: Route | Mapping[str, Choice], languages: Iterable[str | None], adapters: Sequence[str]
) -> list[Choice]:
    """Return `adapter_names` for the requests of a batch, by a router, a table, or any function of a language.

    `adapters` are those on the model. Raises: AdapterError when the router names another one.
    """
    chosen = Router(router) if isinstance(router, Mapping) else router
    rows = []
    for language in languages:
        choice = chosen(language)
        if not isinstance(choice, str | Mapping | Sequence):
            raise AdapterError(
                f"the router gave {choice!r} for {_shown(language)}; return the name of an adapter, several, or "
                f"{BASE!r}"
            )
        for name in [choice] if isinstance(choice, str) else choice:
            if name not in adapters and name != BASE:
                there = ", ".join(adapters) or "none"
                raise AdapterError(f"the router gave {name!r} for {_shown(language)}; the model has: {there}")
        rows.append(choice)
    return rows


def _name(language: str) -> str:
    named = by_alias(language)
    try:
        return named[0] if len(named) == 1 else find(language).name
    except ConfigError as error:
        raise AdapterError(f"the router: {error}") from error


def _shown(language: str | None) -> str:
    return "a request without language" if language is None else f"language {language!r}"
