"""Run random histories for as long as wanted: `python tests/simulation/run.py --seconds 600 [--seed 1000]`."""

import argparse
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.simulation.histories import history
from tests.simulation.world import BrokenPromise, simulate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="wall-clock time to run for; 0: one seed")
    parser.add_argument("--seed", type=int, default=None, help="the first seed; by default the time of day")
    options = parser.parse_args()
    first = seed = int(time.time()) * 1000 if options.seed is None else options.seed
    until_s = time.monotonic() + options.seconds
    simulated_s = 0.0
    lives = kills = power_cuts = stops = jobs = checked = 0
    while True:
        try:
            report = simulate(history(seed))
        except BrokenPromise as broken:
            print(broken)
            print(f"again: python tests/simulation/run.py --seconds 0 --seed {seed}")
            return 1
        simulated_s += report.simulated_s
        lives, jobs, checked = lives + report.lives, jobs + report.jobs, checked + report.checked
        kills, power_cuts = kills + report.kills, power_cuts + report.power_cuts
        stops += report.stops
        seed += 1
        if time.monotonic() >= until_s:
            break
    print(
        f"seeds {first} to {seed - 1}: {simulated_s / 86400:.1f} simulated days, {jobs} jobs, {lives} lives, "
        f"{kills} kills, {power_cuts} power cuts, {stops} orderly stops, {checked} promises checked, none broken"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
