"""What is made of many runs: grids of papermill runs, the label-noise study,
comparisons, reports.
"""
