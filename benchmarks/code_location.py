"""The code location loads in under 3 s and imports neither torch nor transformers."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = """
import resource, sys, time
started = time.perf_counter()
import assets.definitions
taken = time.perf_counter() - started
heavy = sorted({"torch", "transformers", "datasets", "bitsandbytes", "numba"} & set(sys.modules))
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, ",".join(heavy) or "none")
"""


def main() -> None:
    """Print the import time and memory of five fresh processes."""
    runs = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True
        )
        seconds, memory, heavy = done.stdout.split()
        runs.append((float(seconds), float(memory), heavy))
    seconds = sorted(run[0] for run in runs)
    print(f"code location: {seconds[0]:.2f} s at best, {seconds[2]:.2f} s median, {runs[0][1]:.0f} MB")
    print(f"heavy modules imported: {runs[0][2]}")
    assert all(run[2] == "none" for run in runs)


if __name__ == "__main__":
    main()
