"""Settings are checked where they are written."""

import pytest

from stack_platform.errors import ConfigError
from stack_platform.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"steps": 0}, "1 or more"),
        ({"steps": 2.5}, "whole number"),
        ({"steps": True}, "whole number"),
        ({"batch_size": -1}, "1 or more"),
        ({"accumulation": 0}, "1 or more"),
        ({"block_size": 1}, "2 or more"),
        ({"chunk_tokens": 0}, "1 or more"),
        ({"eval_blocks": 0}, "1 or more"),
        ({"seed": -1}, "0 or more"),
        ({"steps": 3, "warmup_steps": 3}, "at most 2"),
        ({"learning_rate": 0.0}, "such as 1e-3"),
        ({"learning_rate": float("nan")}, "such as 1e-3"),
        ({"max_grad_norm": float("inf")}, "such as 1.0"),
        ({"final_rate": 1.5}, "from 0 to 1"),
        ({"weight_decay": -0.1}, "0 or more"),
        ({"held_out_share": 0.0}, "such as 0.05"),
        ({"held_out_share": 1.0}, "such as 0.05"),
        ({"precision": "fp16"}, "auto, fp32 or bf16"),
        ({"device": "tpu"}, "auto, cpu or cuda"),
    ],
)
def test_value_nobody_can_use_is_refused_with_advice(changes, advice):
    with pytest.raises(ConfigError, match=advice) as caught:
        TrainingConfig(**changes)
    assert str(changes[list(changes)[-1]]) in str(caught.value)


def test_blocks_needed_count_every_forward_pass():
    assert TrainingConfig(steps=10, batch_size=3, accumulation=2).blocks_needed == 60
