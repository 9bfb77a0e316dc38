"""The checks of the notebooks' exercises, a module a notebook: `checks(...)` takes what the
notebook has and returns its `check(number, answer)` (`lessons.exercises`).

They stand here because they hold the answers.
"""
