"""What `docs/adapters.md` shows is run."""

import re
from pathlib import Path

import torch
from torch import nn

import stack_platform.adapters as adapters
from stack_platform.adapters.initial import lora_start
from stack_platform.adapters.layer import AdaptedLayer
from stack_platform.adapters.variants import lora, variant
from stack_platform.adapters.variants.table import VARIANTS
from stack_platform.adapters.variants.variant import Adapter, Site

TEXT = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text()


def test_the_variant_in_twenty_lines_is_one():
    code = re.search(r"```python\n(def shapes.*?)```", TEXT, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 20
    table = dict(VARIANTS)
    exec(code, {**vars(lora), **vars(variant), "torch": torch, "lora_start": lora_start, "VARIANTS": table})
    VARIANTS["gained"] = table["gained"]
    try:
        layer = AdaptedLayer(nn.Linear(4, 3))
        adapter = Adapter("gained", None, r=2, alpha=4, scaling=2.0)
        site = Site(adapter, layer.base_layer, layer.kind)
        start = table["gained"].initial(site, table["gained"].shapes(site))
        layer.add("a", adapter, {name: t + 0.3 for name, t in start.tensors.items()})
        layer.switch.active = ("a",)
        x = torch.randn(2, 4)
        y = layer(x)
        layer.merge(adapter_names=["a"])
        torch.testing.assert_close(layer(x), y)
        assert "gain.a" in dict(layer.named_parameters())
    finally:
        del VARIANTS["gained"]


def test_every_configuration_and_verb_it_names_is_there():
    for name in set(re.findall(r"`(\w+Config)`", TEXT)):
        assert hasattr(adapters, name), name
    verbs = re.search(r"## Life of an adapter\n\n(.*?)\n\n", TEXT, re.DOTALL)[1]
    for name in set(re.findall(r"`(\w+)`", verbs)):
        found = hasattr(adapters, name) or hasattr(adapters.PeftModel, name)
        assert found or hasattr(
            __import__("stack_platform.adapters.lifecycle", fromlist=["x"]).AdaptedModel, name
        ), name


def test_the_table_of_methods_names_every_method():
    for name in (n for n in adapters.__all__ if n.endswith("Config")):
        if name not in {"PeftConfig", "PromptLearningConfig", "EvaConfig", "LoftQConfig"}:
            assert f"`{name}`" in TEXT, name
