"""The model card of an adapter: a README.md whose front matter the hub reads.

The same adapter gives the same text: no date, no version of this package, no path of this machine. What users give is
written as JSON, in the front matter (YAML has it as a subset) and in a fence longer than any in it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from stack_platform.adapters.configs.fields import PeftConfig, TaskType

CARD_NAME = "README.md"
_PIPELINES = {
    TaskType.CAUSAL_LM: "text-generation",
    TaskType.SEQ_CLS: "text-classification",
    TaskType.TOKEN_CLS: "token-classification",
    TaskType.QUESTION_ANS: "question-answering",
    TaskType.FEATURE_EXTRACTION: "feature-extraction",
}
_SAID = ("license", "license_name", "license_link", "language", "datasets", "tags", "model_name")
"""Keys of a provenance that the hub knows in a card's front matter."""
_USE = """```python
from stack_platform.adapters import PeftModel  # or: from peft import PeftModel

model = PeftModel.from_pretrained(base_model, "this repository or folder")
```"""


def model_card(config: PeftConfig, provenance: Mapping[str, Any] | None = None) -> str:
    """Return the card of an adapter; a provenance's license, language, datasets and tags go to the front matter."""
    facts = _front_matter(config, provenance or {})
    lines = [f"{key}: {_json(value)}" for key, value in facts.items()]
    base, r = config.base_model_name_or_path, getattr(config, "r", None)
    method = f"{config.peft_type!s} adapter"
    name = _plain(str(facts["model_name"])) if "model_name" in facts else method
    rank = f", rank {r}" if r else ""
    parts = [
        "\n".join(("---", *lines, "---")),
        f"# {name}",
        f"A {method}{rank} for {_code(base) if base else 'a base model that it does not name'}.",
        _USE,
    ]
    if provenance:
        parts += ["## Provenance", _fenced(json.dumps(provenance, indent=2, sort_keys=True, default=str))]
    return "\n\n".join(parts) + "\n"


def updated_card(text: str, config: PeftConfig) -> str:
    """Return somebody's card with the front matter of an adapter's, the tags of both, and the text as it was."""
    from huggingface_hub import ModelCard

    card = ModelCard(text, ignore_metadata_errors=True)
    for key, value in _front_matter(config, {"tags": card.data.get("tags")}).items():
        if key in ("library_name", "tags") or card.data.get(key) is None:
            card.data[key] = value
    return str(card)


def _front_matter(config: PeftConfig, provenance: Mapping[str, Any]) -> dict[str, Any]:
    base = config.base_model_name_or_path or ""
    facts: dict[str, Any] = {}
    method = str(config.peft_type).lower()
    library = (config.auto_mapping or {}).get("parent_library") or ""
    known = ["transformers"] if config.task_type or library.startswith("transformers") else []
    tags = [method, *known, *_listed(provenance.get("tags"))]
    if re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", base):  # the hub takes no path for a model's name
        facts["base_model"] = base
        tags.insert(0, f"base_model:adapter:{base}")
    facts["library_name"] = "peft"
    if config.task_type in _PIPELINES:
        facts["pipeline_tag"] = _PIPELINES[config.task_type]
    facts |= {key: provenance[key] for key in _SAID if provenance.get(key)}
    if "datasets" in facts:
        facts["datasets"] = _listed(facts["datasets"])
    if isinstance(named := facts.get("license"), str):  # the hub knows lower-case identifiers, no expressions
        facts["license"] = named.lower() if re.fullmatch(r"[\w.+-]+", named) else "other"
    return dict(sorted((facts | {"tags": list(dict.fromkeys(tags))}).items()))


def _listed(value: Any) -> list[Any]:
    if not value:
        return []
    return [value] if isinstance(value, str) else list(value)


def _json(value: Any) -> str:
    """Return JSON that YAML reads the same: what YAML takes for a line's end or for unprintable is escaped."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]", lambda m: f"\\u{ord(m[0]):04x}", text
    )


def _code(text: str) -> str:
    """Return text as inline code, whatever it contains."""
    text = " ".join(text.split())
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def _plain(text: str) -> str:
    """Return one line without what Markdown or HTML would read."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&])", r"\\\1", " ".join(text.split()))


def _fenced(text: str) -> str:
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}json\n{text}\n{ticks}"
