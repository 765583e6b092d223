"""A folder of a million files is archived in less than 1 GB of memory, and so it is again; its paths take 2 GB.

1,000 folders of 1,000 files with a few bytes each, all different, are made in a temporary folder (--folders and --files
change that, --place says where), archived as one origin (listed, hashed, built into directories), archived again with
what the first reading left to remember, and then walked by paths from the tables. Each step runs in a process of its
own, which tells its peak memory and its CPU time; `os.walk` with `lstat` of every file is what the file system alone
costs.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Make the folder, and run each step in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folders", type=int, default=1000)
    parser.add_argument("--files", type=int, default=1000, help="files in each folder")
    parser.add_argument(
        "--place", type=Path, default=None, help="where to make them; default: temporary files"
    )
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--at", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        told = STEPS[options.step](options.at)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        unit = 1 if sys.platform == "darwin" else 1024
        told |= {"peak_mb": usage.ru_maxrss * unit / 1e6, "cpu_s": usage.ru_utime + usage.ru_stime}
        print(json.dumps(told))
        return
    total = options.folders * options.files
    with tempfile.TemporaryDirectory(dir=options.place, prefix="directory-walk-") as place:
        make(Path(place, "tree"), options.folders, options.files)
        print(f"directory_walk: {total:,} files in {options.folders:,} folders")
        time.sleep(3)  # what changed two seconds before a reading is not remembered
        told = {step: run(step, place) for step in STEPS}
        wrong = []
        for step, (files, rows) in {
            "archive": (total, total),
            "again": (0, 0),
            "walk": (total, total),
        }.items():
            if (told[step]["contents"], told[step]["files"]) != (files, rows):
                wrong.append(f"{step}: {told[step]}")
        plain, ours = told["os.walk"], told["archive"]
        print(f"archiving takes {ours['cpu_s'] / plain['cpu_s']:.1f} times the CPU of os.walk with lstat")
        for step, limit in (("archive", 1000), ("again", 1000), ("walk", 2000)):
            print(f"peak of {step} below {limit:,} MB: {told[step]['peak_mb'] < limit}")
    sys.exit(f"wrong: {wrong}" if wrong else 0)


def make(tree: Path, folders: int, files: int) -> None:
    """Write the files."""
    for folder in range(folders):
        place = tree / f"{folder:04}"
        place.mkdir(parents=True)
        for number in range(files):
            descriptor = os.open(f"{place}/{number:04}.py", os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, b"%d,%d\n" % (folder, number))
            os.close(descriptor)


def run(step: str, place: str) -> dict[str, float]:
    """Run one step and print what it took."""
    command = [sys.executable, __file__, "--step", step, "--at", place]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(done.stdout)
    seconds = time.perf_counter() - started
    print(f"{step:8} peak {told['peak_mb']:6.0f} MB, {told['cpu_s']:6.1f} CPU s, {seconds:6.1f} s")
    return told


def plain_walk(place: Path) -> dict[str, float]:
    """Walk with the standard library."""
    files = sum(
        1
        for top, _, names in os.walk(place / "tree")
        for name in names
        if os.lstat(f"{top}/{name}").st_size >= 0
    )
    return {"files": files, "contents": files}


def archive(place: Path) -> dict[str, float]:
    """Archive the folder into Parquet files."""
    import pyarrow.parquet as pq

    from stack_platform.schemas import ARCHIVE

    writers = {name: pq.ParquetWriter(place / f"{name}.parquet", schema) for name, schema in ARCHIVE.items()}
    counts = dict.fromkeys(ARCHIVE, 0)
    for table, batch in _read(place, known=False):
        writers[table].write_batch(batch)
        counts[table] += batch.num_rows
    for writer in writers.values():
        writer.close()
    roots = counts["directory"]
    return {"contents": counts["content"], "files": counts["directory_entry"] - roots + 1}


def archive_again(place: Path) -> dict[str, float]:
    """Archive the folder once more, after one file was touched."""
    (place / "tree" / "0000" / "0000.py").touch()
    rows = [(table, batch.num_rows) for table, batch in _read(place, known=True)]
    return {"contents": len(rows), "files": len(rows)}


def _read(place: Path, *, known: bool):  # noqa: ANN202  a generator of rows
    import pyarrow.parquet as pq

    from stack_platform.archive.folders import FoldersConfig
    from stack_platform.archive.sources import Known, Reading

    held = Known(lambda table, columns: pq.read_table(place / f"{table}.parquet", columns=list(columns)))
    source = FoldersConfig((str(place / "tree"),)).open()
    return source.read(held if known else Known(), Reading(scratch=place / "scratch"))


def walk(place: Path) -> dict[str, float]:
    """Walk the tables by paths."""
    import pyarrow.dataset as ds

    from stack_platform.archive.files import walk_files
    from stack_platform.schemas import ARCHIVE

    walked = walk_files({name: ds.dataset(place / f"{name}.parquet") for name in ARCHIVE})
    readable = walked.num_rows - (walked.num_rows - walked["skip_reason"].null_count)
    return {"contents": readable, "files": walked.num_rows}


STEPS = {"os.walk": plain_walk, "archive": archive, "again": archive_again, "walk": walk}

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
