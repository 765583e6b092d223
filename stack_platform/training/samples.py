"""Cut a stream of texts into blocks of tokens, and keep some texts out to measure on.

Split: a text is held out when the SHA-256 of its content id falls into the lowest `held_out_share` of its range,
so the answer depends on the id alone: not on the other texts, their order, or the run. Near-duplicates were
removed before texts come here, so a held-out text is no near copy of a training text; the split alone could not
promise that.

Packing: tokens of all files of a side in a row, an end-of-sequence token after each file, cut every
`block_size` tokens. No token is lost or padded; what does not fill a block waits in the state, at most
block_size - 1 tokens a side. Price: a block may begin in the middle of a file and attend to the end of another.

Choice: a file gives its first 4 blocks, so that a few long files do not become all that is learned or measured;
what they hold beyond waits, and is used where the texts end before there is enough. On the source of SymPy, 160
blocks of 256 tokens came from 4 files without this rule, and from 44 with it.

Only as much is read as the planned steps need. Order is the reader's; blocks are shuffled by the seed, anew in
each epoch.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from stack_platform.errors import AdapterError

FILE_BLOCKS = 4
_BATCH = 32  # texts given to the tokenizer at a time, which spreads them over the cores

Blocks = npt.NDArray[np.int32]
State = dict[str, Any]


def is_held_out(content_id: str, share: float) -> bool:
    """Tell whether a text is kept out of training: a function of its id and the share alone.

    >>> [is_held_out(name, 0.5) for name in "abcdef"]
    [True, False, True, True, False, False]
    """
    digest = hashlib.sha256(b"held-out " + content_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


class Packer:
    """Join token sequences and cut them into blocks of equal length."""

    def __init__(self, block_size: int, tail: Sequence[int] = ()) -> None:
        self.block_size = block_size
        self.tail = list(tail)
        """Tokens that do not fill a block yet."""

    def add(self, tokens: Sequence[int]) -> Blocks:
        """Append tokens; return the blocks that became full, (n, block_size)."""
        self.tail.extend(tokens)
        n = len(self.tail) // self.block_size
        full = np.array(self.tail[: n * self.block_size], dtype=np.int32).reshape(n, self.block_size)
        del self.tail[: n * self.block_size]
        return full


@dataclass(frozen=True, slots=True)
class Packed:
    """The blocks that one more text filled."""

    held_out: bool
    blocks: Blocks
    """(n, block_size); n may be 0."""
    state: State
    """Where to go on after this text: {"files", "train_tail", "held_out_tail"}."""


@dataclass(frozen=True, slots=True)
class Samples:
    """All blocks of a run."""

    train: Blocks
    """(n, block_size)."""
    held_out: Blocks
    """(n, block_size)."""
    train_files: int
    """Texts that were read for training."""
    held_out_files: int
    """Texts that were read to measure on."""
    state: State
    """Where a later run goes on when it wants texts this one has not read."""


def stream_blocks(
    texts: Iterable[tuple[str, str]],
    tokenizer: Any,
    block_size: int,
    held_out_share: float,
    state: State | None = None,
) -> Iterator[Packed]:
    """Tokenize and pack (content id, text) pairs, one result a text; `state` goes on where it was taken.

    Going on takes the same texts from their beginning; the first `state["files"]` are skipped.
    """
    state = state or {"files": 0, "train_tail": [], "held_out_tail": []}
    files = state["files"]
    train = Packer(block_size, state["train_tail"])
    held_out = Packer(block_size, state["held_out_tail"])
    rest = islice(iter(texts), files, None)
    while batch := list(islice(rest, _BATCH)):
        for (content_id, _), tokens in zip(
            batch, _tokenize([text for _, text in batch], tokenizer), strict=True
        ):
            files += 1
            out = is_held_out(content_id, held_out_share)
            blocks = (held_out if out else train).add(tokens)
            tails = {"train_tail": list(train.tail), "held_out_tail": list(held_out.tail)}
            yield Packed(out, blocks, {"files": files, **tails})


def gather_samples(
    texts: Callable[[], Iterable[tuple[str, str]]],
    tokenizer: Any,
    block_size: int,
    held_out_share: float,
    train_blocks: int,
    held_out_blocks: int,
) -> Samples:
    """Read texts until both sides have their blocks; where the texts end before, less is there.

    Raises: AdapterError when one side has not even one block.
    """
    train, held_out = _Side(train_blocks), _Side(held_out_blocks)
    state = last = State(files=0, train_tail=[], held_out_tail=[])

    def needed() -> Iterator[tuple[str, str]]:
        """Once training has its blocks, its texts are passed over as empty ones, which costs no tokens."""
        for content_id, text in texts():
            passed_over = train.full and not is_held_out(content_id, held_out_share)
            yield content_id, "" if passed_over else text

    for packed in stream_blocks(needed(), tokenizer, block_size, held_out_share):
        last = packed.state
        if not train.full:
            state = last
        (held_out if packed.held_out else train).take(packed.blocks)
        if train.full and held_out.full:
            break
    _check("training", train, len(last["train_tail"]), block_size, "")
    _check("held-out", held_out, len(last["held_out_tail"]), block_size, ", or a larger held_out_share")
    return Samples(train.chosen(), held_out.chosen(), train.files, held_out.files, state)


def epoch_order(n_blocks: int, epoch: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the order of the blocks in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(n_blocks)


def batch_of(n_blocks: int, batch_size: int, number: int, seed: int) -> npt.NDArray[np.int64]:
    """Return which blocks form batch `number`, counted from 0 over all epochs; every block comes once an epoch."""
    first = number * batch_size
    epochs = range(first // n_blocks, (first + batch_size - 1) // n_blocks + 1)
    order = np.concatenate([epoch_order(n_blocks, epoch, seed) for epoch in epochs])
    start = first - epochs[0] * n_blocks
    return order[start : start + batch_size]


def text_bytes(blocks: Blocks, tokenizer: Any) -> int:
    """Return how many bytes of text the predicted tokens of the blocks stand for.

    A character that a block cuts in two counts with 3 bytes in each; at most 4 bytes a block too many.
    """
    texts = tokenizer.batch_decode(
        [block[1:] for block in blocks.tolist()], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _tokenize(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Return tokens with the end-of-sequence token after each text; an empty text gives none.

    A file that spells a special token gets ordinary tokens for it: it must not end itself.
    """
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        verbose=False,
    )
    return [[*ids, tokenizer.eos_token_id] if ids else [] for ids in encoded["input_ids"]]


class _Side:
    """The blocks of one side of the split, and what long files hold beyond their share."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.files = 0
        self._count = 0
        self._first: list[Blocks] = []
        self._spare: list[Blocks] = []
        self._spared = 0

    @property
    def full(self) -> bool:
        return self._count >= self.wanted

    def take(self, blocks: Blocks) -> None:
        """Take the blocks of one more file, unless there are enough."""
        if self.full:
            return
        self.files += 1
        self._first.append(blocks[:FILE_BLOCKS])
        self._count += len(self._first[-1])
        self._spare.append(blocks[FILE_BLOCKS : FILE_BLOCKS + self.wanted - self._spared])
        self._spared += len(self._spare[-1])

    def chosen(self) -> Blocks:
        return np.concatenate([*self._first, *self._spare])[: self.wanted]


def _check(purpose: str, side: _Side, tokens: int, block_size: int, advice: str) -> None:
    if not side.files or not len(side.chosen()):
        raise AdapterError(
            f"too little {purpose} text: {side.files} files hold {tokens} tokens, one block needs "
            f"{block_size}; give more text, or a smaller block_size{advice}"
        )
