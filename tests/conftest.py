"""A small environment of installed distributions, and the lake that the data wing makes of it."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from stack_platform.archive.distributions import DistributionsConfig
from stack_platform.corpus.index import build_index, indexed_languages
from stack_platform.corpus.snapshot import build_snapshot
from stack_platform.corpus.stages import INDEX, corpus_stages
from stack_platform.corpus.texts import text_reader
from stack_platform.engine.local import LocalEngine
from stack_platform.engine.stages import run_stage
from stack_platform.tables import Lake

# The same examples every time, and no limit of time: HYPOTHESIS_PROFILE=default looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

MIT = """MIT License

Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def function(name: str, n: int) -> str:
    """Write a Python file of n functions that looks like no other one."""
    word = hashlib.sha256(name.encode()).hexdigest()
    lines = [
        f"def {name}_{i}(x):\n    {word[i % 40 : i % 40 + 9]}_{i} = x * {i}\n    return {i}\n"
        for i in range(n)
    ]
    return "\n".join(lines)


def install(
    site: Path, name: str, version: str, expression: str | None, files: dict[str, bytes | str]
) -> None:
    """Lay a distribution into a site-packages folder as an installer does."""
    info = f"{name}-{version}.dist-info"
    declared = f"License-Expression: {expression}\n" if expression else ""
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{declared}"
    whole = {**files, f"{info}/METADATA": metadata, f"{info}/INSTALLER": "pip\n"}
    for path, data in whole.items():
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.encode() if isinstance(data, str) else data)
    record = "".join(f"{path},,\n" for path in [*whole, f"{info}/RECORD"])
    (site / info / "RECORD").write_text(record)


def lay_out(site: Path) -> None:
    """Install what each stage has something to do with."""
    near = function("near", 60)
    address = "jane.roe" + "@" + "wonderland-mail.org"
    install(
        site,
        "alpha",
        "1.0",
        "MIT",
        {
            "alpha/__init__.py": "",
            "alpha/kept.py": function("kept", 20),
            "alpha/copy_a.py": function("copy", 20),
            "alpha/copy_b.py": function("copy", 20),
            "alpha/near_a.py": near,
            "alpha/near_b.py": near.replace("return 7\n", "return 77\n"),
            "alpha/contact.py": f'AUTHOR = "{address}"\n' + function("contact", 12),
            "alpha/latin.py": (
                "# -*- coding: latin-1 -*-\n# caf\u00e9 au lait, d\u00e9j\u00e0 vu\n" + function("latin", 9)
            ).encode("latin-1"),
            "alpha/data.bin": b"\0\1\2" * 100,
            "alpha/strict.py": "# SPDX-License-Identifier: GPL-3.0-only\n" + function("strict", 9),
            "alpha/fast.c": '#include <stdio.h>\nint main(void) { printf("hello"); return 0; }\n',
            "alpha-1.0.dist-info/licenses/LICENSE": MIT,
        },
    )
    install(site, "beta", "2.0", "GPL-3.0-or-later", {"beta/core.py": function("beta", 20)})
    install(site, "gamma", "3.0", None, {"gamma/core.py": function("gamma", 20)})


def run_corpus(lake: Lake, site: Path) -> None:
    """Run the whole data wing over a site-packages folder."""
    with LocalEngine(1) as engine:
        build_snapshot(lake, "installed", DistributionsConfig(paths=(str(site),)).open())
        build_index(lake, engine)
        for stage in corpus_stages(engine).values():
            run_stage(lake, stage, indexed_languages(lake.open(INDEX)), text_reader(lake))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of installed distributions, not to be changed."""
    folder = tmp_path_factory.mktemp("site")
    lay_out(folder)
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Lake:
    """Return a lake that holds every stage of the data wing, not to be changed."""
    lake = Lake(tmp_path_factory.mktemp("corpus") / "lake")
    run_corpus(lake, site)
    return lake


@pytest.fixture
def own_site(tmp_path: Path) -> Path:
    """Return a folder of installed distributions of the test's own."""
    lay_out(tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture
def rebuild() -> Callable[[Lake, Path], None]:
    """Return the function that brings a lake up to date with a site."""
    return run_corpus


@pytest.fixture(scope="session")
def cpu_seconds() -> Callable[..., float]:
    """Return the function that measures a call in CPU seconds, the best of three: a busy machine slows some of them.

    It stops at the first that takes less than `enough`.
    """

    def measure(call: Callable[[], object], enough: float = 0.0) -> float:
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            call()
            best = min(best, time.process_time() - started)
            if best < enough:
                break
        return best

    return measure
