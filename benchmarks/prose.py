"""Prose and recorded data without a name are rarely taken for a program.

    python benchmarks/prose.py [FOLDER_OF_TEXTS ...] [--peers FOLDER]

Fourteen kinds of texts that are no program, written here from a seed (sentences, notes, licenses, words, tables, logs,
numbers, noise, one sign repeated), and the files of the folders named, if any (licenses, READMEs). Counted is how many
get a language of linguist's type "programming". Peer: pygments' guess_lexer, whose default answer is Text.
"""

import argparse
import random
import string
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from stack_platform.languages import catalog
from stack_platform.languages.detect import detect_language

NOUNS = ("river", "letter", "market", "winter", "station", "window", "bridge", "garden", "teacher", "village")
VERBS = ("carried", "opened", "followed", "crossed", "described", "left", "remembered", "found", "answered")
EACH = 40
"""Texts of each kind."""

Maker = Callable[[random.Random], str]


def sentence(chance: random.Random) -> str:
    """Write a sentence."""
    a, b, c = chance.sample(NOUNS, 3)
    return chance.choice(
        (
            f"The {a} {chance.choice(VERBS)} the {b} near the {c}.",
            f"When we {chance.choice(VERBS)} the {a}, it was too late for a {b}.",
            f"Nobody had {chance.choice(VERBS)} the old {a}; still, the {b} was better than any {c} we knew.",
        )
    )


def lines(chance: random.Random, line: Maker) -> str:
    """Write between two and thirty lines."""
    return "".join(line(chance) + "\n" for _ in range(chance.randint(2, 30)))


def day(chance: random.Random) -> str:
    """Write a date."""
    return f"20{chance.randint(10, 24)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"


def license_text(chance: random.Random) -> str:
    """Write permissions and disclaimers of our own."""
    return (
        f"Copyright (c) {chance.randint(1990, 2024)} {chance.choice(NOUNS).title()} Works\n\n"
        "You may copy this work as long as this notice stays with every copy.\n\n"
        "THE WORK COMES AS IT IS, WITH NO PROMISE THAT IT FITS A PURPOSE; ITS MAKERS DO NOT\n"
        "PAY FOR ANYTHING THAT GOES WRONG.\n\n" + lines(chance, sentence)
    )


def noise(letters: str) -> Maker:
    """Return a maker of lines of random characters."""
    return lambda chance: "".join(chance.choices(letters, k=chance.randint(30, 76)))


KINDS: dict[str, Maker] = {
    "sentences": lambda chance: lines(chance, sentence),
    "one paragraph": lambda chance: " ".join(sentence(chance) for _ in range(chance.randint(2, 12))) + "\n",
    "notes": lambda chance: "Notes\n\n" + lines(chance, lambda each: "- " + sentence(each)),
    "license": license_text,
    "words": lambda chance: lines(chance, lambda each: each.choice(NOUNS)),
    "table": lambda chance: (
        "id,name,amount,day\n"
        + lines(
            chance,
            lambda each: f"{each.randint(1, 99)},{each.choice(NOUNS)},{each.random():.2f},{day(each)}",
        )
    ),
    "log": lambda chance: lines(
        chance, lambda each: f"{day(each)} 10:11:12 {each.choice(('INFO', 'WARN'))} {sentence(each)}"
    ),
    "access log": lambda chance: lines(
        chance,
        lambda each: (
            f'10.0.0.{each.randint(1, 99)} - - [{day(each)}] "GET /{each.choice(NOUNS)} HTTP/1.1" 200 99'
        ),
    ),
    "numbers": lambda chance: lines(
        chance, lambda each: " ".join(f"{each.uniform(-9, 9):.3f}" for _ in range(4))
    ),
    "encoded": lambda chance: lines(chance, noise(string.ascii_letters + string.digits + "+/")),
    "noise": lambda chance: lines(chance, noise(string.printable[:94] + " " * 9)),
    "repeated": lambda chance: chance.choice(("<?", "ab ", "==", "()", "x", "% ")) * chance.randint(20, 300),
    "part of JSON": lambda chance: lines(
        chance, lambda each: f'  "{each.choice(NOUNS)}": {each.choice((1, "true", chr(34) + "a" + chr(34)))},'
    ),
    "addresses": lambda chance: lines(
        chance, lambda each: f"{each.choice(NOUNS).title()} Road {each.randint(1, 99)}, Tel. +1 555 0100"
    ),
}


def main() -> None:
    """Print by kind how many texts are taken for a program, and for which."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--peers", type=Path)
    options = parser.parse_args()
    chance = random.Random(20)
    written = [(kind, make(chance).encode()) for kind, make in KINDS.items() for _ in range(EACH)]
    read = [
        (f"files of {folder.name}", path.read_bytes())
        for folder in options.folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    report("ours", lambda content: detect_language("", content), written, read)
    if options.peers:
        sys.path.append(str(options.peers))
    try:
        from pygments.lexers import guess_lexer
    except ImportError:
        print("pygments is not installed; pip install --target FOLDER pygments, then --peers FOLDER")
        return

    def pygments_guess(content: bytes) -> str | None:
        name = guess_lexer(content.decode("utf-8", "replace")).name
        return next(iter(catalog.by_alias(name)), name)

    report("pygments", pygments_guess, written, read)


def report(name: str, guess: Callable[[bytes], str | None], *parts: list[tuple[str, bytes]]) -> None:
    """Print the share of each part that is taken for a program."""
    languages = catalog.catalog().languages
    for part in parts:
        if not part:
            continue
        taken: Counter[str] = Counter()
        for kind, content in part:
            answer = guess(content)
            if answer in languages and languages[answer].type == "programming":
                taken[f"{kind} as {answer}"] += 1
        share = taken.total() / len(part)
        print(f"{name}: {share:.3f} of {len(part)} texts are a program: {dict(taken.most_common(6))}")


if __name__ == "__main__":
    main()
