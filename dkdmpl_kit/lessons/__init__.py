"""What the notebooks use: the stage, exercises and their checks, replays of runs,
handouts, the lab.
"""
