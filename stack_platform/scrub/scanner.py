"""The native scanner: kingfisher's rules and ours in one Vectorscan database.

One pass over the bytes finds every place worth a closer look; it runs at 55 MB/s or more on source
code and releases the GIL. Compiling the database takes 3 to 9 s, loading it from its cache folder 0.3 s, so a
process builds each scanner once and its threads share it (the scanner keeps no state between calls). All patterns
are without lookaround and backreferences, so that time is linear in the text, whatever the text.
"""

import json
import tempfile
import threading
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from stack_platform.errors import ConfigError

_FOLDER = Path(__file__).parent
_BUILDING = threading.Lock()


class Hit(NamedTuple):
    """A place where a native rule matched."""

    start: int  # bytes of the UTF-8 text, inclusive
    end: int  # bytes, exclusive
    rule: str
    confidence: str  # low, medium or high, of the rule


class Pack(NamedTuple):
    """Which rules a scanner holds."""

    confidence: str = "medium"  # medium, or low to include the rules that fire on any long token
    names: bool = False  # whether names of people are looked for
    custom: tuple[tuple[str, str], ...] = ()  # ids and patterns of the user's own rules
    cache_dir: str | None = (
        None  # folder of compiled rules, None for the engine's own; never changes a result
    )


def native_hits(data: bytes, pack: Pack = Pack()) -> list[Hit]:
    """Return the hits of the native pass over UTF-8 bytes, sorted by place.

    Names and custom rules are passes of their own: at 300 MB/s and more they cost less than to compile them anew
    together with everything else. Raises ConfigError for a custom rule that does not compile.
    """
    # The engine takes text with NUL bytes for UTF-16 and would answer offsets of its own decoding.
    data = data.replace(b"\0", b" ")
    hits = []
    for finding in chain.from_iterable(scanner.scan(data) for scanner in _scanners(pack)):
        if finding.visible:
            place = finding.location
            hits.append(Hit(place["start_offset"], place["end_offset"], finding.rule_id, finding.confidence))
    hits.sort()
    return hits


def _scanners(pack: Pack) -> list[Any]:
    with _BUILDING:
        scanners = [_compiled(pack.confidence, pack.cache_dir)]
        if pack.names:
            scanners.append(_compiled_names())
        if pack.custom:
            scanners.append(_compiled_custom(pack.custom))
    return scanners


@lru_cache(maxsize=8)
def _compiled(confidence: str, cache_dir: str | None) -> Any:
    from kingfisher_sdk import Rules, Scanner

    files = [_FOLDER / "rules.yaml", _FOLDER / "formats.yaml"]
    return Scanner(Rules(files, confidence=confidence, cache_dir=cache_dir), redact=False)


@cache
def _compiled_names() -> Any:
    return _alone(_FOLDER / "names.yaml")


def _alone(file: Path) -> Any:
    from kingfisher_sdk import Rules, Scanner

    return Scanner(Rules([file], builtins=False, cache=False), redact=False)


@lru_cache(maxsize=8)
def _compiled_custom(custom: tuple[tuple[str, str], ...]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "custom.yaml"
        file.write_text(json.dumps({"rules": [_native(*rule) for rule in custom]}), "utf-8")  # JSON is YAML
        try:
            return _alone(file)
        except RuntimeError as error:
            raise ConfigError(
                f"a rule of your policy does not compile: {error}; lookaround and backreferences are refused, because "
                "their time is not linear"
            ) from error


def _native(id_: str, pattern: str) -> dict[str, object]:
    return {"id": id_, "name": id_, "confidence": "high", "min_entropy": 0.0, "pattern": pattern}
