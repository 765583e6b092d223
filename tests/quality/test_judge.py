import json
import pickle
from dataclasses import asdict, replace
from functools import partial

import pyarrow as pa
import pytest

from stack_platform.engine.local import LocalEngine
from stack_platform.errors import ConfigError
from stack_platform.manifests import digest_of
from stack_platform.quality.contamination import ContaminationConfig, pinned
from stack_platform.quality.items import Benchmark
from stack_platform.quality.judge import QualityConfig, judge_quality
from stack_platform.quality.malware import MalwareConfig
from stack_platform.schemas import QUALITY

TASK = "Return the list of all even numbers between the two given limits, in ascending order."
CODE = "def main():\n    print('a good line of code')\n" * 3


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "b.jsonl"
    path.write_text(json.dumps({"task_id": "b/1", "prompt": TASK}))
    return QualityConfig(contamination=pinned(ContaminationConfig(benchmarks=(Benchmark("b", str(path)),))))


def test_each_file_gets_its_first_reason(make_batch, config):
    long_line = "x = '" + "word " * 300 + "'\n"
    texts = [CODE, long_line, CODE + TASK, long_line + TASK, ""]
    files, reasons, evidence = judge_quality(make_batch(texts), config)
    assert reasons == [None, "long_average_line", "contaminated", "long_average_line", "empty"]
    assert evidence[2]["item"] == "b/1"
    assert files.schema.names == ["language", "path", "length_bytes", *QUALITY.names]
    assert files.num_rows == len(texts)


def test_mark_of_generated_files_is_used_where_it_is_known(make_batch):
    marked = make_batch([CODE, CODE], is_generated=pa.array([True, None]))
    assert judge_quality(marked)[1] == ["generated", None]


def test_text_files_need_a_telling_name(make_batch):
    batch = make_batch([CODE, CODE], language="Text", path=["docs/README.txt", "words.txt"])
    assert judge_quality(batch)[1] == [None, "text_name"]


def test_configuration_travels_to_workers_and_batches_do_not_matter(make_batch, config):
    assert pickle.loads(pickle.dumps(config)) == config
    batch = make_batch([CODE, CODE + TASK, ""])
    whole = judge_quality(batch, config)
    with LocalEngine(1) as engine:
        parts = list(engine.map(partial(judge_quality, config=config), [batch.slice(i, 1) for i in range(3)]))
    assert [reason for _, reasons, _ in parts for reason in reasons] == whole[1]
    assert pa.Table.from_batches([part for part, _, _ in parts]).equals(pa.Table.from_batches([whole[0]]))


def test_empty_batch_stays_empty(make_batch, config):
    files, reasons, evidence = judge_quality(make_batch([]), config)
    assert (files.num_rows, reasons, evidence) == (0, [], [])


def test_configuration_names_the_benchmarks_bytes(tmp_path, config):
    benchmark = replace(config.contamination.benchmarks[0], sha256="")
    before = digest_of(asdict(config))
    (tmp_path / "b.jsonl").write_text(json.dumps({"task_id": "b/1", "prompt": TASK + " Twice."}))
    after = replace(config, contamination=pinned(ContaminationConfig(benchmarks=(benchmark,))))
    assert digest_of(asdict(after)) != before


def test_malware_comes_before_every_other_reason(make_batch, tmp_path):
    scanner = tmp_path / "clamscan"
    scanner.write_text(
        '#!/bin/sh\nfor last; do :; done\n[ -d "$last" ] && echo "$last/1: Test FOUND"\nexit 0\n'
    )
    scanner.chmod(0o755)
    config = QualityConfig(malware=MalwareConfig("required", str(scanner)))
    assert judge_quality(make_batch([CODE, ""]), config)[1] == [None, "malware"]


def test_missing_scanner_changes_nothing_unless_it_is_required(make_batch):
    missing = MalwareConfig("if_installed", "clamscan-is-not-here")
    assert judge_quality(make_batch([CODE]), QualityConfig(malware=missing))[1] == [None]
    with pytest.raises(ConfigError, match="not installed"):
        judge_quality(make_batch([CODE]), QualityConfig(malware=replace(missing, mode="required")))
