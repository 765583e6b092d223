import pyarrow as pa
import pytest

from stack_platform.errors import SchemaError
from stack_platform.scrub.audit import RESCAN_SCHEMA, SPANS_SCHEMA, counts, rescan, scrub_batch
from stack_platform.scrub.policy import Allowance, Policy
from stack_platform.scrub.redact import ScrubConfig, scrub_text


@pytest.fixture
def batch(samples):
    texts = [sample.text for sample in samples.values()]
    return pa.RecordBatch.from_pydict(
        {
            "content_id": [f"id{n}" for n in range(len(texts) + 2)],
            "path": ["a.py"] * (len(texts) + 1) + [None],
            "content": pa.array([*texts, None, "x = 1\n"], pa.large_string()),
            "language": ["Python"] * (len(texts) + 2),
        }
    )


def test_contents_are_replaced_and_everything_else_passes_through(batch):
    scrubbed, _ = scrub_batch(batch)
    assert scrubbed.schema == batch.schema
    assert scrubbed.drop_columns(["content"]).equals(batch.drop_columns(["content"]))
    expected = [
        None if text is None else scrub_text(text, "a.py").text for text in batch["content"].to_pylist()
    ]
    assert scrubbed["content"].to_pylist() == expected


def test_the_account_explains_every_change_and_holds_no_value(batch, samples):
    _, spans = scrub_batch(batch)
    assert spans.schema == SPANS_SCHEMA
    assert spans["type"].to_pylist() == [sample.kind for sample in samples.values()]
    assert spans["length"].to_pylist() == [len(sample.value) for sample in samples.values()]
    cells = [str(cell) for row in spans.to_pylist() for cell in row.values()]
    assert not any(sample.value in cell for sample in samples.values() for cell in cells)


def test_digests_are_keyed_and_equal_for_equal_values(samples):
    text = samples["typed token"].text
    batch = pa.RecordBatch.from_pydict(
        {"content_id": ["a", "b"], "path": ["", ""], "content": [text, "#\n" + text]}
    )
    _, one = scrub_batch(batch)
    _, two = scrub_batch(batch, ScrubConfig(key=b"another"))
    assert len(set(one["value_digest"].to_pylist())) == 1
    assert set(one["value_digest"].to_pylist()).isdisjoint(two["value_digest"].to_pylist())


def test_the_split_into_batches_does_not_matter(batch):
    whole, spans = scrub_batch(batch)
    parts = [scrub_batch(batch.slice(at, 5)) for at in range(0, batch.num_rows, 5)]
    assert pa.Table.from_batches([part for part, _ in parts]).equals(
        pa.Table.from_batches([whole]).combine_chunks()
    )
    assert pa.concat_tables([rows for _, rows in parts]).equals(spans)


def test_a_scrubbed_batch_passes_the_rescan_and_a_raw_one_does_not(batch):
    scrubbed, _ = scrub_batch(batch)
    assert rescan(scrubbed).num_rows == 0
    assert rescan(scrubbed).schema == RESCAN_SCHEMA
    assert rescan(batch).num_rows > 8


def test_a_missing_column_is_named():
    with pytest.raises(SchemaError, match="needs the columns content, path"):
        scrub_batch(pa.RecordBatch.from_pydict({"content_id": ["a"]}))


def test_the_account_names_contents_by_their_swhid(batch):
    _, spans = scrub_batch(batch)
    assert spans["swhid"][0].as_py() == "swh:1:cnt:id0"


def test_counts_sum_the_account_up(batch, samples):
    _, spans = scrub_batch(batch)
    summed = counts(spans, top=3)
    assert summed["spans"] == len(samples)
    assert summed["by_type"]["EMAIL"] == 2
    assert summed["characters"] == sum(len(sample.value) for sample in samples.values())
    assert len(summed["top_rules"]) == 3


def test_surrogates_within_a_repository_need_its_name(batch):
    config = ScrubConfig(scope="repository")
    with pytest.raises(SchemaError, match="repo_name"):
        scrub_batch(batch, config)
    names = pa.array([f"r{place % 2}" for place in range(batch.num_rows)])
    named = batch.append_column("repo_name", names)
    assert scrub_batch(named, config)[1]["surrogate"] != scrub_batch(named)[1]["surrogate"]


def test_what_a_policy_allows_does_not_fail_the_rescan(batch):
    allowed = Policy(allow=(Allowance("path", "*", "all of it is invented"),))
    assert rescan(batch, ScrubConfig(policy=allowed)).num_rows == 0
    without_mail = rescan(batch, ScrubConfig(policy=Policy("balanced", {"EMAIL": 2})))
    assert "EMAIL" not in without_mail["type"].to_pylist()
