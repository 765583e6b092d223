"""What must hold of committed adapters and merged models."""

from stack_platform.corpus.checks import Outcome
from stack_platform.tables import Lake
from stack_platform.training.partitions import ADAPTER, MERGED


def held_out_loss_improved(lake: Lake, language: str) -> Outcome:
    """Check that the loss on files the adapter never saw is lower with it than without."""
    counts = lake.open(ADAPTER, language).manifest.counts
    before, after = counts["before"]["nats_per_token"], counts["after"]["nats_per_token"]
    return Outcome(
        after < before, f"{before:.4f} before, {after:.4f} after", {"before": before, "after": after}
    )


def merged_equals_adapted(lake: Lake, language: str) -> Outcome:
    """Check that the saved model's logits are those of base and adapter within rounding, and not the base's."""
    row = lake.open(MERGED, language).read("check").to_pylist()[0]
    passed = row["difference"] <= row["allowed"] < row["effect"]
    summary = f"{row['difference']:.2g} apart, {row['allowed']:.2g} allowed, the adapter changes {row['effect']:.2g}"
    return Outcome(passed, summary, row)
