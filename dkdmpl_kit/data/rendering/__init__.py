"""The embedded pictures: persons and vehicles, drawn on first use."""
