"""Memory of store, sampler and augmentation over many epochs, as the system sees it.

tracemalloc does not see torch's tensors.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

EPOCHS = 20
BATCH_MB = 16 * 4 * 3 * 64 * 32 * 4 / 2**20  # P x K pictures of 64 x 32 as float32: 1.5
LOOP = """
import ctypes, gc, json, sys
import numpy as np, torch
from PIL import Image
from pathlib import Path
from dkdmpl_kit.data import ImageStore, augment, pk_batches

torch.set_num_threads(1)
folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
paths = [folder / f"{i}.png" for i in range(96)]
for path in paths:
    Image.fromarray(rng.integers(0, 256, (64, 32, 3), dtype=np.uint8)).save(path)
labels = np.arange(96) // 6
camids = np.arange(96) % 3

def resident():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

def growth(store, leak):
    generator = torch.Generator().manual_seed(0)
    kept = []
    for epoch in range(int(sys.argv[2]) + 5):
        if epoch == 5:  # what is claimed once is claimed by now
            before = resident()
        batches = pk_batches(labels, camids, clusters_per_batch=16, images_per_cluster=4,
                             iterations=3, generator=generator)
        for indices in batches:
            batch = augment(store.batch(indices), generator)
        if leak:
            kept.append(batch)
    return resident() - before

held = ImageStore(paths, 64, 32, progress=False)
mapped = ImageStore(paths, 64, 32, progress=False, memory_limit_mb=0, cache_dir=folder)
print(json.dumps([growth(held, False), growth(mapped, False), growth(held, True)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_memory_does_not_grow_with_epochs_where_one_leaked_batch_an_epoch_would_show(
    tmp_path,
):
    done = subprocess.run(
        [sys.executable, "-c", LOOP, str(tmp_path), str(EPOCHS)],
        capture_output=True,
        text=True,
        check=True,
    )
    held, mapped, leaking = json.loads(done.stdout)
    bound = EPOCHS * BATCH_MB / 3  # 10 MB
    assert leaking > 2 * bound, "the measurement sees a leak"
    assert held < bound and mapped < bound
