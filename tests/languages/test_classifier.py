import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stack_platform.errors import SourceError
from stack_platform.languages import catalog
from stack_platform.languages.classifier import classifier
from stack_platform.languages.train_classifier import (
    TrainingConfig,
    labeled_files,
    labeled_rows,
    save,
    train,
    without_copies,
)

PYTHON = [b"import os\ndef f%d(a):\n    return os.path.join(a, 'b')\n" % n for n in range(3)]
C = [b'#include <stdio.h>\nint f%d(void) {\n    return printf("b");\n}\n' % n for n in range(3)]
FILES = [*((each, "Python", 3.0) for each in PYTHON), *((each, "C", 3.0) for each in C)]


def test_training_separates_languages_and_is_deterministic():
    first, second = train(FILES), train(FILES)
    assert first.languages == ("C", "Python")
    assert first.ranking(b"def g(x):\n    return x\n", 1)[0][0] == "Python"
    assert first.best(b"int g(void) { return 1; }\n", ("C", "Python")) == "C"
    for name in ("rarity", "starts", "columns", "weights", "prior"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


def test_only_the_strongest_weights_are_kept():
    assert len(train(FILES, TrainingConfig(kept_weights=20)).weights) < len(train(FILES).weights)


def test_candidates_outside_the_classifier_are_not_named():
    assert train(FILES).best(b"int a;\n", ("COBOL",)) is None


def test_saved_weights_name_their_sources_and_round_to_a_byte(tmp_path):
    trained = train(FILES)
    save(trained, tmp_path / "a.npz", {"mine": 6})
    with np.load(tmp_path / "a.npz") as held:
        assert str(held["provenance"]) == '{"mine": 6}'
        back = held["weights"] * np.repeat(held["scale"], held["held"])
    assert np.abs(back - trained.weights).max() <= trained.weights.max() / 255


def test_copies_of_certain_files_are_left_out():
    lines = b"".join(b"a line that is long %d\n" % n for n in range(10))
    other = b"".join(b"quite another line %d\n" % n for n in range(10))
    files = [(lines[:-5], "C", 1.0), (other, "C", 1.0), (other, "C", 1.0)]
    assert [each[0] for each in without_copies(files, [(lines, "C", 3.0)])] == [other]


def test_folders_are_labeled_by_name_then_by_place(tmp_path):
    samples = {
        "src/a.py": b"import os\n" * 5,
        "detect/rust/default.txt": b"fn main() { let a = 1; }\n" * 3,
        "visual/haskell": b"main :: IO ()\nmain = print 1\n" * 3,
        "src/b.bin": b"\0" * 50,
        "src/empty.py": b"",
    }
    for name, content in samples.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    labels = [language for _, language, _ in labeled_files(tmp_path, TrainingConfig())]
    assert labels == ["Rust", "Python", "Haskell"]
    with pytest.raises(SourceError, match="neither a folder"):
        list(labeled_files(tmp_path / "none", TrainingConfig()))


def test_labels_of_tables_may_be_aliases(tmp_path):
    table = {"name": ["a", "b", "c"], "content": [b"x", b"y", b"z"], "language": ["Python", "golang", "?"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert [each[1] for each in labeled_rows(tmp_path / "a.parquet", 1.0)] == ["Python", "Go"]


def test_shipped_weights_are_of_the_catalog_and_many():
    shipped = classifier()
    assert set(shipped.languages) <= set(catalog.language_names())
    assert len(shipped.languages) >= 700
    assert shipped.starts[-1] == len(shipped.weights) == len(shipped.columns)
    assert (shipped.prior >= 1).all()
