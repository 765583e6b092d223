"""Adapters on the Hugging Face hub: a repository is a folder that has to be fetched first."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stack_platform.errors import AdapterError

_WEIGHTS = "adapter_model.safetensors"
FILES = ("adapter_config.json", _WEIGHTS, "adapter_provenance.json")
_OLD_FILES = ("adapter_config.json", "adapter_model.bin")

PLACEMENT = frozenset(
    {
        "device_map",
        "max_memory",
        "offload_dir",
        "offload_folder",
        "offload_index",
        "torch_device",
        "torch_dtype",
    }
)
"""Arguments of PEFT's callers that say where tensors go: an adapter's go where its layers are, whatever they say."""


def local_folder(
    model_id: str | Path,
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    names: Sequence[str] = FILES,
    **others: Any,
) -> Path:
    """Return the local folder of an adapter: the one given, or where its hub repository was fetched to.

    Of a repository only the files called `names` are fetched; `others` may be those of `PLACEMENT`.
    Raises: AdapterError when there is neither such a folder nor such a repository.
    """
    if unknown := sorted(others.keys() - PLACEMENT):
        raise AdapterError(
            f"no argument is called {', '.join(unknown)}; leave it out, or see hub.local_folder"
        )
    folder = Path(model_id)
    # a repository is <name> or <owner>/<name>, and no path that says it is one
    if folder.exists() or folder.is_absolute() or str(model_id).startswith(".") or len(folder.parts) > 2:
        return folder / subfolder if subfolder else folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    def fetch(wanted: Sequence[str]) -> Path:
        root = snapshot_download(
            str(model_id),
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            allow_patterns=[f"{subfolder}/{name}" if subfolder else name for name in wanted],
            local_files_only=local_files_only,
            force_download=force_download,
        )
        return Path(root) / (subfolder or "")

    try:
        found = fetch(names)
        if _WEIGHTS in names and not (found / _WEIGHTS).exists():
            found = fetch(_OLD_FILES)
    except (HTTPError, OSError, ValueError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise AdapterError(
            f"no folder {str(model_id)!r}, and no such repository{at} can be fetched ({_reason(error)}); "
            "give the local folder that save_pretrained wrote, or log in and check the name"
        ) from error
    if not (found / names[0]).exists():
        inside = f" in {subfolder!r}" if subfolder else ""
        raise AdapterError(
            f"the repository {str(model_id)!r} has no {names[0]}{inside}; give one with an adapter, and its subfolder"
        )
    return found


def push_folder(
    save: Callable[[Path], None],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload adapter",
    commit_description: str | None = None,
    create_pr: bool = False,
) -> Any:
    """Save into a temporary folder and upload it as one commit; return the hub's record of it.

    The repository and the branch `revision` are made where there are none.
    Raises: AdapterError when the hub does not take it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        try:
            name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if revision is not None and not revision.startswith("refs/"):
                api.create_branch(name, branch=revision, exist_ok=True)
            return api.upload_folder(
                repo_id=name,
                folder_path=folder,
                commit_message=commit_message,
                commit_description=commit_description,
                revision=revision,
                create_pr=create_pr,
            )
        except (HTTPError, OSError, ValueError, RuntimeError) as error:
            raise AdapterError(
                f"the hub did not take {repo_id!r} ({_reason(error)}); log in and check the name"
            ) from error


def _reason(error: Exception) -> str:
    """Return the kind of an error and the first line of what it says."""
    first = next((line for line in str(error).splitlines() if line.strip()), "").strip().rstrip(".")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
