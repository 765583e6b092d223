"""The training loop, top to bottom.

AdamW on the parameters that require a gradient, linear warmup, cosine decay, gradients averaged over
`accumulation` batches and cut at a norm. On the CPU the same blocks, configuration, torch build and number of
threads give the same bits: the loop draws no number outside a seeded, private generator state.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from stack_platform.errors import AdapterError
from stack_platform.training.config import TrainingConfig
from stack_platform.training.loss import NextTokenLoss, as_tokens
from stack_platform.training.precision import Precision, resolve_precision
from stack_platform.training.samples import Blocks, batch_of

__all__ = ["StepCallback", "TrainingConfig", "TrainingCurve", "learning_rate_at", "train"]

StepCallback = Callable[[int, int, float], None]
"""Called after each update with its number from 1, the number of all, and its loss in nats per token."""


@dataclass(frozen=True, slots=True)
class TrainingCurve:
    """What the loop saw."""

    losses: tuple[tuple[int, float], ...]
    """(update counted from 1, mean training loss in nats per token)."""
    tokens: int
    """Tokens that went through the model, repetitions counted."""


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of update `step`, counted from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * cosine)


def train(
    model: nn.Module,
    blocks: Blocks,
    config: TrainingConfig,
    on_step: StepCallback | None = None,
    precision: Precision | None = None,
) -> TrainingCurve:
    """Train the parameters of `model` that require a gradient on blocks (n, block_size), in place.

    The model must be on the device of `precision`, which follows from the configuration when absent.
    Raises: AdapterError when nothing is trainable, or the loss or gradient is no longer a number.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise AdapterError("no parameter requires a gradient; add an adapter with get_peft_model first")
    precision = precision or resolve_precision(config.precision, config.device)
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    loss_of = NextTokenLoss(model, config.chunk_tokens)
    losses = []
    with _training_mode(model, config):
        for step in range(config.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, config)
            loss = _accumulate(loss_of, blocks, step, config, precision)
            norm = nn.utils.clip_grad_norm_(parameters, config.max_grad_norm).item()
            _check_finite(step, loss, norm, config, precision)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append((step + 1, loss))
            if on_step is not None:
                on_step(step + 1, config.steps, loss)
    return TrainingCurve(tuple(losses), config.blocks_needed * blocks.shape[1])


def _accumulate(
    loss_of: NextTokenLoss, blocks: Blocks, step: int, config: TrainingConfig, precision: Precision
) -> float:
    """Add the gradients of one update and return its mean loss."""
    total = 0.0
    for part in range(config.accumulation):
        number = step * config.accumulation + part
        chosen = blocks[batch_of(len(blocks), config.batch_size, number, config.seed)]
        with precision.autocast():
            loss = loss_of(as_tokens(chosen, precision)) / config.accumulation
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total


def _check_finite(step: int, loss: float, norm: float, config: TrainingConfig, precision: Precision) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    advice = (
        "a lower learning_rate" if precision.name == "fp32" else "a lower learning_rate or precision 'fp32'"
    )
    raise AdapterError(
        f"step {step + 1} of {config.steps}: loss {loss}, gradient norm {norm}; the adapter is spoiled and was "
        f"not saved; try {advice} (it was {config.learning_rate}, in {precision.name}) or more warmup_steps"
    )


@contextmanager
def _training_mode(model: nn.Module, config: TrainingConfig) -> Iterator[None]:
    """Seed, turn dropout and checkpointing on, and leave everything as it was found."""
    was_training = model.training
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model.train()
        if config.gradient_checkpointing:
            _checkpointing(model, "enable")
        try:
            yield
        finally:
            if config.gradient_checkpointing:
                _checkpointing(model, "disable")
            model.train(was_training)


def _checkpointing(model: nn.Module, verb: str) -> None:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    switch = getattr(inner, f"activation_checkpointing_{verb}", None) or getattr(
        inner, f"gradient_checkpointing_{verb}", None
    )
    if switch is None:
        raise AdapterError(
            f"{type(inner).__name__} cannot recompute activations; write gradient_checkpointing = False"
        )
    if verb == "enable":
        switch({"use_reentrant": False})  # the default since transformers 5; frozen embeddings need it
    else:
        switch()
