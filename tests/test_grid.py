"""Grid files: every combination of the axes, and the cells beside them."""
from __future__ import annotations

import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.grid import read_grid


def test_cells_beside_the_axes_are_repeated_for_the_axes_they_do_not_name(tmp_path):
    path = tmp_path / "grid.yml"
    path.write_text("preset: smoke\naxes: {seed: [0, 1], method: [gkd, skd]}\n"
                    "also:\n  - {method: cluster_contrast, memory_update: mean}\n")
    configs = read_grid(path, tmp_path)
    assert [c.name for c in configs] == ["gkd-seed0", "skd-seed0", "gkd-seed1", "skd-seed1", *(
        f"memory_update=mean-cluster_contrast-seed{seed}" for seed in (0, 1))]
    assert [c.memory_update for c in configs] == ["instance"] * 4 + ["mean"] * 2
    path.write_text("axes: {seed: [0]}\nalso: [{method: magic}]\n")
    with pytest.raises(KitError, match="cluster_contrast"):
        read_grid(path, tmp_path)
