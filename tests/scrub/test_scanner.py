import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import yaml

from stack_platform.scrub import detect, scanner
from stack_platform.scrub.scanner import Pack, native_hits


def packs():
    folder = Path(scanner.__file__).parent
    return [
        rule for file in sorted(folder.glob("*.yaml")) for rule in yaml.safe_load(file.read_text())["rules"]
    ]


def test_every_trigger_of_our_packs_has_a_verdict_and_every_verdict_a_trigger():
    ids = [rule["id"] for rule in packs()]
    assert len(ids) == len(set(ids))
    assert all(detect.verdict_on(id_) for id_ in ids)
    reached = {id(detect.verdict_on(id_)) for id_ in ids}
    assert {id(verdict) for verdict in detect.VERDICTS.values()} <= reached


def test_no_pattern_of_ours_is_unbounded():
    for rule in packs():
        plain = re.sub(r"\\.|\[(?:\\.|[^\]])*\]", "x", rule["pattern"])
        assert not re.search(r"[*+]|\{\d+,\}", plain), rule["id"]


def test_offsets_count_bytes_also_beside_nul_bytes():
    data = "é\0 ada@engine.org \0b\0c\0".encode()
    (hit,) = native_hits(data)
    assert hit.rule == "sp.email"
    assert data[hit.start : hit.end] == b"a@engine.or"


def test_threads_share_a_scanner(samples):
    texts = [sample.text.encode() for sample in samples.values()] * 5
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(native_hits, texts)) == [native_hits(text) for text in texts]


def test_rules_are_compiled_into_the_folder_asked_for(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("kingfisher_sdk.Rules", lambda paths, **options: asked.append((paths, options)))
    monkeypatch.setattr(
        "kingfisher_sdk.Scanner", lambda rules, **options: SimpleNamespace(scan=lambda data: [])
    )
    assert native_hits(b"", Pack("high", cache_dir=str(tmp_path))) == []
    ((paths, options),) = asked
    assert [path.name for path in paths] == ["rules.yaml", "formats.yaml"]
    assert options == {"confidence": "high", "cache_dir": str(tmp_path)}
