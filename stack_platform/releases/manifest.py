"""A release: an immutable list of files with their checksums, and everything they were made from.

    releases/<year>.<month>.<patch>.json    created once, never replaced

1. `release`, `parent`: this version and the one before it.
2. `files`: for every Parquet file its path, SHA-256, size, rows and language.
3. `languages`: files, bytes and licenses of each, and the digest of its partition at every stage.
4. `parents`: digests of the graph and the index, and the version of the license policy.
5. `counts`: what each stage kept, dropped by reason and redacted.
6. `digest`: SHA-256 over all of the above but `release`, `parent` and itself. Equal data, equal digest.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from stack_platform.errors import ReleaseError
from stack_platform.manifests import digest_of
from stack_platform.tables import Lake

FOLDER = "releases"


@dataclass(frozen=True)
class Release:
    """What a release says of itself."""

    release: str
    parent: str | None
    files: tuple[Mapping[str, Any], ...]
    languages: Mapping[str, Mapping[str, Any]]
    parents: Mapping[str, str]
    counts: tuple[Mapping[str, Any], ...]

    @property
    def digest(self) -> str:
        """SHA-256 over data and origins, whatever the release is called."""
        document = asdict(self)
        return digest_of({key: value for key, value in document.items() if key not in ("release", "parent")})

    @property
    def rows(self) -> int:
        """Files of source code in the release."""
        return sum(file["rows"] for file in self.files)

    @property
    def licenses(self) -> dict[str, int]:
        """Count the files of all languages by license expression, most frequent first."""
        counts: Counter[str] = Counter()
        for language in self.languages.values():
            counts.update(language["licenses"])
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def to_json(self) -> str:
        """Write the manifest as readable, sorted JSON."""
        return (
            json.dumps({**asdict(self), "digest": self.digest}, sort_keys=True, indent=1, ensure_ascii=False)
            + "\n"
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ReleaseError: the text is no release manifest, or was altered since it was sealed.

        """
        try:
            document = json.loads(text)
            stated = document.pop("digest")
            document["files"] = tuple(document["files"])
            document["counts"] = tuple(document["counts"])
            made = cls(**document)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReleaseError(f"not a release manifest: {text[:80]!r} ({error})") from error
        if made.digest != stated:
            raise ReleaseError(f"the manifest of release {made.release} was altered after it was sealed")
        return made


def list_releases(lake: Lake) -> list[str]:
    """List the sealed releases, oldest first."""
    names = [name.removesuffix(".json") for name in lake.names(FOLDER) if name.endswith(".json")]
    return sorted(names, key=version_of)


def version_of(name: str) -> tuple[int, int, int]:
    """Read `<year>.<month>.<patch>`.

    Raises:
        ReleaseError: the name has another form.

    """
    parts = name.split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise ReleaseError(
            f"{name!r} is no release name; write <year>.<month>.<patch>, for example 2026.11.0"
        )
    year, month, patch = (int(part) for part in parts)
    return year, month, patch


def read_release(lake: Lake, name: str | None = None) -> Release:
    """Read a release, the newest where no name is given.

    Raises:
        ReleaseError: there is none of that name.

    """
    known = list_releases(lake)
    if name is None and known:
        name = known[-1]
    data = lake.get(f"{FOLDER}/{name}.json") if name is not None else None
    if data is None:
        there = (
            f"sealed are {', '.join(known)}"
            if known
            else "none is sealed yet; build one with: stack-platform release build"
        )
        raise ReleaseError(f"there is no release {name or ''}; {there}".replace("  ", " "))
    return Release.from_json(data.decode())


def pinned_files(lake: Lake) -> set[str]:
    """Name all files that releases hold, which must outlive the partitions they came from."""
    return {file["path"] for name in list_releases(lake) for file in read_release(lake, name).files}
