"""Speed and memory of the kit, as ratios within one run: `python -m benchmarks`."""
