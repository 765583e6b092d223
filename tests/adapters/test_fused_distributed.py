"""The fused way where parameters are watched (DDP) or kept in parts (FSDP2), in a group of one process."""

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from stack_platform.adapters import LoraConfig, get_peft_model
from stack_platform.adapters.fusing import shared_inputs
from stack_platform.adapters.layer import AdaptedLayer

pytestmark = pytest.mark.skipif(
    not distributed.is_available(), reason="this torch has no distributed package"
)


@pytest.fixture
def _group(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture
def model(llama):
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(llama().double(), config)


@pytest.fixture
def taken(monkeypatch):
    """How many layers each call of the operation computed."""
    sizes = []
    original = shared_inputs.lora_linears

    def counted(x, projections, compute):
        sizes.append(len(projections))
        return original(x, projections, compute)

    monkeypatch.setattr(shared_inputs, "lora_linears", counted)
    return sizes


def gradients(model, ids, wrapped=None):
    model.zero_grad()
    (wrapped or model)(input_ids=ids, labels=ids).loss.backward()
    found = [p.grad for p in model.parameters() if p.requires_grad]
    return [g.full_tensor() if hasattr(g, "full_tensor") else g.clone() for g in found]


@pytest.mark.usefixtures("_group")
def test_ddp_gives_the_same_gradients(model, ids, taken):
    expected = gradients(model, ids)
    model.use_fused("base_dtype")
    wrapped = DistributedDataParallel(model)
    for _ in range(2):
        torch.testing.assert_close(gradients(model, ids, wrapped), expected)
    assert max(taken) == 3


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize(("by_layer", "together"), [(False, 3), (True, 1)])
def test_fsdp_gives_the_same_gradients_and_shares_only_what_is_whole(model, ids, taken, by_layer, together):
    expected = gradients(model, ids)
    model.use_fused("base_dtype")
    mesh = init_device_mesh("cpu", (1,))
    for layer in [m for m in model.modules() if by_layer and isinstance(m, AdaptedLayer)]:
        fully_shard(layer, mesh=mesh)
    for block in model.get_base_model().model.layers:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for _ in range(2):
        torch.testing.assert_close(gradients(model, ids), expected)
    assert max(taken) == together
