"""The state of a whole model in which tensors may be shared: tied embeddings, their adapters, repeated blocks."""

from collections.abc import Mapping
from typing import Any

from torch import nn


class WholeState(nn.Module):
    """A model whose state has each shared tensor once, so that safetensors can hold it."""

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the whole model's state with each shared tensor once."""
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        prefix = kwargs.get("prefix", "")
        for name in self._repeated():
            state.pop(f"{prefix}{name}", None)
        return state

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load a whole model's state, in which a shared tensor may be there once or under each of its names.

        What was shared stays so, also with `assign`.
        """
        repeated = self._repeated()
        aliases = {name: state_dict[first] for name, first in repeated.items() if first in state_dict}
        result = super().load_state_dict({**aliases, **state_dict}, strict, assign)
        for name, first in repeated.items() if assign else ():
            module, _, attribute = name.rpartition(".")
            self.get_submodule(module).register_parameter(attribute, self.get_parameter(first))
        return result

    def _repeated(self) -> dict[str, str]:
        """Return each further name of a shared parameter, to its first."""
        first: dict[int, str] = {}
        named = self.named_parameters(remove_duplicate=False)
        return {name: first[id(p)] for name, p in named if first.setdefault(id(p), name) != name}
