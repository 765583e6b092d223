"""Choice of number format."""

import pytest
import torch

from stack_platform.errors import ConfigError
from stack_platform.training.precision import resolve_precision


@pytest.fixture
def cpu(monkeypatch):
    """Set what the processor can do."""
    return lambda **features: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "bf16"])
def test_auto_is_bf16_where_the_cpu_has_it(cpu, feature):
    cpu(**{feature: True})
    chosen = resolve_precision("auto", "cpu")
    assert (chosen.name, chosen.dtype) == ("bf16", torch.bfloat16)
    assert feature in chosen.reason


def test_auto_is_fp32_where_bf16_is_emulated(cpu):
    cpu(avx512_f=True, avx512_bf16=False)
    chosen = resolve_precision("auto", "cpu")
    assert (chosen.name, chosen.dtype) == ("fp32", torch.float32)


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_asking_wins_over_the_cpu(cpu, name):
    cpu(avx512_bf16=name == "fp32")
    assert resolve_precision(name, "cpu").name == name


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_are_taken_in_the_chosen_format(name, dtype):
    with resolve_precision(name, "cpu").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_gpu_is_refused():
    with pytest.raises(ConfigError, match="write 'cpu' or 'auto'"):
        resolve_precision("auto", "cuda")
    assert resolve_precision("fp32", "auto").device == "cpu"
