"""Speed and memory of the kit, measured as ratios within one run: `python -m
benchmarks`.
"""
