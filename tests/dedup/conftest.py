import random

import pyarrow as pa
import pytest


@pytest.fixture
def edited():
    """Make files of which most are edits of earlier ones, around every similarity."""

    def make(count: int, seed: int) -> list[str]:
        dice = random.Random(seed)
        files: list[list[str]] = []
        for _ in range(count):
            if not files or dice.random() < 0.3:
                files.append([f"w{dice.randrange(5000)}" for _ in range(dice.choice([4, 8, 60, 300]))])
                continue
            rate = dice.choice([0.0, 0.01, 0.03, 0.05, 0.08])
            files.append(
                [word if dice.random() > rate else f"v{dice.randrange(999)}" for word in dice.choice(files)]
            )
        return [" ".join(words) for words in files]

    return make


class Shelf:
    """Contents by id, and which ids were asked for."""

    def __init__(self, contents: list[str]) -> None:
        ids = [f"{number:040x}" for number in range(len(contents))]
        self.table = pa.table(
            {"blob_id": pa.array(ids, pa.string()), "content": pa.array(contents, pa.large_string())}
        )
        self.asked: list[set[str]] = []

    def ids(self, numbers) -> pa.Array:
        return self.table["blob_id"].take(pa.array(list(numbers), pa.int64())).combine_chunks()

    def read(self, wanted):
        self.asked.append(set(self.table["blob_id"].to_pylist() if wanted is None else wanted.to_pylist()))
        rows = (
            self.table
            if wanted is None
            else self.table.filter(pa.compute.is_in(self.table["blob_id"], wanted))
        )
        return iter(rows.to_batches(max_chunksize=64))


@pytest.fixture
def shelf():
    return Shelf
