"""The rows of a table as text: CSV, JSON lines and Parquet, read column by column."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from dkdmpl_kit.data.files import printable, why_no_file
from dkdmpl_kit.errors import KitError

ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet")
DELIMITERS = (",", ";", "\t")
# what stands for nothing, as pandas and spreadsheets write it
EMPTY = frozenset(
    ("", "nan", "NaN", "NA", "N/A", "n/a", "<NA>", "#N/A", "null", "NULL", "None")
)
LONGEST = 4096  # letters of a cell that is read: no path or name is longer
FRACTION = re.compile(r"(-?\d+)\.0+")


@dataclass(frozen=True)
class Rows:
    """What a table says: the names of its `columns`, the number of each row as an editor
    or a spreadsheet counts them (a CSV's header is row 1), and each column's cells.
    """

    source: Path
    columns: tuple[str, ...]
    numbers: tuple[int, ...]
    cells: tuple[Sequence[object], ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def place(self, index: int) -> str:
        """How a message calls the row at `index`."""
        return f"row {self.numbers[index]} of {printable(self.source.name)}"

    def texts(self, column: str) -> list[str | None]:
        """The cells of a column as text, None where they are empty.

        Whole numbers lose the ".0" that tables give them where other cells are empty.
        KitError for what is not text or a number.
        """
        cells = self.cells[self.columns.index(column)]
        found = [self._text(index, column, cell) for index, cell in enumerate(cells)]
        known = [text for text in found if text is not None]
        whole = [FRACTION.fullmatch(text) or text.lstrip("-").isdecimal() for text in known]
        if known and all(whole):
            return [text and FRACTION.sub(r"\1", text) for text in found]
        return found

    def lists(self, column: str) -> list[str | Sequence[object] | None]:
        """As `texts`, and a cell that is a list as it is."""
        cells = self.cells[self.columns.index(column)]
        return [
            cell if isinstance(cell, (list, tuple)) else self._text(index, column, cell)
            for index, cell in enumerate(cells)
        ]

    def _text(self, index: int, column: str, cell: object) -> str | None:
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return None
        if not isinstance(cell, (str, int, float)):
            raise KitError(
                f"{self.place(index)} holds no text or number in {column!r}, but a "
                f"{type(cell).__name__}; pictures are read from files that a table names."
            )
        text = str(cell).strip()
        if len(text) > LONGEST:
            raise KitError(
                f"{self.place(index)} has {len(text):,} letters in {column!r}, more than "
                f"the {LONGEST:,} of any path or name; check the table's quotes."
            )
        return None if text in EMPTY else text


def read_rows(source: Path) -> Rows:
    """Read a table by its ending: .csv, .tsv and .txt (delimited by , or ; or tab), .jsonl
    and .ndjson (an object a line), .parquet.

    Rows without any content are left out. KitError: another ending, no file, text that is
    not UTF-8 (or UTF-16 with its mark), rows of another length than the header.
    """
    ending = source.suffix.lower()
    if ending not in ENDINGS:
        raise KitError(
            f"table {printable(source)} must end in {', '.join(ENDINGS[:-1])} or "
            f"{ENDINGS[-1]}."
        )
    if why := why_no_file(source):
        raise KitError(f"table {printable(source)} cannot be read: {why}.")
    if ending == ".parquet":
        return _parquet(source)
    return _json_lines(source) if ending in (".jsonl", ".ndjson") else _delimited(source)


def _content(source: Path) -> str:
    try:
        data = source.read_bytes()
    except OSError as error:
        raise KitError(
            f"table {printable(source)} cannot be read: {error.strerror}."
        ) from error
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise KitError(
            f"table {printable(source)} is not UTF-8 text (byte {error.start:,}): save it "
            "as CSV in UTF-8."
        ) from error


@contextlib.contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """Outlines of animals, in columns that are not read, pass the limit of Python."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _parsed(text: str, delimiter: str, source: Path) -> list[list[str]]:
    """All rows; a blank line is an empty row."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        skipinitialspace=True,
        strict=True,
    )
    rows = []
    try:
        with _cells_of_any_length():
            rows.extend(reader)
    except csv.Error as error:
        raise KitError(
            f"row {len(rows) + 1} of {printable(source.name)} cannot be read ({error}); "
            "check its quotes."
        ) from error
    return rows


def _delimited(source: Path) -> Rows:
    text = _content(source)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=lambda letter: _outside_quotes(first, letter))
    parsed = _parsed(text, delimiter, source)
    rows = [(number, row) for number, row in enumerate(parsed, 1) if any(map(str.strip, row))]
    if not rows:
        raise KitError(f"table {printable(source)} is empty: it needs a header and rows.")
    header = [name.strip() for name in rows[0][1]]
    while header and not header[-1]:
        header.pop()
    for number, row in rows[1:]:
        if len(row) < len(header) or any(map(str.strip, row[len(header) :])):
            raise KitError(
                f"row {number} of {printable(source.name)} has {len(row)} cells, and the "
                f"header {len(header)}; write one a column, in quotes where it holds "
                f"{delimiter!r}."
            )
    columns = _named(source, header)
    cells = tuple([row[place] for _, row in rows[1:]] for place in range(len(header)))
    return Rows(source, columns, tuple(number for number, _ in rows[1:]), cells)


def _outside_quotes(line: str, letter: str) -> int:
    return re.sub(r'"[^"]*"', "", line).count(letter)


def _named(source: Path, header: Sequence[str]) -> tuple[str, ...]:
    """The header with a name for each column; KitError for one name twice."""
    columns = tuple(name or f"column {place}" for place, name in enumerate(header, 1))
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise KitError(
            f"table {printable(source)} has the column {printable(twice[0])!r} twice: "
            "rename one."
        )
    return columns


def _json_lines(source: Path) -> Rows:
    records = []
    for number, line in enumerate(_content(source).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise KitError(
                f"row {number} of {printable(source.name)} is not valid JSON ({error})."
            ) from error
        if not isinstance(record, dict):
            raise KitError(
                f"row {number} of {printable(source.name)} is not an object such as "
                '{"path": "a.jpg", "camera": 3}.'
            )
        records.append((number, record))
    columns = tuple(dict.fromkeys(name for _, record in records for name in record))
    cells = tuple([record.get(name) for _, record in records] for name in columns)
    return Rows(source, columns, tuple(number for number, _ in records), cells)


class _Column(Sequence):
    """A column of a Parquet file, read when it is asked for."""

    def __init__(self, source: Path, file, name: str) -> None:
        self._source, self._file, self._name = source, file, name
        self._length = file.metadata.num_rows
        self._values: list[object] | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index):
        if self._values is None:
            try:
                self._values = self._file.read(columns=[self._name])[0].to_pylist()
            except Exception as error:
                raise _damaged(self._source, error) from error
        return self._values[index]


def _damaged(source: Path, error: Exception) -> KitError:
    what = " ".join(str(error).split())[:200]
    return KitError(f"table {printable(source)} cannot be read: {what}")


def pyarrow_for(path: str | Path, instead: str) -> ModuleType:
    """The package that reads and writes .parquet; KitError, which says what to do `instead`,
    where it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise KitError(
            f"{printable(path)} needs pyarrow, which is not installed: pip install pyarrow, "
            f"or {instead}."
        ) from error
    return pyarrow


def check_target(path: str | Path, endings: Sequence[str]) -> None:
    """KitError, before the work, unless a table may be written to a file of this name.

    endings: what it may end in, the one that needs no package first.
    """
    if Path(path).suffix not in endings:
        raise KitError(f"{printable(path)} must end in {' or '.join(endings)}.")
    if Path(path).suffix == ".parquet":
        pyarrow_for(path, f"take a name that ends in {endings[0]}")
    if Path(path).is_dir():
        raise KitError(f"{printable(path)} is a folder: give the name of a file.")


def _parquet(source: Path) -> Rows:
    parquet = pyarrow_for(source, "save the table as CSV").parquet
    try:
        file = parquet.ParquetFile(source)
    except Exception as error:  # its reader has many kinds for what is no Parquet file
        raise _damaged(source, error) from error
    length = file.metadata.num_rows
    columns = _named(source, file.schema_arrow.names)
    cells = tuple(_Column(source, file, name) for name in file.schema_arrow.names)
    return Rows(source, columns, tuple(range(1, length + 1)), cells)
