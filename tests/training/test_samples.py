"""Splitting, packing, streaming and shuffling of texts."""

import json
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.errors import AdapterError
from stack_platform.training.samples import (
    FILE_BLOCKS,
    Packer,
    batch_of,
    epoch_order,
    gather_samples,
    is_held_out,
    stream_blocks,
    text_bytes,
)

SHARE = 0.2


def held_out_ids(n, share=SHARE):
    return {f"file {i}" for i in range(n) if is_held_out(f"file {i}", share)}


@given(st.lists(st.lists(st.integers(0, 300), max_size=40), max_size=20), st.integers(1, 9))
def test_packing_loses_no_token(documents, block_size):
    packer = Packer(block_size)
    blocks = [packer.add(tokens) for tokens in documents]
    assert all(block.shape[1] == block_size for block in blocks)
    assert [*np.concatenate([*blocks, []], axis=None).tolist(), *packer.tail] == list(chain(*documents))
    assert len(packer.tail) < block_size


def test_share_of_held_out_ids_is_the_one_asked_for():
    assert 0.045 < sum(is_held_out(str(i), 0.05) for i in range(20_000)) / 20_000 < 0.055


@given(st.text(), st.floats(0.01, 0.98), st.floats(0.001, 0.01))
def test_larger_share_keeps_what_a_smaller_one_held_out(content_id, share, more):
    assert is_held_out(content_id, share) <= is_held_out(content_id, share + more)


@given(st.permutations(range(12)), st.sets(st.integers(0, 11), min_size=6))
def test_side_of_a_text_depends_on_its_id_alone(tokenizer, order, present):
    """Neither the order, nor the other texts, nor the content move a text to the other side."""
    chosen = [(f"file {i}", f"text {len(order) * i}") for i in order if i in present]
    sides = [packed.held_out for packed in stream_blocks(chosen, tokenizer, 4, SHARE)]
    assert sides == [name in held_out_ids(12) for name, _ in chosen]


def test_every_file_ends_with_the_end_token(tokenizer, texts):
    blocks = [p.blocks for p in stream_blocks(texts, tokenizer, 8, SHARE) if not p.held_out]
    tokens = np.concatenate(blocks).ravel().tolist()
    decoded = tokenizer.decode(tokens, clean_up_tokenization_spaces=False).split(tokenizer.eos_token)
    train = [text for name, text in texts if name not in held_out_ids(len(texts))]
    assert decoded[:-1] == train[: len(decoded) - 1]


def test_file_that_spells_the_end_token_does_not_end(tokenizer):
    text = f"a = '{tokenizer.eos_token}'  "
    name = next(str(i) for i in range(100) if not is_held_out(str(i), SHARE))
    (packed,) = stream_blocks([(name, text)], tokenizer, 5, SHARE)
    tokens = packed.blocks.ravel().tolist() + packed.state["train_tail"]
    assert tokens.count(tokenizer.eos_token_id) == 1
    assert tokens[-1] == tokenizer.eos_token_id


def test_empty_file_gives_no_token(tokenizer):
    (packed,) = stream_blocks([("a", "")], tokenizer, 2, SHARE)
    assert packed.state == {"files": 1, "train_tail": [], "held_out_tail": []}


def long_and_short_files(n):
    """Give files of ten blocks of eight tokens, each of one letter."""
    return [(f"file {i}", chr(ord("A") + i) * 79) for i in range(n)]


def test_long_files_give_their_first_blocks_while_there_are_others(tokenizer):
    texts = long_and_short_files(50)
    samples = gather_samples(lambda: texts, tokenizer, 8, SHARE, 10 * FILE_BLOCKS, 2 * FILE_BLOCKS)
    assert (samples.train_files, samples.held_out_files) == (10, 2)
    letters = [text[0] for name, text in texts if name not in held_out_ids(50)][:10]
    found = tokenizer.batch_decode(samples.train.tolist())
    assert found == [letter * 8 for letter in letters for _ in range(FILE_BLOCKS)]


def test_long_files_give_the_rest_where_the_texts_end(tokenizer):
    texts = long_and_short_files(20)
    out = len(held_out_ids(20))
    samples = gather_samples(lambda: texts, tokenizer, 8, SHARE, 10_000, 10_000)
    assert samples.train.shape == (10 * (20 - out), 8)
    assert samples.held_out.shape == (10 * out, 8)


@pytest.mark.parametrize("stop", [1, 31, 32, 33, 150])
def test_stream_goes_on_from_a_saved_state(tokenizer, texts, stop):
    whole = list(stream_blocks(texts, tokenizer, 16, SHARE))
    state = json.loads(json.dumps(whole[stop - 1].state))
    rest = list(stream_blocks(texts, tokenizer, 16, SHARE, state))
    assert [p.state for p in rest] == [p.state for p in whole[stop:]]
    assert all(np.array_equal(a.blocks, b.blocks) for a, b in zip(rest, whole[stop:], strict=True))


def test_reading_stops_when_both_sides_have_their_blocks(tokenizer, texts):
    read = []

    def source():
        for name, text in texts * 50:
            read.append(name)
            yield name, text

    samples = gather_samples(source, tokenizer, 16, SHARE, 10, 4)
    assert samples.train.shape == (10, 16)
    assert samples.held_out.shape == (4, 16)
    assert len(read) < 200


def test_no_held_out_text_is_trained_on(tokenizer):
    """Each file is one letter, so a block tells which files it is from."""
    texts = [(f"file {i}", chr(0x4E00 + i) * 40) for i in range(60)]
    samples = gather_samples(lambda: texts, tokenizer, 30, SHARE, 1000, 1000)
    out = {text[0] for name, text in texts if name in held_out_ids(60)}
    assert out
    assert not out & set(tokenizer.decode(samples.train.ravel().tolist()))
    assert out >= set(tokenizer.decode(samples.held_out.ravel().tolist())) - {"\ufffd", *tokenizer.eos_token}
    assert samples.held_out_files == len(out)
    assert samples.train_files == 60 - len(out)


def test_state_of_the_samples_is_where_training_text_was_enough(tokenizer, texts):
    samples = gather_samples(lambda: texts, tokenizer, 16, 0.02, 3, 1)
    rest = next(p for p in stream_blocks(texts, tokenizer, 16, 0.02, samples.state) if len(p.blocks))
    whole = [p for p in stream_blocks(texts, tokenizer, 16, 0.02) if not p.held_out]
    all_blocks = np.concatenate([p.blocks for p in whole])
    assert np.array_equal(samples.train, all_blocks[:3])
    assert any(np.array_equal(rest.blocks[0], block) for block in all_blocks[3:8])


def test_too_little_text_says_how_much_there_is_and_is_needed(tokenizer):
    with pytest.raises(AdapterError, match=r"training text: 2 files hold 8 tokens, one block needs 64"):
        names = [str(i) for i in range(100) if not is_held_out(str(i), SHARE)][:2]
        gather_samples(lambda: [(name, "abc") for name in names], tokenizer, 64, SHARE, 1, 1)


def test_no_text_at_all_is_too_little(tokenizer):
    with pytest.raises(AdapterError, match="0 files hold 0 tokens"):
        gather_samples(list, tokenizer, 64, SHARE, 1, 1)


def test_missing_held_out_text_advises_a_larger_share(tokenizer):
    names = [str(i) for i in range(100) if not is_held_out(str(i), SHARE)]
    with pytest.raises(AdapterError, match=r"held-out text.*larger held_out_share"):
        gather_samples(lambda: [(name, "abc" * 50) for name in names], tokenizer, 64, SHARE, 1, 1)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
def test_every_block_comes_once_an_epoch(n_blocks, batch_size, seed):
    batches = [batch_of(n_blocks, batch_size, number, seed) for number in range(2 * n_blocks)]
    assert all(len(batch) == batch_size for batch in batches)
    stream = np.concatenate(batches)
    for epoch in range(len(stream) // n_blocks):
        part = stream[epoch * n_blocks : (epoch + 1) * n_blocks]
        assert np.array_equal(part, epoch_order(n_blocks, epoch, seed))
        assert sorted(part) == list(range(n_blocks))


def test_order_follows_seed_and_epoch():
    orders = [tuple(epoch_order(30, *key)) for key in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert len(set(orders)) == 4
    assert orders[0] == tuple(epoch_order(30, 0, 0))


def test_bytes_of_text_leave_out_the_first_token_and_end_tokens(tokenizer):
    ids = [*tokenizer("xaére")["input_ids"], tokenizer.eos_token_id]
    assert text_bytes(np.array([ids], dtype=np.int32), tokenizer) == len("aére".encode())
