"""Results of many runs: collect their files, put them in rows, compare rows with the
seeds paired.
"""

from dkdmpl_kit.studies.results.measures import (
    MEASURES,
    Spread,
    differences,
    interval_text,
    spread,
    spreads,
)
from dkdmpl_kit.studies.results.rows import (
    DEFAULTS,
    Row,
    baseline_of,
    by_data,
    by_method,
    by_row,
    contradiction,
    data_label,
    method_of,
    rows_of,
)
from dkdmpl_kit.studies.results.runs import collect_runs, published, read_run
from dkdmpl_kit.studies.results.summaries import (
    markdown_table,
    markdown_tables,
    paired_differences,
    summary,
)

__all__ = [
    "baseline_of",
    "by_data",
    "by_method",
    "by_row",
    "collect_runs",
    "contradiction",
    "data_label",
    "DEFAULTS",
    "differences",
    "interval_text",
    "markdown_table",
    "markdown_tables",
    "MEASURES",
    "method_of",
    "paired_differences",
    "published",
    "read_run",
    "Row",
    "rows_of",
    "spread",
    "Spread",
    "spreads",
    "summary",
]
