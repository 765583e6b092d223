"""The same adapters in PEFT: its numbers, and where they are wrong."""

import pytest
import torch

from stack_platform.adapters.compose.combine import COMBINATION_TYPES, Combination, combine_adapters
from stack_platform.adapters.compose.low_rank import LowRank, update

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

NAMES = ["a", "b", "c"]
WEIGHTS = [0.7, -0.4, 1.3]


class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.config = {"model_type": "custom"}
        self.linear = torch.nn.Linear(6, 9)
        self.embedding = torch.nn.Embedding(11, 6)
        self.wide = torch.nn.Conv2d(4, 8, 3)
        self.point = torch.nn.Conv2d(4, 8, 1)


def peft_model(ranks=(4, 4, 4), **settings):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    targets = settings.pop("targets", ["linear", "embedding", "wide", "point"])
    model = None
    for name, rank in zip(NAMES, ranks, strict=True):
        config = peft.LoraConfig(
            r=rank, lora_alpha=12, target_modules=targets, init_lora_weights=False, **settings
        )
        if model is None:
            model = peft.get_peft_model(Layers(), config, name)
        else:
            model.add_adapter(name, config)
    return model


def factors(layer, name):
    if name in layer.lora_A:
        A, B = layer.lora_A[name], layer.lora_B[name]
        bias = None if getattr(B, "bias", None) is None else B.bias.data
        return LowRank(A.weight.data, B.weight.data, layer.scaling[name], bias)
    return LowRank(layer.lora_embedding_A[name].data, layer.lora_embedding_B[name].data, layer.scaling[name])


def layers_of(model):
    return {
        path.removeprefix("base_model.model."): module
        for path, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def theirs(model, kind, **settings):
    torch.manual_seed(5)
    model.base_model.add_weighted_adapter(NAMES, WEIGHTS, "new", combination_type=kind, **settings)
    return {path: factors(layer, "new") for path, layer in layers_of(model).items()}


def ours(model, kind, **settings):
    adapters = {name: {p: factors(layer, name) for p, layer in layers_of(model).items()} for name in NAMES}
    return combine_adapters(
        adapters, WEIGHTS, Combination(kind, **settings), torch.Generator().manual_seed(5)
    )


def density(kind):
    return {} if kind in ("svd", "linear", "cat") else {"density": 0.4}


@pytest.mark.parametrize("method", ["total", "frequency"])
@pytest.mark.parametrize("kind", [kind for kind in COMBINATION_TYPES if "dare" not in kind])
def test_all_that_is_not_random_is_pefts(kind, method):
    model = peft_model()
    settings = {**density(kind), "majority_sign_method": method}
    peers, mine = theirs(model, kind, **settings), ours(model, kind, **settings)
    assert mine.keys() == peers.keys()
    for path, own in mine.items():
        exact = not kind.endswith("svd")
        tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(update(own), update(peers[path]), **tolerance)
        if exact:
            torch.testing.assert_close(own.A, peers[path].A, rtol=0, atol=0)
            torch.testing.assert_close(own.B, peers[path].B, rtol=0, atol=0)
        assert own.rank == peers[path].rank


@pytest.mark.parametrize("kind", ["dare_linear", "dare_ties"])
def test_dare_draws_pefts_masks_from_the_same_seed(kind):
    """PEFT draws from the global generator, after the new adapter's start."""
    model = peft_model(targets=["linear"])
    layer = layers_of(model)["linear"]
    torch.manual_seed(5)
    A, B = model.base_model._generalized_task_arithmetic_weighted_adapter(
        kind, NAMES, WEIGHTS, layer, 0.4, "total"
    )
    own = ours(model, kind, density=0.4)["linear"]
    torch.testing.assert_close(own.A, A, rtol=0, atol=0)
    torch.testing.assert_close(own.B, B, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["dare_linear_svd", "dare_ties_svd"])
def test_dare_on_whole_updates_draws_pefts_masks(kind):
    model = peft_model(targets=["linear"])
    layer = layers_of(model)["linear"]
    torch.manual_seed(5)
    A, B = model.base_model._svd_generalized_task_arithmetic_weighted_adapter(
        kind, NAMES, WEIGHTS, 4, layer, layer.lora_A["a"].weight, layer.lora_B["a"].weight, 0.4, "total"
    )
    torch.testing.assert_close(update(ours(model, kind, density=0.4)["linear"]), B @ A, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["svd", "cat", "ties_svd"])
def test_mixed_ranks_are_pefts(kind):
    model = peft_model((2, 4, 3))
    peers, mine = theirs(model, kind, **density(kind)), ours(model, kind, **density(kind))
    for path, own in mine.items():
        torch.testing.assert_close(update(own), update(peers[path]), rtol=1e-5, atol=1e-5)
        assert own.rank == peers[path].rank


def test_svd_clamp_is_pefts():
    model = peft_model(targets=["linear"])
    settings = {"svd_clamp": 0.8, "svd_full_matrices": True}
    own, peer = ours(model, "svd", **settings)["linear"], theirs(model, "svd", **settings)["linear"]
    torch.testing.assert_close(own.A, peer.A, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own.B, peer.B, rtol=1e-5, atol=1e-5)


def test_peft_scales_a_combined_rslora_adapter_twice():
    model = peft_model(targets=["linear"], use_rslora=True)
    peer, own = theirs(model, "cat")["linear"], ours(model, "cat")["linear"]
    torch.testing.assert_close(update(peer), update(own) * peer.rank**0.5)


def test_peft_does_not_combine_the_biases():
    model = peft_model(targets=["linear"], lora_bias=True)
    for name in NAMES:
        torch.nn.init.ones_(layers_of(model)["linear"].lora_B[name].bias)
    summed = torch.full((9,), 3 * sum(WEIGHTS))
    torch.testing.assert_close(ours(model, "cat")["linear"].bias, summed)
    assert not torch.allclose(theirs(model, "cat")["linear"].bias, summed)


def test_peft_gives_tensors_another_rank_than_their_configuration():
    model = peft_model(targets=["linear", "wide"], rank_pattern={"wide": 2})
    peer = theirs(model, "linear")["wide"]
    assert peer.rank == 2
    assert model.peft_config["new"].r == 4
    assert ours(model, "linear")["wide"].rank == 4
    torch.testing.assert_close(update(ours(model, "linear")["wide"]), update(peer))
