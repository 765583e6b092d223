"""Finds the license texts, NOTICE files and copyright lines that belong to a file.

Method: a file that inherits from a license file has that file's text. Where a tag, package metadata or an
annotation names the license, the text is looked for from there up the tree: `LICENSES/<id>.txt`, then the
usual names (LICENSE, LICENSE-MIT, COPYING ...), taken when `detect_license` finds the license in it; failing
that, the license file beside the metadata. A text or notice within the file is taken as it stands there. For
Apache-2.0 the nearest NOTICE file is added (section 4d of the license). Copyright lines are those of the
file, else those its annotation gives, else those of its license text, unless its own author speaks there (GNU).
Answers are remembered for each folder, so a repository costs a few look-ups a folder, not a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform.licenses.copyrights import find_copyrights
from stack_platform.licenses.detect import detect_license
from stack_platform.licenses.directories import symbols
from stack_platform.licenses.evidence import annotation_root, evidence_files, read_annotations
from stack_platform.licenses.globs import compile_glob, escape

LicenseTexts = Callable[[str, str], bytes | None]
"""Gives the bytes of a path of a repository, None when there is no such file."""

_NAMES = tuple(
    f"{word}{suffix}"
    for word in ("LICENSE", "LICENCE", "COPYING", "license", "License", "UNLICENSE")
    for suffix in ("", ".txt", ".md", ".rst")
)
_SHORT = {"Apache-2.0": "APACHE", "MIT": "MIT", "BSD-3-Clause": "BSD", "BSD-2-Clause": "BSD", "Zlib": "ZLIB"}
_NOTICES = ("NOTICE", "NOTICE.txt", "NOTICE.md")
_SPOKEN = frozenset({"text", "notice"})  # tiers of detection that see a license, not only its name
_REMEMBERED = 65536


class Attribution(NamedTuple):
    """What has to go with a file: license texts and NOTICE texts as found, and copyright lines."""

    texts: tuple[bytes, ...]
    notices: tuple[bytes, ...]
    copyrights: tuple[str, ...]


class Attributor:
    """Finds what has to go with files, reading other files of their repositories with `license_texts`."""

    def __init__(self, license_texts: LicenseTexts) -> None:
        self._read = license_texts
        self._text_of = lru_cache(maxsize=_REMEMBERED)(self._find_text)
        self._beside = lru_cache(maxsize=_REMEMBERED)(self._find_beside)
        self._notice_of = lru_cache(maxsize=_REMEMBERED)(self._find_notice)
        self._annotated = lru_cache(maxsize=256)(self._read_annotated)

    def attribute(
        self,
        repo: str,
        path: str,
        licenses: tuple[str, ...],
        places: tuple[str | None, str | None],
        content: str,
    ) -> Attribution:
        """Attribute a file that is under `licenses`.

        `places` are what states that (the file itself or another one), and what stands around it anyway: an
        installed package has its texts beside its metadata, not above its files.
        """
        origin, around = places
        inherited = origin is not None and origin != path
        place = origin if origin is not None and inherited else path
        own = find_copyrights(content)
        texts: list[bytes] = []
        if not inherited:
            texts = [content[a:b].encode() for a, b in _spoken_spans(content, path)]
        elif evidence_files(place) in ("license", "text") and (text := self._read(repo, place)):
            texts = [text]
        if not texts:
            folders = [
                where.rpartition("/")[0] for where in dict.fromkeys((place, around)) if where is not None
            ]
            found = [self._first(self._text_of, repo, folders, name) for name in licenses]
            texts = [text for text in dict.fromkeys(found) if text is not None]
        if not texts and inherited and (text := self._beside(repo, place.rpartition("/")[0])):
            texts = [text]
        if not own and inherited:
            own = self._annotated_copyrights(repo, place, path) or _holders(texts)
        apache = any(name.startswith("Apache-2.0") for name in licenses)
        notice = self._notice_of(repo, place.rpartition("/")[0]) if apache else None
        return Attribution(tuple(texts), (notice,) if notice else (), own)

    @staticmethod
    def _first(
        find: Callable[[str, str, str], bytes | None], repo: str, folders: list[str], name: str
    ) -> bytes | None:
        found = (find(repo, folder, name) for folder in folders)
        return next((text for text in found if text is not None), None)

    def _find_text(self, repo: str, folder: str, license_id: str) -> bytes | None:
        if folder.endswith((".dist-info", ".egg-info")) and (
            text := self._find_in(repo, f"{folder}/licenses", license_id)
        ):
            return text
        if (text := self._find_in(repo, folder, license_id)) is not None or not folder:
            return text
        return self._text_of(repo, folder.rpartition("/")[0], license_id)

    def _find_beside(self, repo: str, folder: str) -> bytes | None:
        """Return the license file beside metadata, whatever is found in it: the package's own words."""
        base = f"{folder}/" if folder else ""
        names = (start + name for start in (f"{base}licenses/", base) for name in _NAMES)
        return next((text for name in names if (text := self._read(repo, name))), None)

    def _find_in(self, repo: str, folder: str, license_id: str) -> bytes | None:
        base = f"{folder}/" if folder else ""
        if text := self._read(repo, f"{base}LICENSES/{license_id}.txt"):
            return text
        short = _SHORT.get(license_id)
        special = (f"LICENSE-{short}", f"LICENSE-{short}.txt", f"LICENSE.{short}") if short else ()
        for name in (*special, *_NAMES):
            text = self._read(repo, base + name)
            if text and _names(detect_license(text, name).expression, license_id):
                return text
        return None

    def _find_notice(self, repo: str, folder: str) -> bytes | None:
        base = f"{folder}/" if folder else ""
        folders = [base, f"{base}licenses/"] if folder.endswith((".dist-info", ".egg-info")) else [base]
        for name in (start + notice for start in folders for notice in _NOTICES):
            if text := self._read(repo, name):
                return text
        return self._notice_of(repo, folder.rpartition("/")[0]) if folder else None

    def _read_annotated(self, repo: str, place: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """List (RE2 of whole paths, copyright lines) of a file of annotations, the last one first."""
        annotations = read_annotations(place, self._read(repo, place) or b"") or ()
        root = annotation_root(place)
        base = escape(f"{root}/") if root else ""
        globs = [(compile_glob(base + p), a.copyrights) for a in annotations for p in a.patterns]
        return tuple((glob.regex, lines) for glob, lines in reversed(globs) if glob is not None)

    def _annotated_copyrights(self, repo: str, place: str, path: str) -> tuple[str, ...]:
        if evidence_files(place) == "sidecar":
            return find_copyrights((self._read(repo, place) or b"").decode("utf-8", errors="replace"))
        if evidence_files(place) != "annotations":
            return ()
        one = pa.array([path])
        for regex, lines in self._annotated(repo, place):
            if pc.match_substring_regex(one, regex)[0].as_py():
                return lines
        return ()


def _names(expression: str, license_id: str) -> bool:
    """Say whether a text has the license; of a BSD license without a number any BSD text is the text."""
    found = symbols(expression)
    return license_id in found or (
        license_id == "LicenseRef-BSD" and any(f.startswith("BSD-") for f in found)
    )


def _spoken_spans(content: str, path: str) -> list[tuple[int, int]]:
    """Find the license texts and notices within a content, as characters; overlapping ones become one."""
    data = content.encode("utf-8", errors="replace")
    finding = detect_license(data, path)
    pairs = zip(finding.spans, finding.evidence, strict=True)
    spans = sorted(span for span, evidence in pairs if evidence.tier in _SPOKEN)
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    if len(data) == len(content):
        return merged
    return [(len(data[:a].decode(errors="ignore")), len(data[:b].decode(errors="ignore"))) for a, b in merged]


def _holders(texts: list[bytes]) -> tuple[str, ...]:
    found = (line for text in texts for line in find_copyrights(text.decode("utf-8", errors="replace")))
    return tuple(dict.fromkeys(line for line in found if not re.search(r"Free Software Foundation", line)))
