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
# # 10 · Own crops: from a folder of pictures to an answer
#
# **You will learn**
#
# - what a folder of crops tells before any encoder has seen it;
# - how a training is judged without identities;
# - how corrections come back, and how "nobody" becomes an answer.
#
# **Time** on 2 CPU cores: about two minutes. **Reads** the pictures of `data_root`, or
# the embedded ones. Only section 7 looks at
# [identities](course/glossary.md#identity), where they are known. **Writes** an encoder,
# labels and corrections to `out_dir/own_crops`, and pictures to `out_dir/figures`.

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
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import display

from dkdmpl_kit import viz
from dkdmpl_kit.clustering import corrected
from dkdmpl_kit.data import arrays_of
from dkdmpl_kit.data.survey import survey
from dkdmpl_kit.evaluation import evaluate_ranking, match_curve_within, search
from dkdmpl_kit.evaluation.thresholds import outliers_apart
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.noise import label_table

# %%
from dkdmpl_kit.training import extract, load_encoder, read_corrections
from dkdmpl_kit.training.adaptation import adapt, chosen_settings
from dkdmpl_kit.training.corrections import Correction, names_below, write_corrections
from dkdmpl_kit.training.label_files import save_labels

stage = Stage("10_own_crops", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
folder = Path(out_dir) / "own_crops"

# %% [markdown]
# ## 1. Look first
#
# **Predict:** what in a folder of crops can spoil a clustering, and how?

# %%
images = stage.dataset.unlabelled()                                       # files and cameras, and no identity
seen = survey(images)
print("\n".join(seen.lines()))

# %% [markdown]
# Pictures that are nearly the same fill each other's lists of neighbours; a camera's
# light makes strangers alike; pictures that show little are near everybody.
#
# `dkdmpl adapt crops --out mine` chooses its settings from that (this notebook keeps
# its preset's sizes).

# %%
choices = chosen_settings(seen, stage.config)
pd.DataFrame([(c.name, c.value, c.why) for c in choices], columns=["setting", "value", "why"])

# %% [markdown]
# ## 2. Train, and be ready to throw it away
#
# Training on wrong [clusters](course/glossary.md#cluster) can make the
# [features](course/glossary.md#feature) worse, while its loss falls. So a guard looks at
# pictures that were held out, in whole clusters.
#
# It asks: how often do both halves of a feature's numbers name the same nearest picture
# of another camera (**across**)? And do neighbours come from other cameras as often as
# chance (**mixing**)? A state is kept where both surely rose. Else, and where cameras
# are unknown, **the start is kept**.
#
# **Predict:** is the last [encoder](course/glossary.md#encoder) the one to keep?

# %%
lesson = stage.config.replace(out_dir=str(folder), method="cluster_contrast", epochs=min(6, stage.config.epochs))
own = {"height", "width", "padding", "k1", "k2", "eps", "iterations", "sampler", "learning_rate", "freeze_stages",
       "method", "pooling", "min_samples"}
found = adapt(lesson, stage.dataset, given=own, resume=True, progress=False)
states, kept = found.verdict.judged, found.verdict.epoch
criterion = "stability" if states[0].means["across"] is None else "across"
low, high = (np.array([s.changes[criterion][end] if s.changes else 0.0 for s in states]) for end in (1, 2))
values = np.array([s.means[criterion] for s in states])

# %%
sure = [state.epoch for state in states if state.better]
name = f"the encoder after epoch {kept}" if kept else "the start"
stage.show(viz.guard_curve(values, low, high, chosen=kept, criterion=criterion), "10_guard",
           f"Kept is {name}: across and mixing surely rose in {len(sure)} of {len(states) - 1} epochs.")
stage.say("guard", found.verdict.sentence, kept=kept, sure=sure, trained=len(states) - 1,
          mixed=[s.mixed for s in states], cameras=criterion == "across")

# %% [markdown]
# ## 3. Labels out
#
# `dkdmpl cluster --out labels.csv` writes one row a picture. A
# [pseudo label](course/glossary.md#pseudo-label) is **suspect** where another cluster's
# mean is more similar than its own.

# %%
features, labels = found.features, found.pseudo.labels
names, rows = names_below(images.paths, stage.dataset.root), label_table(features, labels)
cameras = [str(camid + 1) if camid >= 0 else "" for camid in images.camids]
display(pd.read_csv(save_labels(folder / "labels.csv", rows, names, cameras, record={})).head(5))
stage.say("labels", f"Of {len(labels)} pictures {(labels < 0).mean():.0%} are outliers, the rest is in "
          f"{found.pseudo.n_clusters} clusters. Suspect labels: {rows.suspect.sum()}.", n=len(labels),
          clusters=len(set(labels.tolist()) - {-1}), outliers=int((labels < 0).sum()),
          suspect=int((rows.nearest_similarity > rows.similarity).sum()))

# %%
pages, marked = [], 0
for cluster in np.argsort(-np.bincount(labels[labels >= 0]))[:5]:
    members = np.flatnonzero(labels == cluster)
    members = members[np.argsort(-rows.similarity[members])][np.unique(np.linspace(0, len(members) - 1, 8).astype(int))]
    pages.append({"name": f"cluster {cluster}", "pictures": list(stage.pictures().batch(members).numpy()),
                  "colours": [viz.PALETTE["wrong" if s else "outlier"] for s in rows.suspect[members]],
                  "marks": ["?" if s else "" for s in rows.suspect[members]]})
    marked += int(rows.suspect[members].sum())
fig = viz.picture_rows(pages, title="The largest clusters: does each row show one and the same?", columns=8)
stage.show(fig, "10_clusters", "Left the picture most similar to the cluster's mean, right the least similar one; "
           f"{marked} of {sum(len(page['pictures']) for page in pages)} are suspect (?).")

# %% [markdown]
# ## 4. A person's corrections come back
#
# Somebody looks at such rows and writes: *these are one* (merge), *these leave their
# cluster* (split), *these are never one* (different). Every later clustering keeps to
# it exactly. Here two clusters are called one, and a picture is sent away.

# %%
stage.require("clusters")

# %%
first, second = (np.flatnonzero(labels == cluster) for cluster in range(2))
away = first[rows.similarity[first].argmin()]                             # the least similar to the cluster's mean
pair = [i for i in first if i != away][0], second[0]
said = [Correction("merge", tuple((names[i], "", "") for i in pair)), Correction("split", ((names[away], "", ""),))]
path = write_corrections(folder / "corrections.csv", said)
print(path.read_text())
after = corrected(found.pseudo, read_corrections(path, names), features).labels
mates = np.flatnonzero((after == after[away]) & (labels == labels[away]))
word = "one cluster" if after[pair[0]] == after[pair[1]] else "two clusters"
stage.say("corrected", f"The two are {word}; the picture that was sent away has {len(mates) - 1} of its "
          f"{len(first) - 1} old mates.", pair=[int(after[i]) for i in pair], away=int(after[away]),
          mates=[int(after[i]) for i in first if i != away])

# %% [markdown]
# ## 5. Who is this, or nobody?
#
# A nearest picture always exists. To believe it only from a **threshold** on makes
# "nobody" an answer. Here each picture meets about one of *another cluster* that
# reaches it.
#
# **Predict:** what happens to it when one person is split into two clusters?

# %%
rate = 1 / len(features)                                                  # of N strangers about one reaches it
threshold = match_curve_within(features, outliers_apart(labels), images.camids).threshold(rate)
halved, largest = outliers_apart(labels), np.flatnonzero(labels == np.bincount(labels[labels >= 0]).argmax())
halved[largest[::2]] = halved.max() + 1                                   # the largest cluster becomes two
moved = match_curve_within(features, halved, images.camids).threshold(rate)
word = "rises" if moved > threshold else "falls" if moved < threshold else "stays the same"
why = "too few to move it" if moved == threshold else "which are more alike than most"
stage.say("split", f"With the largest cluster split in two the threshold {word}: from {threshold:.4f} to {moved:.4f}. Its pairs "
          f"now count as strangers, {why}.", before=float(threshold), after=float(moved))

# %%
everyone = np.arange(len(features))
nobody = search(features, features, top=1, threshold=threshold, files=(everyone, everyone)).nobody
asked = np.unique(np.concatenate([np.linspace(0, len(features) - 1, 3).astype(int), np.flatnonzero(nobody)[:1]]))
answers = search(features[asked], features, top=6, threshold=threshold, files=(asked, everyone))
pages = []
for query, row in zip(asked, answers.indices):
    chosen = [int(query), *row[row >= 0].tolist()]
    pages.append({"name": f"{len(chosen) - 1} found" if len(chosen) > 1 else "nobody",
                  "pictures": list(stage.pictures().batch(chosen).numpy()),
                  "colours": [viz.PALETTE["query"], *[viz.PALETTE["outlier"]] * (len(chosen) - 1)]})
stage.show(viz.picture_rows(pages, title="Who is this? Only what is believed is shown", columns=7), "10_answers",
           f"The first picture of a row asks. Of all {len(nobody)} pictures {int(nobody.sum())} find nobody at a similarity "
           f"of {threshold:.3f} or more.")

# %% [markdown]
# ## 6. Hand it over
#
# `dkdmpl export --run mine/runs/adapted --out model` writes the encoder for a tracker,
# as ONNX ([onnxruntime](https://onnxruntime.ai) runs it).
#
# ## 7. Was the guard right?
#
# Only here the truth is asked.

# %%
mAP = {}
if stage.has_test:
    encoders = {"the start": stage.encoder(), "what was kept": found.encoder}
    encoders |= {"the last epoch": load_encoder(folder / "runs" / "training")[1]} if len(states) > 1 else {}
    (_, pids, camids), (_, other_pids, other_camids) = arrays_of(stage.dataset.query), arrays_of(stage.dataset.gallery)
    for name, encoder in encoders.items():
        query, gallery = (extract(stage.config, encoder, stage.pictures(split)) for split in ("query", "gallery"))
        mAP[name] = float(evaluate_ranking(query, gallery, pids, other_pids, camids, other_camids).mAP)
    lost = max(mAP.values()) - mAP["what was kept"]
    scores = ", ".join(f"{name} {score:.1%}" for name, score in mAP.items())
    stage.say("truth", f"mAP of {len(pids)} queries: {scores}. "
              + ("None is better than what was kept." if lost == 0 else f"The guard lost {100 * lost:.1f} points: without truth it can be wrong."),
              mAP=mAP)
else:
    print("There is no test split with identities: the guard's word is all there is.")

# %% [markdown]
# ## Take home
#
# - Look at crops before you train on them.
# - A loss that falls, and clusters that look clean, say nothing about being right.
# - Judge on what was held out; keep the start unless something is surely better.
# - Corrections are kept exactly, and contradictions are refused.
# - Without a threshold every stranger is somebody.
#
# **Responsible use.** Crops of people are personal data. Ask whether you may have them
# before you ask what they show; never watch people with this.
#
# ## Exercises

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.checks import own_crops

check = own_crops.checks(names)

# %% [markdown]
# **1. The guard's rule.** `across` and `mixing` hold the low ends of each epoch's
# change (0 for the start). Write the function that lists the epochs that surely rose.

# %% tags=["solution"]
# answer_1: a function (across (E + 1,), mixing (E + 1,)) -> list of epochs
def surely_risen(across, mixing):
    return [epoch for epoch in range(len(across)) if across[epoch] > 0 and mixing[epoch] > 0]


answer_1 = surely_risen
ends = [[s.changes[name][1] if name in s.changes else 0.0 for s in states] for name in ("across", "mixing")]
print(f"Surely risen here: {surely_risen(*ends) or 'none'}.")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2. Corrections.** Pretend that the first two pictures of `names` are one person, and
# that the third is somebody else. Write exactly this.

# %% tags=["solution"]
# answer_2: a list of Correction
rows_of = [(name, "", "") for name in names[:3]]
answer_2 = [Correction("merge", tuple(rows_of[:2])), Correction("different", (rows_of[0], rows_of[2]))]

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3. Nobody.** Write the function that says which queries find nobody. A query's own
# picture is not an answer.

# %% tags=["solution"]
# answer_3: a function (similarities (Q, G), own (Q,): each query's place in the gallery, threshold) -> (Q,) bool
def finds_nobody(similarities, own, threshold):
    others = similarities.copy()
    others[np.arange(len(own)), own] = -np.inf
    return others.max(axis=1) < threshold


answer_3 = finds_nobody
print(f"Above: {finds_nobody(features[asked] @ features.T, asked, threshold).sum()} of {len(asked)}.")

# %% tags=["check"]
check(3, answer_3)

# %%
stage.write_metrics({"chosen_epoch": kept, "n_clusters": found.pseudo.n_clusters, "suspect": int(rows.suspect.sum()),
                     "threshold": float(threshold), **{f"mAP of {name}": score for name, score in mAP.items()}})
