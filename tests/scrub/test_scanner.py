from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from stack_platform.scrub.scanner import native_hits


def test_every_trigger_of_our_pack_has_a_verdict():
    from pathlib import Path

    import yaml

    from stack_platform.scrub import detect

    pack = yaml.safe_load(Path(detect.__file__).with_name("rules.yaml").read_text())
    assert {rule["id"] for rule in pack["rules"]} == set(detect.VERDICTS)


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
    assert native_hits(b"", "high", str(tmp_path)) == []
    ((paths, options),) = asked
    assert [path.name for path in paths] == ["rules.yaml"]
    assert options == {"confidence": "high", "cache_dir": str(tmp_path)}
