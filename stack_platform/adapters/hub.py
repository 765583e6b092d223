"""Adapters on the Hugging Face hub: a repository is a folder that has to be fetched first."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stack_platform.errors import AdapterError

FILES = ["adapter_config.json", "adapter_model.safetensors", "adapter_provenance.json"]


def local_folder(
    model_id: str | Path,
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the local folder of an adapter: the one given, or where its hub repository was fetched to.

    Raises: AdapterError when there is neither such a folder nor such a repository.
    """
    folder = Path(model_id)
    # a repository is <name> or <owner>/<name>, and no path that says it is one
    if folder.exists() or folder.is_absolute() or str(model_id).startswith(".") or len(folder.parts) > 2:
        return folder / subfolder if subfolder else folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = [f"{subfolder}/{name}" for name in FILES] if subfolder else FILES
    try:
        fetched = snapshot_download(
            str(model_id),
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            allow_patterns=wanted,
            local_files_only=local_files_only,
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise AdapterError(
            f"no folder {str(model_id)!r}, and no such repository can be fetched ({type(error).__name__}); "
            "give the local folder that save_pretrained wrote, or log in and check the name"
        ) from error
    return Path(fetched) / subfolder if subfolder else Path(fetched)


def push_folder(
    save: Callable[[Path], None],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload adapter",
    create_pr: bool = False,
) -> Any:
    """Save into a temporary folder and upload it as one commit; return the hub's record of it.

    Raises: AdapterError when the hub does not take it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        try:
            name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            return api.upload_folder(
                repo_id=name,
                folder_path=folder,
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
            )
        except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
            raise AdapterError(
                f"the hub did not take {repo_id!r} ({error}); log in and check the name"
            ) from error
