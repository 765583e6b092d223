"""Checkpoints of transformers' Trainer that hold what trains, not the frozen model.

The Trainer (5.23) asks whether a model is of a class of its own or of PEFT's; of any other it saves the whole state,
and resumes from that. With `Trainer(..., callbacks=[AdapterCheckpoints()])` that state is what trains (and buffers, as
running means), from which the Trainer resumes and loads its best model as before; beside it lies the adapter as
`save_pretrained` writes it, in each checkpoint and at the end in `output_dir`. Where the Trainer decides to save after
an evaluation (`save_strategy="best"`), the state in the checkpoint is the whole one.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers.trainer_callback import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle


class AdapterCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Saves only what trains, and the adapters beside it."""

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let the Trainer find what it looks up in a model whose state lacks something."""
        del args, state, control
        model = _plain(kwargs["model"])
        if not hasattr(model, "_keys_to_ignore_on_save"):
            model._keys_to_ignore_on_save = None  # noqa: SLF001

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave frozen parameters out of the state that is saved next."""
        del args, state
        if control.should_save:
            self._narrow(kwargs["model"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave frozen parameters out of the state that is saved next."""
        self.on_step_end(args, state, control, **kwargs)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the adapters into the checkpoint."""
        del control
        self._widen()
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        _plain(kwargs["model"]).save_pretrained(folder, is_main_process=args.should_save)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the adapters, the best ones where the Trainer loaded these, into the output folder."""
        del state, control
        self._widen()
        _plain(kwargs["model"]).save_pretrained(args.output_dir, is_main_process=args.should_save)

    def _narrow(self, model: nn.Module) -> None:
        self._widen()
        self._handles = [_plain(model).register_state_dict_post_hook(_without_frozen)]

    def _widen(self) -> None:
        while self._handles:
            self._handles.pop().remove()


def _plain(model: Any) -> Any:
    return getattr(model, "_orig_mod", model)  # what torch.compile wrapped


def _without_frozen(model: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    kept = {f"{prefix}{name}" for name in (*trained, *(name for name, _ in model.named_buffers()))}
    for name in [name for name in state if name not in kept]:
        del state[name]
