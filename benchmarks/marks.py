"""The marks vendored, generated and binary agree with enry's on real trees.

    python benchmarks/marks.py [--peers FOLDER] [TREE ...]

Without a tree the packages of this environment are compared. Each path is taken from the root of its tree, every fifth
file under 1 MB. Disagreements are counted by extension and by side; docs/languages.md explains them.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from stack_platform.languages.encoding import is_binary
from stack_platform.languages.generated import is_generated, is_vendor


def main() -> None:
    """Print how often the three marks agree, and where they do not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("trees", nargs="*", type=Path)
    parser.add_argument("--peers", type=Path)
    options = parser.parse_args()
    if options.peers:
        sys.path.append(str(options.peers))
    try:
        import enry
    except ImportError:
        print("marks: enry is not installed; pip install --target FOLDER enry-python, then --peers FOLDER")
        return
    packages = [Path(entry) for entry in sys.path if entry.endswith("site-packages")][:1]
    files = [file for tree in options.trees or packages for file in read(tree)]
    pairs = (
        ("vendored", lambda path, _: is_vendor(path), lambda path, _: enry.is_vendor(path)),
        ("generated", is_generated, enry.is_generated),
        ("binary", lambda _, data: is_binary(data), lambda _, data: enry.is_binary(data)),
    )
    for mark, ours, theirs in pairs:
        started = time.process_time()
        own = [bool(ours(path, data)) for path, data in files]
        middle = time.process_time()
        peer = [bool(theirs(path, data)) for path, data in files]
        ended = time.process_time()
        agreed = sum(a == b for a, b in zip(own, peer, strict=True))
        print(
            f"{mark}: {agreed / len(files):.4f} of {len(files):,} agree, "
            f"{sum(own)} ours, {sum(peer)} enry's, ratio of CPU {(ended - middle) / (middle - started):.1f}"
        )
        differ = Counter(
            ("ours" if a else "enry", path.rsplit("/", 1)[-1].rsplit(".", 1)[-1])
            for (path, _), a, b in zip(files, own, peer, strict=True)
            if a != b
        )
        for (side, extension), count in differ.most_common(8):
            example = next(
                path
                for (path, _), a, b in zip(files, own, peer, strict=True)
                if a != b and a == (side == "ours") and path.endswith(extension)
            )
            print(f"  only {side}: {count} {extension!r}, for example {example}")


def read(tree: Path) -> list[tuple[str, bytes]]:
    """Read every fifth file of a tree."""
    paths = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())[::5]
    return [(str(p.relative_to(tree)), p.read_bytes()) for p in paths if p.stat().st_size < 1_000_000]


if __name__ == "__main__":
    main()
