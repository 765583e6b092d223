"""A whole training run, and a whole merge: what an asset calls.

Folder of an adapter, each file complete before the folder appears under its name:

1. `adapter_model.safetensors`, `adapter_config.json`: PEFT's layout.
2. `training.json`: where the adapter comes from; keys sorted, no date, no path of this machine unless the base
   was named by one. Fields: adapter_digest, base, config, data, losses, precision, trainable_parameters.

Folder of a merged model: transformers' layout, and `merge.json` with the digests of base, adapter and weights.

Merging is checked, not believed: the saved model is loaded again and its logits are compared with those of base
and adapter. All logits are computed in fp32. What may differ is rounding: W + s B A is rounded once to the
format the base is stored in, and sums run in another order; see `TOLERANCE`.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack_platform.errors import AdapterError
from stack_platform.training.config import TrainingConfig
from stack_platform.training.folders import whole_folder
from stack_platform.training.models import BaseModel, load_model, load_tokenizer, sha256_of, stored_dtype

if TYPE_CHECKING:
    import torch

    from stack_platform.adapters import LoraConfig, PeftModel
    from stack_platform.training.loop import StepCallback
    from stack_platform.training.loss import HeldOutLoss

ADAPTER_WEIGHTS = "adapter_model.safetensors"
TRAINING_RECORD = "training.json"
MERGE_RECORD = "merge.json"
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Largest difference of two logits, as a share of the largest logit, by the format the merged weights are
stored in: some hundred times the unit roundoff in fp32, where only the order of sums differs (measured: 3e-6 on
SmolLM2-135M); some ten times the unit roundoff in half precision, where every merged weight is rounded."""

_SPREAD_TOKENS = 64
_COMPLETION_TOKENS = 32


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a run trained on, and what came of it."""

    folder: Path
    """Where the adapter is."""
    adapter_digest: str
    """SHA-256 of `adapter_model.safetensors`, hex."""
    before: "HeldOutLoss"
    """Loss of the base on the held-out text."""
    after: "HeldOutLoss"
    """Loss with the adapter, on the same text, in the same precision."""
    losses: tuple[tuple[int, float], ...]
    """(update from 1, training loss in nats per token)."""
    tokens: int
    """Tokens trained on, repetitions counted."""
    epochs: float
    """How often each block was seen, on average."""
    train_files: int
    """Files whose text was trained on."""
    held_out_files: int
    """Files whose text was measured, and never trained on."""
    trainable_parameters: int
    """Numbers in the adapter."""
    precision: str
    """ "fp32" or "bf16", and why."""


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge made, and how it was checked."""

    folder: Path
    """Where the merged model is."""
    digest: str
    """SHA-256 over the weight files, as of `BaseModel.digest`."""
    dtype: str
    """Format of the stored weights: the base's."""
    difference: float
    """Largest difference between a logit of the merged model and of base + adapter."""
    allowed: float
    """The difference that rounding may make here: `TOLERANCE` times the largest logit."""
    effect: float
    """Largest difference between a logit of the merged model and of the base: what the adapter does."""
    completion: str
    """Greedy continuation of the prompt by the merged model."""


def train_adapter(
    texts: Callable[[], Iterable[tuple[str, str]]],
    base: BaseModel,
    folder: Path,
    lora: "LoraConfig",
    config: TrainingConfig,
    on_step: "StepCallback | None" = None,
    data_digest: str = "",
) -> TrainingReport:
    """Train an adapter on (content id, text) pairs, measure it on held-out ones and save it to `folder`.

    `data_digest` names the data in the record. An adapter that the folder held is replaced as a whole.
    Raises: AdapterError when there is too little text or the loss stops being a number; nothing is saved then.
    """
    import torch

    from stack_platform.adapters import get_peft_model
    from stack_platform.training.loop import train
    from stack_platform.training.loss import NextTokenLoss, held_out_loss
    from stack_platform.training.precision import resolve_precision
    from stack_platform.training.samples import gather_samples, text_bytes

    precision = resolve_precision(config.precision, config.device)
    tokenizer = load_tokenizer(base)
    samples = gather_samples(
        texts, tokenizer, config.block_size, config.held_out_share, config.blocks_needed, config.eval_blocks
    )
    frozen = load_model(base, precision.dtype)
    _check_block_size(frozen, config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = get_peft_model(frozen.to(precision.device), _named(lora, base))
    measured_bytes = text_bytes(samples.held_out, tokenizer)

    def measure() -> "HeldOutLoss":
        loss = NextTokenLoss(model, config.chunk_tokens)
        return held_out_loss(loss, samples.held_out, measured_bytes, config.batch_size, precision)

    before = measure()
    curve = train(model, samples.train, config, on_step, precision)
    report = TrainingReport(
        folder=folder,
        adapter_digest="",
        before=before,
        after=measure(),
        losses=curve.losses,
        tokens=curve.tokens,
        epochs=config.blocks_needed / len(samples.train),
        train_files=samples.train_files,
        held_out_files=samples.held_out_files,
        trainable_parameters=model.get_nb_trainable_parameters()[0],
        precision=f"{precision.name} ({precision.reason})",
    )
    return _save_run(model, report, base, config, data_digest)


def merge_adapter_into(base: BaseModel, adapter_folder: Path, folder: Path, prompt: str) -> MergeReport:
    """Merge an adapter into its base, save a dense model that transformers loads, and check it.

    Raises: AdapterError when the adapter belongs to another base, the prompt has no token, or the saved model
    computes something else than base + adapter; nothing is left in `folder` then.
    """
    import torch

    from stack_platform.adapters import PeftModel

    _check_base(base, adapter_folder)
    tokenizer = load_tokenizer(base)
    dtype = stored_dtype(base)
    adapted = PeftModel.from_pretrained(load_model(base, torch.float32), adapter_folder)
    inputs = _check_inputs(prompt, tokenizer, adapted.get_input_embeddings().weight.shape[0])
    expected = _logits(adapted, inputs)
    with adapted.disable_adapter():
        without = _logits(adapted, inputs)
    merged = adapted.merge_and_unload().to(dtype)
    with whole_folder(folder) as fresh:
        merged.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        del merged, adapted
        saved = load_model(BaseModel(str(folder), fresh, ""), torch.float32)
        found = _logits(saved, inputs)
        difference, effect = _furthest(found, expected), _furthest(found, without)
        allowed = TOLERANCE[str(dtype).removeprefix("torch.")] * max(
            row.abs().max().item() for row in expected
        )
        if not difference <= allowed:
            raise AdapterError(
                f"the merged model is not base + adapter: logits differ by {difference:.3g}, rounding to {dtype} "
                f"explains at most {allowed:.3g}; nothing was saved to {folder}. Keep the adapter beside its "
                "base, and report this"
            )
        digest = _write_merge_record(fresh, base, adapter_folder, str(dtype), difference)
        completion = _complete(saved, tokenizer, inputs[0])
    return MergeReport(
        folder, digest, str(dtype).removeprefix("torch."), difference, allowed, effect, completion
    )


def _named(lora: "LoraConfig", base: BaseModel) -> "LoraConfig":
    """Record how the base was asked for, not the folder of this machine that it was read from."""
    from stack_platform.adapters import TaskType

    return dataclasses.replace(
        lora,
        base_model_name_or_path=lora.base_model_name_or_path or base.name,
        task_type=lora.task_type or TaskType.CAUSAL_LM,
    )


def _check_block_size(model: Any, config: TrainingConfig) -> None:
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and config.block_size > longest:
        raise AdapterError(
            f"block_size {config.block_size} is more than the {longest} tokens the model reads; write less"
        )


def _save_run(
    model: "PeftModel", report: TrainingReport, base: BaseModel, config: TrainingConfig, data_digest: str
) -> TrainingReport:
    with whole_folder(report.folder) as fresh:
        model.save_pretrained(fresh)
        report = dataclasses.replace(report, adapter_digest=sha256_of(fresh / ADAPTER_WEIGHTS))
        record = {
            "adapter_digest": report.adapter_digest,
            "base": {"digest": base.digest, "name": base.name},
            "config": dataclasses.asdict(config),
            "data": {
                "digest": data_digest,
                "held_out_files": report.held_out_files,
                "tokens": report.tokens,
                "train_files": report.train_files,
            },
            "losses": {
                "after": dataclasses.asdict(report.after),
                "before": dataclasses.asdict(report.before),
                "training": report.losses,
            },
            "precision": report.precision,
            "trainable_parameters": report.trainable_parameters,
        }
        _write_json(fresh / TRAINING_RECORD, record)
    return report


def _check_base(base: BaseModel, adapter_folder: Path) -> None:
    """Compare the base with the one in the adapter's record; an adapter from elsewhere has none."""
    try:
        trained_on = json.loads((adapter_folder / TRAINING_RECORD).read_bytes())["base"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError) as error:
        raise AdapterError(f"{adapter_folder / TRAINING_RECORD} is damaged ({error}); train again") from error
    if trained_on["digest"] != base.digest:
        raise AdapterError(
            f"the adapter in {adapter_folder} was trained on {trained_on['name']!r} (digest "
            f"{trained_on['digest'][:12]}), not on {base.name!r} ({base.digest[:12]}); give that base"
        )


def _check_inputs(prompt: str, tokenizer: Any, vocab_size: int) -> "list[torch.Tensor]":
    """Return token ids, (1, T) each: the prompt, and tokens from all over the vocabulary."""
    import torch

    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    if not ids:
        raise AdapterError(f"the prompt {prompt!r} has no token; write one, such as 'def main'")
    spread = [(i * vocab_size) // _SPREAD_TOKENS for i in range(_SPREAD_TOKENS)]
    return [torch.tensor([ids]), torch.tensor([spread])]


def _logits(model: Any, inputs: "list[torch.Tensor]") -> "list[torch.Tensor]":
    import torch

    model.eval()
    with torch.no_grad():
        return [model(input_ids=ids, use_cache=False).logits for ids in inputs]


def _furthest(left: "list[torch.Tensor]", right: "list[torch.Tensor]") -> float:
    return max((a - b).abs().max().item() for a, b in zip(left, right, strict=True))


def _write_merge_record(fresh: Path, base: BaseModel, adapter: Path, dtype: str, difference: float) -> str:
    from stack_platform.training.models import resolve_base_model

    digest = resolve_base_model(str(fresh), fresh).digest
    record = {
        "adapter_digest": sha256_of(adapter / ADAPTER_WEIGHTS),
        "base": {"digest": base.digest, "name": base.name},
        "digest": digest,
        "dtype": dtype.removeprefix("torch."),
        "logit_difference": difference,
    }
    _write_json(fresh / MERGE_RECORD, record)
    return digest


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _complete(model: Any, tokenizer: Any, ids: "torch.Tensor") -> str:
    """Continue the prompt with the most likely token, again and again."""
    import torch

    with torch.no_grad():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=_COMPLETION_TOKENS,
            pad_token_id=tokenizer.eos_token_id,
        )
    return str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
