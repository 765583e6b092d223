"""Real source files with near duplicates planted among them, the same for the same seed and folders.

Used by the benchmarks of deduplication. A fifth of the files are edited copies of another: license header changed,
identifiers renamed, reformatted, functions reordered, truncated, lines deleted.
"""

import hashlib
import os
import random
import re
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

_NAMES = """
    py pyi pyx h hpp cuh c cc cpp js mjs ts css html json md rst txt f f90 cmake yaml java rs go pl pm sh xml tcl r m
    lua rb php sql el vim ml hs
"""
SUFFIXES = frozenset(f".{name}" for name in _NAMES.split())
LICENSES = (
    "Copyright (c) {year} {name}\nLicensed under the Apache License, Version 2.0; use it in compliance with it.",
    "Copyright {year} by {name}. All rights reserved.\nUse of this source code is governed by a BSD-style license.",
    "SPDX-FileCopyrightText: {year} {name}\nSPDX-License-Identifier: MIT",
)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{3,}")


def environment_folders() -> list[Path]:
    """Return folders with source files that are there wherever this runs."""
    paths = sysconfig.get_paths()
    found = {Path(paths[name]).resolve() for name in ("stdlib", "purelib", "platlib")}
    return sorted(
        found
        | {Path(folder) for folder in ("/usr/include", "/usr/share", "/usr/lib") if Path(folder).is_dir()}
    )


def source_files(folders: Sequence[Path], count: int, seed: int, largest: int = 1_000_000) -> Iterator[str]:
    """Yield up to `count` distinct texts in UTF-8 of at most `largest` bytes, drawn from the folders by the seed."""
    paths = sorted(
        Path(folder, name)
        for top in folders
        for folder, _, names in os.walk(top)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    )
    random.Random(seed).shuffle(paths)
    seen: set[bytes] = set()
    for path in paths:
        if len(seen) == count:
            return
        try:
            data = path.read_bytes() if path.stat().st_size <= largest else b""
            text = data.decode()
        except (OSError, UnicodeDecodeError):
            continue
        digest = hashlib.sha1(data).digest()
        if text and digest not in seen:
            seen.add(digest)
            yield text


def planted_corpus(folders: Sequence[Path], count: int, seed: int = 1) -> pa.Table:
    """Return up to `count` files (blob_id, content, kind) in an order drawn by the seed; kind is "" for originals."""
    dice = random.Random(seed)
    texts = [(text, "") for text in source_files(folders, count - count // 5, seed)]
    for text, _ in dice.choices(texts, k=len(texts) // 4):
        kind = dice.choice(sorted(EDITS))
        texts.append((EDITS[kind](text, dice), kind))
    dice.shuffle(texts)
    found = {hashlib.sha1(text.encode()).hexdigest(): (text, kind) for text, kind in texts}
    contents, kinds = zip(*found.values(), strict=True)
    return pa.table(
        {
            "blob_id": list(found),
            "content": pa.array(contents, pa.large_string()),
            "kind": pa.array(kinds, pa.string()),
        }
    )


def change_license(text: str, dice: random.Random) -> str:
    """Put another license header on top, in place of the first comment if there is one."""
    mark = dice.choice(["# ", "// ", " * "])
    header = dice.choice(LICENSES).format(
        year=dice.randrange(1990, 2026), name=f"Author {dice.randrange(1000)}"
    )
    lines = text.split("\n")
    while lines and lines[0].lstrip().startswith(("#", "//", "/*", "*")):
        lines.pop(0)
    return "\n".join(mark + line for line in header.split("\n")) + "\n" + "\n".join(lines)


def rename_identifiers(text: str, dice: random.Random) -> str:
    """Rename one to five words that occur, wherever they occur."""
    words = sorted(set(_WORD.findall(text)))
    names = {
        word: f"{word}_{dice.randrange(10**6)}"
        for word in dice.sample(words, min(len(words), dice.randint(1, 5)))
    }
    return _WORD.sub(lambda match: names.get(match[0], match[0]), text)


def reformat(text: str, dice: random.Random) -> str:
    """Change the indentation and the spaces around signs."""
    width = dice.choice(["  ", "\t", "        "])
    return re.sub(
        r" *([=+,(]) *",
        r" \1 ",
        re.sub(r"^(?: {4}|\t)+", lambda m: width * (len(m[0]) // 4 + 1), text, flags=re.MULTILINE),
    )


def reorder(text: str, dice: random.Random) -> str:
    """Shuffle the blocks that empty lines separate, in three runs at most."""
    blocks = re.split(r"\n\s*\n", text)
    for _ in range(3):
        start = dice.randrange(len(blocks))
        run = blocks[start : start + 4]
        dice.shuffle(run)
        blocks[start : start + 4] = run
    return "\n\n".join(blocks)


def truncate(text: str, dice: random.Random) -> str:
    """Keep between six and ten tenths of the text."""
    return text[: int(len(text) * dice.uniform(0.6, 1.0))]


def delete_lines(text: str, dice: random.Random) -> str:
    """Delete up to an eighth of the lines."""
    rate = dice.uniform(0, 0.125)
    return "\n".join(line for line in text.split("\n") if dice.random() > rate)


EDITS: dict[str, Callable[[str, random.Random], str]] = {
    "license": change_license,
    "rename": rename_identifiers,
    "reformat": reformat,
    "reorder": reorder,
    "truncate": truncate,
    "delete": delete_lines,
}
