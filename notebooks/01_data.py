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
# - what a re-ID data set consists of, and what made each of the rendered pictures;
# - how much a camera changes its pictures, compared with how different people are;
# - how batches are drawn (P clusters x K images), what augmentation does, and how to
#   read a folder of your own.
#
# **Time** on 2 CPU cores: about a minute. **Reads** the data set (rendered under
# `out_dir/data` where it is missing) and the untrained features, if notebook 00 left
# them. **Writes** a small example folder `out_dir/data/own-crops`, pictures to
# `out_dir/figures`, numbers to `out_dir/metrics/01_data`.

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
import shutil

import numpy as np
import torch
from IPython.display import Markdown, display

from dkdmpl_kit import viz
from dkdmpl_kit.data import augment, pk_batches, read_dataset
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import distance_groups
from dkdmpl_kit.lessons.stage import Stage

stage = Stage("01_data", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## 1. Three splits
#
# The **train** pictures are clustered and learnt from. **Query** and **gallery** show
# *other* people and are only for the test. Each picture has a file, an
# [identity](course/glossary.md#identity) (`pid`) and a camera (`camid`, from 0 in
# memory, from 1 in file names). A `-` in the table means unknown. Training receives
# only what `unlabelled()` returns: files and cameras.

# %%
images = stage.dataset.unlabelled()
per_identity = np.unique(stage.pids, return_counts=True)[1]
print(f"{len(images)} pictures to train on; the trainer sees: {', '.join(vars(type(images))['__annotations__'])}.")
if stage.has_truth:
    print(f"Behind them are {len(per_identity)} identities with {per_identity.min()} to {per_identity.max()} pictures each "
          f"(median {np.median(per_identity):.0f}).")
else:
    print("Nobody has told us the identities of the training pictures: all that needs them is left out below.")
if not stage.has_cameras:
    print("The cameras are not known either: use settings='sampler=random', and skip what follows about cameras.")

# %%
columns = stage.camids if stage.has_cameras else None
side_by_side = max(1, min(3, 12 // max(len(np.unique(stage.camids)), 1)))
fig = viz.contact_sheet(stage.pictures().pixels, rows=stage.pids if stage.has_truth else None, columns=columns,
                        max_rows=7, per_cell=side_by_side)
stage.save_figure(fig, "01_contact_sheet", caption="Identities by cameras.")
fig

# %% [markdown]
# ## 2. What made a picture
#
# The rendered pictures come with a manifest of every factor that made them. Factors of
# the **identity** stay the same in all of its pictures, factors of the **camera** in
# all pictures of that camera; factors of the **picture** belong to this one. An encoder
# for [re-ID](course/glossary.md#re-identification) should depend on the first only, but
# nobody tells it which is which.

# %%
factors = stage.factors()
if factors is None:
    table = "*These are photographs: there is no manifest, and nobody knows what made each picture.*"
else:
    one = factors[0]
    groups = {"id_": "identity", "cam_": "camera", "pic_": "picture"}
    told = {name: [f"{key.removeprefix(prefix)} {value}" for key, value in one.items()
                   if key.startswith(prefix) and not key.endswith("rgb")] for prefix, name in groups.items()}
    table = "\n".join(["| belongs to the | factors of the first training picture |", "|---|---|",
                       *(f"| {name} | {' · '.join(found).replace('_', ' ')} |" for name, found in told.items())])
Markdown(table)

# %% [markdown]
# ## 3. What a camera does
#
# The mean of all pictures of one camera removes the differences between people and
# keeps what the pictures share.
#
# **Predict:** if all cameras had the same quality and place, what would their mean
# pictures look like?

# %%
cameras = np.unique(stage.camids) if stage.has_cameras else np.array([0])
camera_of = stage.camids if stage.has_cameras else np.zeros(len(stage.paths), dtype=int)
means = np.stack([stage.pictures().batch(np.flatnonzero(camera_of == c)).float().mean(0).numpy() for c in cameras])
fig = viz.contact_sheet(means.round().astype(np.uint8), rows=np.full(len(cameras), "mean"), columns=cameras,
                        row_name="the", column_name="camera" if stage.has_cameras else "all", max_columns=20,
                        title="Mean pictures: what stays when the people are washed out")
stage.save_figure(fig, "01_mean_pictures", caption="Mean picture of each camera.")
fig

# %%
colours = means.mean(axis=(2, 3))  # (cameras, 3): mean red, green, blue, 0 to 255
names = [f"{camera + 1}" for camera in cameras] if stage.has_cameras else ["all pictures"]
lines = [f"| {name} | {(camera_of == camera).sum()} | {r:.0f} | {g:.0f} | {b:.0f} | {(r + g + b) / 3:.0f} |"
         for name, camera, (r, g, b) in zip(names, cameras, colours)]
between = colours.mean(axis=1).std()
if stage.has_cameras:
    print(f"Mean brightness differs between the cameras by {between:.1f} of 255 grey levels (standard deviation).")
Markdown("\n".join(["| camera | pictures | red | green | blue | brightness |", "|---|---|---|---|---|---|", *lines]))

# %% [markdown]
# Where the cameras saw the same people, these differences come from the camera (gain,
# cast, background, blur). This is **[camera shift](course/glossary.md#camera-shift)**.
#
# ## 4. Camera shift against identity
#
# Is it large? Compare two kinds of pairs:
#
# - the **same person** under two cameras: should be near;
# - **two different people** under one camera: should be far.
#
# Once by raw pixels (root mean square difference of small versions), once by features
# (distance $1 - v_i^\top v_j$).
#
# **Predict:** which kind of pairs is nearer, by pixels and by untrained features?

# %%
features = stage.features()
chosen = np.flatnonzero(np.isin(stage.pids, np.unique(stage.pids)[:200]))[:1200]  # enough pairs, little memory
small = torch.nn.functional.adaptive_avg_pool2d(stage.pictures().batch(chosen).float() / 255, (32, 16)).flatten(1)
by_pixels = (torch.cdist(small, small) / small.shape[1] ** 0.5).numpy()  # root mean square difference, 0 to 1
by_features = 1 - features[chosen] @ features[chosen].T  # 1 - v_i . v_j
pids, camids = stage.pids[chosen], stage.camids[chosen]
same_person, same_camera = pids[:, None] == pids, camids[:, None] == camids
apart = ~np.eye(len(chosen), dtype=bool)  # no picture with itself
kinds = {"same person, same camera": same_person & same_camera & apart,
         "same person, other camera": same_person & ~same_camera,
         "strangers, same camera": ~same_person & same_camera,
         "strangers, other camera": ~same_person & ~same_camera}
means_of = {name: (by_pixels[pairs].mean(), by_features[pairs].mean(), int(pairs.sum()) // 2)
            for name, pairs in kinds.items() if pairs.any()}
lines = [f"| {name} | {p:.3f} | {f:.3f} | {n:,} |" for name, (p, f, n) in means_of.items()]
can_compare = stage.has_truth and stage.has_cameras
table = "\n".join(["| pairs | pixel distance | feature distance | pairs |", "|---|---|---|---|", *lines])
Markdown(table if can_compare else "*Identities or cameras are unknown here, so these pairs cannot be told apart.*")

# %%
ratios = {}
if can_compare and {"same person, other camera", "strangers, same camera"} <= set(means_of):
    for position, what in enumerate(("pixels", "untrained features")):
        friend, stranger = (means_of[k][position] for k in ("same person, other camera", "strangers, same camera"))
        ratios[what] = float(friend / stranger)
        verdict = "FARTHER than" if friend > stranger else "nearer than"
        print(f"By {what}, the same person under another camera is on average {verdict} a stranger under the same camera "
              f"(distance {friend:.3f} against {stranger:.3f}).")
else:
    print("The comparison needs people who were seen by two cameras.")

# %% [markdown]
# Those were means; here are all pairs. For a ranking to work, the curve of *same
# identity, other camera* must lie to the left of *different identities*. The more they
# overlap, the more wrong pictures rank before right ones.

# %%
nothing = (None, None, None)
once = np.triu(apart)  # each pair once
pairs = distance_groups(np.where(once, by_features, np.nan), pids, pids, camids, camids) if can_compare else nothing
fig = viz.distance_histograms(*pairs)
stage.save_figure(fig, "01_distances", caption="Distances of untrained features, by kind of pair.")
fig

# %% [markdown]
# The stronger the camera shift, the more *systematic* the errors of
# [pseudo labels](course/glossary.md#pseudo-label): clusters become "people under camera
# 3" rather than "this person". Notebook 02 counts how often.
#
# ## 5. Batches: P clusters x K images
#
# The losses compare a picture with its own cluster and with others, so a
# [batch](course/glossary.md#batch) holds **P** clusters with **K** images of each.
# There are two [samplers](course/glossary.md#sampler).
#
# - `random` takes any K images of the cluster;
# - `camera` takes one image, and the others from *other cameras* where the cluster has
#   any, as published code of Cluster Contrast does. It reads camera ids, so a result
#   should say which sampler it used.
#
# **Predict:** how many different cameras will the K images of a cluster come from, with
# each sampler?

# %%
config = stage.config
pseudo = stage.cluster(features)
frames = [viz.PALETTE[c] for c in ("blue", "orange", "green", "vermillion", "purple", "sky", "black", "yellow")]
batches, camera_counts = {}, {}
for sampler in ("random", "camera"):
    if sampler == "camera" and not stage.has_cameras:
        print("sampler='camera' needs camera ids, which are not known here.")
        continue
    try:
        drawn = list(pk_batches(pseudo.labels, stage.camids, clusters_per_batch=config.batch_clusters,
                                images_per_cluster=config.batch_images, iterations=20, sampler=sampler,
                                generator=torch.Generator().manual_seed(seed)))
    except KitError as error:
        print(error)
        continue
    groups = np.concatenate([batch.reshape(-1, config.batch_images) for batch in drawn])  # one row a cluster drawn
    batches[sampler] = drawn[0]
    camera_counts[sampler] = float(np.mean([len(np.unique(stage.camids[group])) for group in groups]))
    if stage.has_cameras:
        print(f"{sampler:>7}: the {config.batch_images} images of a cluster come from {camera_counts[sampler]:.2f} cameras on average.")

# %%
saved = []
for sampler, batch in batches.items():
    fig = viz.contact_sheet(stage.pictures().batch(batch), rows=pseudo.labels[batch], row_name="cluster", max_rows=6,
                            frames=[frames[c % len(frames)] if c >= 0 else None for c in stage.camids[batch]],
                            title=f"A batch of the sampler {sampler!r}: one row a cluster, frame colour is the camera")
    stage.save_figure(fig, f"01_batch_{sampler}", caption=f"A batch of the sampler {sampler!r}, framed by camera.")
    saved.append(f"01_batch_{sampler}")
    display(fig)

# %% [markdown]
# Count the colours in each row. A row of several colours shows the loss *the same
# cluster under different light*: from this an encoder can learn to ignore the camera.
# (If a row repeats a picture, the cluster had no other that the sampler may take:
# `camera` takes the others of a row from other cameras only, as long as there is one.)
#
# ## 6. Augmentation
#
# In each batch a picture looks different: mirrored with probability `flip`, shifted
# (padded and cropped), and with probability `erasing` a box is painted over. All
# numbers come from one random generator, so that a resumed run gives the same bits.

# %%
original = stage.pictures().batch([0])
eight = augment(original.repeat(8, 1, 1, 1), torch.Generator().manual_seed(seed), flip=config.flip,
                padding=config.padding, erasing=config.erasing)
both = torch.cat([original, (eight * 255).round().to(torch.uint8)])
fig = viz.contact_sheet(both, rows=np.zeros(9, int), row_name="picture", frames=["black"] + [None] * 8, max_columns=9,
                        title="One picture (framed) and eight of its augmentations")
stage.save_figure(fig, "01_augmentation", caption="One picture and eight augmentations.")
fig

# %% [markdown]
# ## 7. Your own folder
#
# Any folder of crops can be read. If file names (or folder names) tell person and
# camera, give a **regular expression** with the named groups `pid` and `camid`; leave
# out what you do not know. Folders named `train`, `query`, `gallery` or `test` make the
# splits; without them all pictures are for training.
#
# Here we make such a folder from a few pictures.

# %%
own = stage.out_dir / "data" / "own-crops"
shutil.rmtree(own, ignore_errors=True)
own.mkdir(parents=True)
visitors = stage.pids if stage.has_truth else np.arange(len(stage.paths)) // 3  # made-up numbers where none are known
for i in np.flatnonzero(np.isin(visitors, np.unique(visitors)[:3])):
    gate = camera_of[i] + 1
    shutil.copy(stage.paths[i], own / f"visitor{visitors[i]:04d}_gate{gate}_{i:03d}{stage.paths[i].suffix}")
print("\n".join(path.name for path in sorted(own.iterdir())[:3]), "\n...")

# %% [markdown]
# One line reads it; three more look at it and turn it into what training needs:

# %%
mine = read_dataset("folder", own, pattern=r"visitor(?P<pid>\d+)_gate(?P<camid>\d+)")
print(mine.summary())
print(mine.train[0])
print(f"Fingerprint of exactly these pictures and labels: {mine.fingerprint()}")
print(read_dataset("folder", own).summary())  # without a pattern: only the pictures are known

# %% [markdown]
# The same from the command line, and for any notebook:
#
# ```
# dkdmpl data check --data folder --data-root my/crops --pattern 'visitor(?P<pid>\d+)_gate(?P<camid>\d+)'
# dkdmpl train --data folder --data-root my/crops --pattern '...' --out-dir runs/mine
# dkdmpl notebooks run 02_clustering --out runs/mine -p data folder -p data_root my/crops -p pattern '...'
# ```
#
# If something does not fit, the kit stops with one sentence that says what, where, and
# what to do.

# %%
for root, regex in ((own, r"person(?P<pid>\d+)"), (own / "not-there", None), (own, r"visitor(\d+)")):
    try:
        read_dataset("folder", root, pattern=regex)
    except KitError as error:
        print("KitError:", str(error).replace(str(stage.out_dir), "OUT_DIR"), "\n")

# %% [markdown]
# ## Exercises
#
# Put each answer into the named variable; the cell below it says whether it is right,
# or why not. (The folded cell prepares the checks: it contains the answers.)

# %% jupyter={"source_hidden": true} tags=["check"]
import re

from dkdmpl_kit.lessons.exercises import exercises, value


def farthest_cameras(answer):
    between_all = {(a, b): float(np.linalg.norm(colours[i] - colours[j])) for i, a in enumerate(cameras.tolist())
                   for j, b in enumerate(cameras.tolist()) if a < b}
    pair = tuple(sorted(int(c) for c in answer))
    if pair not in between_all:
        return "give two different entries of `cameras`: they count from 0, file names and tables from 1."
    if np.isclose(between_all[pair], max(between_all.values())):
        return ""
    shifted = tuple(c - 1 for c in pair)
    if np.isclose(between_all.get(shifted, -1), max(between_all.values())):
        return "the right two, counted from 1; `cameras` counts from 0."
    return f"they are {between_all[pair]:.1f} grey levels apart, and another two differ more."


tests = {1: farthest_cameras if len(cameras) > 1 else None, 2: None}
if "same person, other camera" in means_of and can_compare:
    mean_of = torch.tensor(colours[np.searchsorted(cameras, camids)] / 255, dtype=torch.float32).repeat_interleave(32 * 16, dim=1)
    friends = kinds["same person, other camera"]
    apart_by = {name: float((torch.cdist(x, x) / small.shape[1] ** 0.5).numpy()[friends].mean())
                for name, x in (("right", small - mean_of), ("added", small + mean_of), ("levels", small - 255 * mean_of),
                                ("grey", small - mean_of.mean(dim=1, keepdim=True)),
                                ("mixed up", small - mean_of[:, :: 32 * 16].repeat(1, 32 * 16)))}
    tests[2] = value(apart_by["right"], mistakes={
        "it is the distance before: nothing was subtracted.": by_pixels[friends].mean(),
        "the mean colours were added; subtract them.": apart_by["added"],
        "the pictures in `small` go from 0 to 1, the mean colours from 0 to 255.": apart_by["levels"],
        "one mean for all three colours was subtracted; each colour has its own.": apart_by["grey"],
        "the colours are in the wrong places: in `small` stand all red values first, then all green, then all blue ones.":
            apart_by["mixed up"],
        "divide by the square root of the number of values, as section 4 does.": apart_by["right"] * small.shape[1] ** 0.5})

# %% jupyter={"source_hidden": true} tags=["check"]
def pattern_test(answer):
    for camera, person, frame in (("03", "0042", 7), ("11", "7", 123), ("1", "1501", 0)):
        name = f"c{camera}-P{person}-frame{frame}.jpg"
        found = re.search(answer, name)
        if not found:
            return f"it does not match {name}."
        if set(found.groupdict()) != {"pid", "camid"}:
            return "it must have exactly the named groups (?P<pid>...) and (?P<camid>...)."
        if found["pid"] != person or found["camid"] != camera:
            return f"in {name} it takes {found['pid']} for the identity and {found['camid']} for the camera."
    return ""


tests[3] = pattern_test
check = exercises(tests)

# %% [markdown]
# **1.** Which two cameras differ most in their mean colour? (`colours` holds a row of
# mean red, green and blue for each of `cameras`; take the Euclidean distance of rows.)

# %% tags=["solution"]
# answer_1: two entries of `cameras`, in any order
answer_1 = None
gap = np.linalg.norm(colours[:, None] - colours, axis=2)
a, b = np.unravel_index(gap.argmax(), gap.shape)
if len(cameras) > 1:
    answer_1 = (cameras[a], cameras[b])
    print(f"Cameras {cameras[a] + 1} and {cameras[b] + 1} (counted from 1): {gap[a, b]:.0f} grey levels apart.")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2.** Remove the cameras' colours by hand: subtract each camera's mean colour from
# the small versions of its pictures. What is then the mean pixel distance of the pairs
# *same person, other camera*? Is it what you expected, and what happens to the other
# kinds of pairs?
#
# (`small` (n, 3·32·16) holds the small versions, values 0 to 1, all red ones first,
# then green, then blue; `camids` (n,) their cameras; `colours` the mean colours, 0 to
# 255; `kinds` the masks of the pairs.)

# %% tags=["solution"]
# answer_2: one number, the mean distance after balancing
answer_2 = None
if can_compare:
    planes = small.reshape(len(chosen), 3, -1)  # (pictures, colours, pixels)
    shift = torch.tensor(colours[np.searchsorted(cameras, camids)] / 255, dtype=torch.float32)[:, :, None]
    balanced = (planes - shift).flatten(1)
    after = (torch.cdist(balanced, balanced) / balanced.shape[1] ** 0.5).numpy()
    for name, mask in kinds.items():
        if mask.any():
            print(f"{name:<26} before {by_pixels[mask].mean():.3f}, after {after[mask].mean():.3f}")
    if kinds["same person, other camera"].any():
        answer_2 = after[kinds["same person, other camera"]].mean()

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3.** Files are called `c03-P0042-frame7.jpg`: camera 3, person 42. Write the
# pattern, and try it with `re.search`.

# %% tags=["solution"]
# answer_3: a regular expression (text) with the named groups pid and camid
answer_3 = r"c(?P<camid>\d+)-P(?P<pid>\d+)-"
print(re.search(answer_3, "c03-P0042-frame7.jpg").groupdict())

# %% tags=["check"]
check(3, answer_3)

# %%
stage.write_metrics(
    {"camera_brightness_deviation": float(between) if stage.has_cameras else None,
     "friend_to_stranger_ratio_pixels": ratios.get("pixels"),
     "friend_to_stranger_ratio_features": ratios.get("untrained features"),
     **{f"cameras_per_cluster_{sampler}": count for sampler, count in camera_counts.items() if stage.has_cameras}},
    figures=["01_contact_sheet", "01_mean_pictures", "01_distances", *saved, "01_augmentation"])
print("Done. Next: 02_clustering.ipynb.")
