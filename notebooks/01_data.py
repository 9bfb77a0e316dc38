# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Data: what a camera does to a person
#
# **You will learn**
#
# - what a re-ID data set consists of, and how to read your own folder;
# - how batches are drawn, and what augmentation does;
# - what makes two pictures of one person differ, and how much of it is the camera.
#
# **Time** on 2 CPU cores: a minute. **Reads** the data set and the untrained features.
# **Writes** to `out_dir`: `data/own-crops`, figures, and numbers in `metrics/01_data`.

# %% tags=["parameters"]
preset = "demo"
data = "synthetic"
data_root = ""
table = ""
pattern = ""
settings = ""
seed = 0
device = "cpu"
out_dir = "../runs/demo"
interactive = True

# %%
import re
import shutil

import numpy as np
import torch
from IPython.display import Markdown

from dkdmpl_kit import viz
from dkdmpl_kit.data import augment, pk_batches, read_dataset
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import distance_groups
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.noise import pair_factors
from dkdmpl_kit.viz.style import CYCLE

stage = Stage("01_data", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## 1. Three splits
#
# The **train** pictures are clustered and learnt from. **Query** and **gallery** show
# *other* people, for the test. Each picture has a file, an
# [identity](course/glossary.md#identity) (`pid`, never seen by training) and a camera
# (`camid`, from 0 in memory, from 1 in file names).

# %%
cameras = np.unique(stage.camids) if stage.has_cameras else np.array([0])
camera_of = stage.camids if stage.has_cameras else np.zeros(len(stage.paths), dtype=int)
fig = viz.contact_sheet(stage.pictures().pixels, rows=stage.pids if stage.has_truth else None,
                        columns=stage.camids if stage.has_cameras else None, max_rows=7,
                        per_cell=max(1, min(3, 12 // len(cameras))))
seen = f"{len(np.unique(stage.pids))} identities" if stage.has_truth else "an unknown number of people"
stage.show(fig, "01_contact_sheet", f"{len(stage.paths)} training pictures of {seen}: a row is one person where identities "
           "are known, a column one camera where cameras are known.")

# %% [markdown]
# ## 2. What a camera does
#
# The mean of all pictures of one camera washes the people out and keeps what the pictures
# share: **[camera shift](course/glossary.md#camera-shift)**, if the cameras saw the same
# people.
#
# **Predict:** what would the mean pictures look like if all cameras were equal?

# %%
means = np.stack([stage.pictures().batch(np.flatnonzero(camera_of == c)).float().mean(0).numpy() for c in cameras])
colours = means.mean(axis=(2, 3))  # (cameras, 3): mean red, green and blue, 0 to 255
brightness = colours.mean(axis=1)
fig = viz.contact_sheet(means.round().astype(np.uint8), rows=np.full(len(cameras), "mean"), columns=cameras,
                        row_name="the", column_name="camera" if stage.has_cameras else "all", max_columns=20,
                        title="Mean pictures: what stays when the people are washed out")
stage.show(fig, "01_mean_pictures", f"The mean of all pictures of each camera ({len(cameras)} in all).")

# %%
if len(cameras) > 1:
    dark, light = cameras[brightness.argmin()] + 1, cameras[brightness.argmax()] + 1
    stage.say("cameras", f"**Answer.** Equal cameras would give equal pictures. Here camera {dark} is the darkest "
              f"({brightness.min():.0f} of 255) and camera {light} the lightest ({brightness.max():.0f}).",
              brightness=[float(b) for b in brightness], names=[int(c) + 1 for c in cameras])

# %% [markdown]
# ## 3. Augmentation
#
# In each [batch](course/glossary.md#batch) a picture is
# [augmented](course/glossary.md#augmentation): mirrored with probability `flip`, shifted,
# and painted over with probability `erasing`.
#
# **Predict:** may a box hide the person's shirt?

# %%
config = stage.config
original = stage.pictures().batch([0])
eight = augment(original.repeat(8, 1, 1, 1), torch.Generator().manual_seed(seed), flip=config.flip,
                padding=config.padding, erasing=config.erasing)
both = torch.cat([original, (eight * 255).round().to(torch.uint8)])
fig = viz.contact_sheet(both, rows=np.zeros(9, int), row_name="picture", frames=["black"] + [None] * 8, max_columns=9,
                        title="One picture (framed) and eight of its augmentations")
stage.show(fig, "01_augmentation", f"One picture and eight of its augmentations; the chance of a box is {config.erasing:.0%}.")

# %% [markdown]
# It may: the encoder cannot rely on the shirt alone.
#
# ## 4. Your own folder
#
# Any folder of crops can be read. If names tell person and camera, give a **regular
# expression** with the named groups `pid` and `camid`. Folders `train`, `query` and
# `gallery` make the splits:

# %%
own = stage.out_dir / "data" / "own-crops"
shutil.rmtree(own, ignore_errors=True)
own.mkdir(parents=True)
visitors = stage.pids if stage.has_truth else np.arange(len(stage.paths)) // 3  # made up where nobody knows
for i in np.flatnonzero(np.isin(visitors, np.unique(visitors)[:3])):
    name = f"visitor{visitors[i]:04d}_gate{camera_of[i] + 1}_{i:03d}{stage.paths[i].suffix}"
    shutil.copy(stage.paths[i], own / name)
print(name)
print(read_dataset("folder", own, pattern=r"visitor(?P<pid>\d+)_gate(?P<camid>\d+)").summary())

# %% [markdown]
# What does not fit stops with one sentence: what, where, what to do.

# %%
for root, regex in ((own, r"person(?P<pid>\d+)"), (own / "not-there", None), (own, r"visitor(\d+)")):
    try:
        read_dataset("folder", root, pattern=regex)
    except KitError as error:
        print("KitError:", str(error).replace(str(stage.out_dir), "OUT_DIR"), "\n")

# %% [markdown]
# ## 5. Batches
#
# The losses compare a picture with its own cluster and with others: a batch holds
# `batch_clusters` clusters with `batch_images` images each (a smaller cluster repeats
# some). The [sampler](course/glossary.md#sampler) `random` takes any images of the
# cluster; `camera` takes one, and the others from *other* cameras where it can. It
# reads camera ids: a result should name it.
#
# **Predict:** from how many cameras come a cluster's images, with each sampler?

# %%
stage.require("clusters")

# %%
features = stage.features()
pseudo = stage.cluster(features)
drawn = {}
for sampler in ("camera", "random") if stage.has_cameras else ("random",):
    batches = pk_batches(pseudo.labels, stage.camids, clusters_per_batch=config.batch_clusters, sampler=sampler,
                         images_per_cluster=config.batch_images, iterations=20, generator=torch.Generator().manual_seed(seed))
    drawn[sampler] = np.concatenate([batch.reshape(-1, config.batch_images) for batch in batches])  # a row a cluster
shown = {sampler: rows[:3, :6] for sampler, rows in drawn.items()}  # one generator: the same clusters
chosen, each = np.concatenate([rows.ravel() for rows in shown.values()]), shown["random"].shape[1]
fig = viz.contact_sheet(stage.pictures().batch(chosen), rows=pseudo.labels[chosen], row_name="cluster",
                        columns=np.repeat(list(shown), [rows.size for rows in shown.values()]), column_name="sampler", per_cell=each, max_columns=2 * each,
                        frames=[CYCLE[c % len(CYCLE)] if c >= 0 else None for c in stage.camids[chosen]],
                        title="The same clusters, drawn by each sampler: a frame's colour is the camera")
stage.show(fig, "01_batches", f"Three clusters of a batch; a batch has {config.batch_clusters} clusters x {config.batch_images} images.")

# %%
if stage.has_cameras:
    counts = {name: float(np.mean([len(np.unique(stage.camids[row])) for row in rows])) for name, rows in drawn.items()}
    order = "more" if counts["camera"] > counts["random"] else "not more"
    stage.say("samplers", f"**Answer.** `camera` shows {order} cameras in a row than `random`: {counts['camera']:.2f} against "
              f"{counts['random']:.2f} on average.", **counts)

# %% [markdown]
# In a row of several colours the loss sees one cluster under several cameras.

# %% [markdown]
# ## 6. Why do pictures of one person differ?
#
# Of rendered pictures the kit knows what made them:

# %%
stage.require("truth", "cameras")

# %%
factors = stage.factors()
groups = {"id_": "person", "cam_": "camera", "pic_": "picture"} if factors else {}
lines = [f"| {name} | " + " · ".join(f"{key.removeprefix(prefix)} {value}" for key, value in factors[0].items()
         if key.startswith(prefix) and not key.endswith("rgb")).replace("_", " ") + " |" for prefix, name in groups.items()]
Markdown("\n".join(["| belongs to the | factors of the first picture |", "|---|---|", *lines]) if factors
         else "*These are photographs: nobody knows what made each of them.*")

# %% [markdown]
# Compare the **same person** under two cameras, which should be near, with two
# **strangers** under one camera: by pixels (root mean square difference: grey levels 0.2
# and 0.5 are 0.3 apart), and by features, $1 - v_i^\top v_j$, where $v_i$ is the
# [feature](course/glossary.md#feature) of picture $i$.
#
# **Predict:** which pairs are nearer, by pixels and by untrained features?

# %%
some = np.flatnonzero(np.isin(stage.pids, np.unique(stage.pids)[:200]))[:1200]  # enough pairs, little memory
small = torch.nn.functional.adaptive_avg_pool2d(stage.pictures().batch(some).float() / 255, (32, 16)).flatten(1)
by_pixels = (torch.cdist(small, small) / small.shape[1] ** 0.5).numpy()  # root mean square difference, 0 to 1
by_features = 1 - features[some] @ features[some].T  # 1 - v_i . v_j
pids, camids = stage.pids[some], stage.camids[some]
same_person, same_camera = pids[:, None] == pids, camids[:, None] == camids
kinds = {"same person, other camera": same_person & ~same_camera, "strangers, same camera": ~same_person & same_camera}
once = np.where(np.triu(np.ones_like(same_person), 1), by_features, np.nan)  # each pair once
_, friends, strangers = parts = distance_groups(once, pids, pids, camids, camids)
caption = "Where the two curves overlap, wrong pictures come before right ones."
if len(friends) and len(strangers):
    first = 1 - np.searchsorted(np.sort(strangers), friends).mean() / len(strangers)
    caption += f" A pair of one person under two cameras is nearer than a pair of strangers in {first:.0%} of the comparisons."
stage.show(viz.distance_histograms(*parts), "01_distances", caption)

# %%
if all(pairs.any() for pairs in kinds.values()):
    friend, stranger = ([float(d[pairs].mean()) for d in (by_pixels, by_features)] for pairs in kinds.values())
    words = ["nearer" if a < b else "not nearer" for a, b in zip(friend, stranger)]
    stage.say("nearer", f"**Answer.** By pixels, the same person under another camera is **{words[0]}** than a stranger under the "
              f"same camera ({friend[0]:.3f} against {stranger[0]:.3f}). By features it is **{words[1]}** ({friend[1]:.3f} "
              f"against {stranger[1]:.3f}).", friend=friend, stranger=stranger)

# %% [markdown]
# **Predict:** what separates two pictures of one person most: another camera, another
# view (front, side, back), or something in front of one of them?

# %%
i, j = np.nonzero(np.triu(same_person, 1))
holds = pair_factors(i, j, camids, [factors[k] for k in some] if factors else None)
differs = {"another camera": ~holds["same camera"]}
if factors:
    differs |= {"another view": ~holds["same view"], "something in front of one": holds["one occluded"]}
apart = by_features[i, j]
costs = {name: float(apart[yes].mean() - apart[~yes].mean()) for name, yes in differs.items() if yes.any() and not yes.all()}
if costs:
    most = max(costs, key=costs.get)
    listed = ", ".join(f"{name} {cost:+.3f}" for name, cost in costs.items())
    verdict = f"*{most}* separates them most" if costs[most] > 0 else "nothing separates them"
    stage.say("separates", f"**Answer.** The mean distance of two pictures of one person changes by: {listed}. Of what is known "
              f"here, {verdict}.", costs=costs)

# %% [markdown]
# ## Take home
#
# - Training sees files and cameras; identities only measure.
# - A camera leaves a mark on its pictures, which can be measured.
# - A batch holds some images of each of some clusters; name a sampler that reads
#   cameras.
# - Augmentation hides what the encoder could rely on too easily.
# - What separates pictures of one person most is a question to the data.
#
# ## Exercises

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.checks import data as data_checks

check = data_checks.checks(cameras, colours, camids, small, kinds["same person, other camera"])

# %% [markdown]
# **1.** Which two cameras differ most in their mean colour? `colours` holds a row of mean
# red, green and blue for each of `cameras`; take the Euclidean distance of rows.

# %% tags=["solution"]
# answer_1: two entries of `cameras`, in any order
answer_1 = None
gap = np.linalg.norm(colours[:, None] - colours, axis=2)
if len(cameras) > 1:
    answer_1 = cameras[list(np.unravel_index(gap.argmax(), gap.shape))]
    print(f"Cameras {answer_1[0] + 1} and {answer_1[1] + 1} (counted from 1): {gap.max():.0f} grey levels apart.")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2.** Subtract each camera's mean colour from the small versions of its pictures.
# What is then the mean pixel distance of *same person, other camera*? (`small` (n,
# 3·32·16) holds values 0 to 1: all red ones, then green, then blue; `colours` goes to
# 255.)

# %% tags=["solution"]
# answer_2: one number, the mean distance after balancing
answer_2 = None
planes = small.reshape(len(some), 3, -1)  # (pictures, colours, pixels)
shift = torch.tensor(colours[np.searchsorted(cameras, camids)] / 255, dtype=torch.float32)[:, :, None]
balanced = (planes - shift).flatten(1)
after = (torch.cdist(balanced, balanced) / balanced.shape[1] ** 0.5).numpy()
for name, pairs in kinds.items():
    if pairs.any():
        print(f"{name}: before {by_pixels[pairs].mean():.3f}, after {after[pairs].mean():.3f}")
if kinds["same person, other camera"].any():
    answer_2 = after[kinds["same person, other camera"]].mean()
# Strangers under one camera keep their distance: the same colour is subtracted from both pictures.

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3.** Files are called `c03-P0042-frame7.jpg`: camera 3, person 42. Write the pattern,
# and try it with `re.search`.

# %% tags=["solution"]
# answer_3: a regular expression (text) with the named groups pid and camid
answer_3 = r"c(?P<camid>\d+)-P(?P<pid>\d+)-"
print(re.search(answer_3, "c03-P0042-frame7.jpg").groupdict())

# %% tags=["check"]
check(3, answer_3)

# %%
stage.write_metrics(
    {"camera_brightness_deviation": float(brightness.std()),
     **{f"cost_of_{name.replace(' ', '_')}": cost for name, cost in costs.items()},
     **{f"cameras_per_cluster_{sampler}": count for sampler, count in counts.items()}})
print("Done. Next: 02_clustering.ipynb.")
