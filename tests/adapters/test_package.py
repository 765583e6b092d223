import subprocess
import sys

import pytest

import stack_platform.adapters as adapters
from stack_platform.errors import ConfigError


def test_importing_the_package_and_its_pure_modules_loads_neither_torch_nor_transformers():
    code = (
        "import sys, stack_platform.adapters, stack_platform.adapters.config, stack_platform.adapters.targets\n"
        "from stack_platform.adapters import LoraConfig, TaskType\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_resolves_and_the_list_is_sorted():
    order = {name: (not name.isupper(), name[0].islower(), name) for name in adapters.__all__}
    assert adapters.__all__ == sorted(
        order, key=order.__getitem__
    )  # as ruff sorts: constants, classes, functions
    assert all(getattr(adapters, name).__doc__ for name in adapters.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="XLoraModel"):
        _ = adapters.XLoraModel


def test_a_configuration_is_made_from_its_fields():
    config = adapters.get_peft_config({"peft_type": "LORA", "r": 3, "target_modules": ["q_proj"]})
    assert isinstance(config, adapters.PEFT_TYPE_TO_CONFIG_MAPPING["LORA"])
    assert config.r == 3
    with pytest.raises(ConfigError, match="peft_type='LARO'; write one of ADALORA"):
        adapters.get_peft_config({"peft_type": "LARO"})
