import hashlib
import json

import pyarrow as pa
import pytest

from stack_platform import decisions
from stack_platform.corpus.duplicates import NEAR_INDEX, DedupConfig, decide_across, deduplicate, stored_index
from stack_platform.dedup.config import NearDuplicateConfig
from stack_platform.dedup.index import build_index, fits
from stack_platform.dedup.repositories import RepositoryConfig
from stack_platform.engine.stages import Piece, Slice
from stack_platform.schemas import MEASURED_FILES
from stack_platform.tables import Lake

WORDS = [f"word{number}" for number in range(80)]


def named(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


class Corpus:
    """Files of one language, and what was read of them."""

    def __init__(self, files: list[tuple[str, str, str]], stars: dict[str, int] | None = None) -> None:
        self.texts = {named(text): text for _, _, text in files}
        self.read: list[set[str]] = []
        rows = [
            {
                "repo_name": repo,
                "path": path,
                "content_id": named(text),
                "blob_id": "b" + named(text),
                "directory_id": repo,
                "revision_id": repo,
                "license_type": "permissive",
                "language": "Python",
                "src_encoding": "utf-8",
                "length_bytes": len(text),
                "star_events_count": (stars or {}).get(repo),
            }
            for repo, path, text in files
        ]
        self.files = pa.Table.from_pylist(rows, MEASURED_FILES)

    def slice(self) -> Slice:
        def texts(files: pa.Table):
            ids = sorted(set(files["content_id"].to_pylist()))
            self.read.append(set(ids))
            yield pa.record_batch(
                {
                    "content_id": pa.array(ids, pa.string()),
                    "content": pa.array([self.texts[name] for name in ids], pa.large_string()),
                }
            )

        return Slice("Python", self.files, texts)


def run(corpus: Corpus, previous: pa.Table | None = None, config: DedupConfig = DedupConfig()) -> Piece:
    (piece,) = deduplicate(config, corpus.slice(), previous)
    return piece


def outcome(piece: Piece) -> dict[str, tuple[str, dict]]:
    return {
        f"{row['repo_name']}/{row['path']}": (row["reason"], json.loads(row["evidence"]))
        for row in piece.decisions.to_pylist()
    }


def test_each_kind_of_duplicate_leaves_with_its_evidence():
    own = [("big", f"{number}.py", f"file {number} of it") for number in range(12)]
    fork = [("fork", path, text) for _, path, text in own]
    near = " ".join(WORDS), " ".join([*WORDS, "tail"])
    files = [*own, *fork, ("a", "near.py", near[1]), ("big", "near.py", near[0]), ("b", "copy.py", near[0])]
    piece = run(Corpus(files, {"big": 5}))
    found = outcome(piece)
    assert found["fork/0.py"] == (
        "repository_duplicate",
        {"kept": {"repo_name": "big"}, "repository": "near_copy", "overlap": 1.0},
    )
    assert found["b/copy.py"] == ("exact_duplicate", {"kept": {"repo_name": "big", "path": "near.py"}})
    kept = {"repo_name": "big", "path": "near.py", "swhid": f"swh:1:cnt:{named(near[0])}"}
    assert found["a/near.py"] == ("near_duplicate", {"kept": kept, "jaccard": round(76 / 77, 4)})
    assert decisions.apply(piece.files, piece.decisions).num_rows == piece.files.num_rows - len(found) == 13


def test_repositories_are_left_to_the_files_where_asked():
    own = [("big", f"{number}.py", f"file {number} of it") for number in range(12)]
    fork = [("fork", path, text) for _, path, text in own] + [("fork", "own.py", "its own")]
    with_them = outcome(run(Corpus([*own, *fork])))
    without = outcome(run(Corpus([*own, *fork]), config=DedupConfig(repositories=None)))
    assert {reason for reason, _ in with_them.values()} == {"repository_duplicate"}
    assert {reason for reason, _ in without.values()} == {"exact_duplicate"}
    assert set(with_them) - set(without) == {"fork/own.py"}
    strict = DedupConfig(repositories=RepositoryConfig(overlap=1.0))
    assert "fork/own.py" not in outcome(run(Corpus([*own, *fork]), config=strict))


def test_the_next_snapshot_signs_new_contents_and_keeps_what_was_kept():
    first = Corpus([("r", f"{number}.py", f"file {number} " + " ".join(WORDS)) for number in range(3)])
    before = run(first)
    index = before.tables[NEAR_INDEX]
    again = [
        (row["repo_name"], row["path"], first.texts[row["content_id"]]) for row in first.files.to_pylist()
    ]
    newcomer = ("star", "new.py", "file new " + " ".join(WORDS))
    second = Corpus([*again, newcomer, ("x", "other.py", "nothing like it at all, really")], {"star": 100})
    after = run(second, index)
    assert outcome(after)["star/new.py"][1]["kept"]["repo_name"] == "r"
    new = {named(text) for _, path, text in [newcomer]} | {named("nothing like it at all, really")}
    assert second.read[0] == new
    assert outcome(run(second))["r/0.py"][1]["kept"]["repo_name"] == "star"
    from_scratch = build_index(after.tables[NEAR_INDEX]["blob_id"], reader(second))
    assert from_scratch.equals(after.tables[NEAR_INDEX].combine_chunks())


def reader(corpus: Corpus):
    def read(wanted):
        names = list(corpus.texts) if wanted is None else [name[1:] for name in wanted.to_pylist()]
        yield pa.record_batch(
            {
                "blob_id": pa.array(["b" + name for name in names]),
                "content": pa.array([corpus.texts[name] for name in names], pa.large_string()),
            }
        )

    return read


def test_an_opt_out_of_a_kept_file_brings_back_what_it_displaced():
    files = [("a", "1.py", " ".join(WORDS)), ("b", "2.py", " ".join([*WORDS, "tail"])), ("c", "3.py", "else")]
    before = run(Corpus(files, {"a": 9}))
    assert outcome(before).keys() == {"b/2.py"}
    after = run(Corpus(files[1:]), before.tables[NEAR_INDEX])
    assert outcome(after) == {}
    assert after.tables[NEAR_INDEX].num_rows == 2


def test_an_index_of_other_settings_is_not_used():
    files = Corpus([("a", "1.py", " ".join(WORDS)), ("b", "2.py", " ".join([*WORDS, "tail"]))])
    index = run(files).tables[NEAR_INDEX]
    strict = DedupConfig(near=NearDuplicateConfig(threshold=1.0))
    assert outcome(run(files, index, strict)) == {}


def test_the_stage_stores_an_index_that_fits_and_signs_nothing_new(corpus: Lake):
    partition = corpus.open("deduplicated", "Python")
    index = stored_index(partition)
    assert fits(index, NearDuplicateConfig())
    assert stored_index(None) is stored_index(corpus.open("raw_snapshot", "Python")) is None
    kept = set(index.filter(index["witness"].is_null())["blob_id"].to_pylist())
    assert set(partition.read("files")["blob_id"].to_pylist()) <= kept


def test_across_languages_a_file_leaves_for_the_language_named_first(tmp_path):
    lake = Lake(tmp_path)
    texts = {}
    for language, words, own in (("C", WORDS, "spring"), ("C++", [*WORDS, "tail"], "autumn")):
        corpus = Corpus(
            [("r", f"{language}.h", " ".join(words)), ("r", f"{language}.c", f"only in {own} at all")]
        )
        texts |= corpus.texts
        piece = run(corpus)
        with lake.writer("deduplicated", language) as out:
            files = piece.files.set_column(
                piece.files.column_names.index("language"), "language", [[language] * 2]
            )
            out.append("files", files)
            out.append(NEAR_INDEX, piece.tables[NEAR_INDEX])

    def read(files: pa.Table):
        ids = files["content_id"].to_pylist()
        contents = pa.array([texts[name] for name in ids], pa.large_string())
        yield pa.record_batch({"content_id": files["content_id"].combine_chunks(), "content": contents})

    for languages, gone, kept in ((["C", "C++"], "C++", "C"), (["C++", "C"], "C", "C++")):
        (row,) = decide_across(lake, languages, read).to_pylist()
        evidence = json.loads(row["evidence"])
        assert (row["path"], row["language"], row["reason"]) == (f"{gone}.h", gone, "near_duplicate_across")
        assert (evidence["kept"]["path"], evidence["kept"]["language"]) == (f"{kept}.h", kept)
        assert evidence["jaccard"] == round(76 / 77, 4)
    assert decide_across(lake, [], read).num_rows == 0


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare_decides_nothing(count):
    piece = run(Corpus([("a", "1.py", "x")][:count]))
    assert piece.decisions.num_rows == 0
    assert piece.tables[NEAR_INDEX].num_rows == count
