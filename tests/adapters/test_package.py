import subprocess
import sys

import pytest

import stack_platform.adapters as adapters


def test_importing_the_package_and_its_pure_modules_loads_neither_torch_nor_transformers():
    code = (
        "import sys, stack_platform.adapters, stack_platform.adapters.config, stack_platform.adapters.targets\n"
        "from stack_platform.adapters import LoraConfig, TaskType\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_resolves_and_the_list_is_sorted():
    assert adapters.__all__ == sorted(adapters.__all__)
    assert all(getattr(adapters, name).__doc__ for name in adapters.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="XLoraModel"):
        _ = adapters.XLoraModel
