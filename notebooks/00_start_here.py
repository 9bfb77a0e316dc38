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
# # 00 · Start here: finding a person again, without ever being told who is who
#
# **You will learn**
#
# - what person re-identification (re-ID) is, and what *unsupervised* means in it;
# - the loop of all notebooks: extract features, cluster, fill the memory, train;
# - how hard the problem is for features that were never trained for it.
#
# **Time** on 2 CPU cores: about a minute, and half a minute more on the very first run,
# which renders the pictures. **Reads** the data set, or renders it under
# `out_dir/data`. **Writes** features to `out_dir/artefacts`, pictures to
# `out_dir/figures`, numbers to `out_dir/metrics/00_start_here`.
#
# Run the cells from top to bottom (Shift + Enter). Before each result is a **Predict:**
# question. Answer it for yourself first; you learn most where the result surprises you.
#
# The first cell of every notebook holds its parameters: which pictures (`data`), how
# much of everything (`preset`), which random draws (`seed`). The second makes `stage`:
# `stage.pictures()` are the pictures, `stage.features()` their features,
# `stage.cluster(features)` groups them, and `stage.config` holds all settings.

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
import numpy as np
import torch
from IPython.display import Markdown, display

from dkdmpl_kit import viz
from dkdmpl_kit.data import arrays_of
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import evaluate_ranking
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.noise import cluster_agreement, gallery_rows

stage = Stage("00_start_here", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## 1. Re-identification
#
# A person walks past camera 1, and later past camera 4. *Re-identification* asks: which
# pictures of camera 4 show the person of this picture of camera 1? This is not
# classification, because nobody of the test was in the training. It is a **ranking**:
#
# - the **[query](course/glossary.md#query)** is one picture of somebody;
# - the **[gallery](course/glossary.md#gallery)** is a large set of pictures, from all
#   cameras;
# - the gallery is sorted by similarity to the query, and the pictures of the same
#   person should come first.
#
# An **[encoder](course/glossary.md#encoder)** is a network that turns a picture into a
# **[feature](course/glossary.md#feature)**, a vector of length 1. The similarity of two
# pictures is the inner product of their features.
#
# By default the kit draws the pictures: small rendered people. So nobody's privacy is
# touched, nothing is downloaded, and we know what made each picture. The kit also reads
# real data sets and your own folder.

# %%
rows = stage.pids if stage.has_truth else None
columns = stage.camids if stage.has_cameras else None
side_by_side = max(1, min(3, 12 // max(len(np.unique(stage.camids)), 1)))
fig = viz.contact_sheet(stage.pictures().pixels, rows=rows, columns=columns, max_rows=5, per_cell=side_by_side)
stage.save_figure(fig, "00_contact_sheet", caption="Some of the training pictures: identities and cameras.")
fig

# %% [markdown]
# A row is one person (where [identities](course/glossary.md#identity) are known). Pose,
# light, background and colour cast change, and sometimes something is in front. A
# column is one camera: different people, but they look alike in light, colour and
# background. This is a large part of the difficulty. (The cameras of `preset="smoke"`
# differ little: look closely.)

# %% [markdown]
# ## 2. Unsupervised: the labels are guessed
#
# To *train* an encoder one usually needs identities: thousands of pictures sorted by
# hand. **[Unsupervised](course/glossary.md#unsupervised)**
# [re-ID](course/glossary.md#re-identification) has pictures (and perhaps the number of
# the camera), but no identities. So it guesses: cluster the pictures, call each cluster
# a person, and train on this **[pseudo label](course/glossary.md#pseudo-label)**. A
# better encoder gives better clusters, and so on. Here is one turn of this loop.

# %%
some = np.linspace(0, len(stage.paths) - 1, 4).astype(int)
fig = viz.loop_diagram(stage.pictures().batch(some))
stage.save_figure(fig, "00_loop", caption="The loop of an epoch, and the views of a label.")
fig

# %% [markdown]
# Clusters are never right at first, so the pseudo labels are *noisy*: two people in one
# cluster, one person in three. An encoder also learns the wrong labels. The method of
# this kit, **DKD-MPL** (dual knowledge [distillation](course/glossary.md#distillation)
# on multiview pseudo labels, Zhu, Peng and Yan 2024), adds other views of the label:
#
# - **[GKD](course/glossary.md#global-knowledge-distillation)**, global knowledge
#   distillation: the clustering of the whole [epoch](course/glossary.md#epoch) is a
#   *[teacher](course/glossary.md#teacher)* that gives
#   [soft labels](course/glossary.md#soft-label);
# - **[SKD](course/glossary.md#self-knowledge-distillation)**, self-knowledge
#   distillation: a picture and another picture of its cluster should agree.
#
# **What is the paper's, what is ours.** Only the abstract of the paper is available to
# us. It names the ideas above. All formulas,
# [temperatures](course/glossary.md#temperature) and weights in this kit are *our
# reading* of it. No number here is a number of the paper.
#
# ### Symbols, the same in all notebooks
#
# A table to come back to: each symbol is explained where it is first needed. The
# [map of symbols](course/symbols.md) says where each is in the code; words are in the
# [glossary](course/glossary.md).
#
# | symbol | shape | meaning |
# |---|---|---|
# | $N, K, B, d$ | | training images, clusters of this epoch, batch size, feature size |
# | $v_i$ | $(d,)$ | feature of image $i$, length 1, extracted once before the clustering of the epoch |
# | $y_i$ | | pseudo label of image $i$: $0 \ldots K-1$, or $-1$ for an outlier (left out of training this epoch) |
# | $\mathbb{1}_y$ | $(K,)$ | the hard label: 1 at cluster $y$, 0 at all others |
# | $C$ | $(K, d)$ | normalised cluster means of $v$, **frozen** for the epoch |
# | $M$ | $(K, d)$ | cluster memory: starts as $C$, moves with every batch |
# | $z_i$ | $(d,)$ | feature of image $i$ in the batch being trained on: train mode, augmented |
# | $p(i)$ | | positive anchor of $i$: another image of the batch with the same pseudo label |
# | $\tau, \tau_t$ | | temperature of the contrast, temperature of the teacher |
# | $e_i, q_i, a_i$ | $(K,)$ | the three views of a label: epoch $\mathrm{softmax}(C v_i/\tau_t)$, query $\mathrm{softmax}(M z_i/\tau)$, anchor $\mathrm{softmax}(M z_{p(i)}/\tau)$ |
# | $L_{CC}, L_{GKD}, L_{SKD}$ | | losses: cluster contrast (on the hard label), global and self distillation |
# | $\lambda_g, \lambda_s$ | | weights: $L = L_{CC} + \lambda_g L_{GKD} + \lambda_s L_{SKD}$ |

# %% [markdown]
# ## 3. See the problem
#
# The encoder at the start was trained to tell *kinds of things* apart (ImageNet: dogs,
# cups, cars), never one person from another. Let it rank the gallery.
#
# **Predict:** of the ten pictures that it finds most similar to a query, how many show
# the same person? What do the wrong ones have in common with the query?

# %%
result = None
if stage.has_test:
    _, query_pids, query_camids = arrays_of(stage.dataset.query)
    _, gallery_pids, gallery_camids = arrays_of(stage.dataset.gallery)
    query, gallery = stage.features(split="query"), stage.features(split="gallery")
    try:
        result = evaluate_ranking(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids)
        valid = np.flatnonzero(~np.isnan(result.average_precision))  # queries that have a match
        shown = valid[np.argsort(result.average_precision[valid])][[len(valid) // 2]]  # the middle one: a typical query
        split = "gallery"
    except KitError as error:
        print(error)
if result is None:
    print("No ranking can be scored on these pictures, so one training picture searches among the others.")
    query = gallery = stage.features()
    query_pids = gallery_pids = stage.pids
    query_camids = gallery_camids = stage.camids
    shown, split = np.array([0]), "train"

# %%
similarity = query[shown] @ gallery.T  # rows of length 1: the inner product is the cosine
if split == "train":
    similarity[np.arange(len(shown)), shown] = -np.inf  # not itself
order = np.argsort(-similarity, axis=1, kind="stable")[:, :10]
same = query_pids[shown, None] == gallery_pids[order]
own_camera = (query_camids[shown, None] == gallery_camids[order]) & (query_camids[shown, None] >= 0)
fig = viz.ranking_grid(stage.pictures("query" if split == "gallery" else "train").batch(shown),
                       [stage.pictures(split).batch(row) for row in order],
                       same if (query_pids[shown] >= 0).all() else None, junk=same & own_camera)
stage.save_figure(fig, "00_ranking", caption="One query and its nearest pictures, by untrained features.")
fig

# %% [markdown]
# (Where rankings can be scored, this is the query of middle score.) Green ticks are the
# same person, crosses are other people. A grey dash is the same person under the *same*
# camera: that would be too easy, so the protocol of re-ID does not count it (notebook
# 06). Look at the crosses, if there are any: do the clothes agree, or the background,
# the light and the pose?
#
# One query proves nothing. For all queries there are three numbers.
# **[Rank-1](course/glossary.md#cmc)**: how often is the first counted picture right?
# **[mAP](course/glossary.md#mean-average-precision)**: how high do *all* right pictures
# rank (1 is perfect)? **[mINP](course/glossary.md#minp)**: how high does the *last*
# right one rank?

# %%
if result is not None:
    print(f"Untrained features, {result.n_valid_queries} queries: Rank-1 {result.cmc[1]:.1%}, mAP {result.mAP:.1%}, "
          f"mINP {result.mINP:.1%}.")
else:
    print("Not measured here: that needs queries and a gallery with known identities.")

# %% [markdown]
# ## 4. The first guess
#
# Now the first clustering, from the same untrained features. Pictures that fit into no
# cluster are called *outliers*. The **adjusted Rand index**
# ([ARI](course/glossary.md#adjusted-rand-index)) measures the clusters: 1 means that
# they *are* the identities, 0 is chance. True identities are for measuring alone:
# training never sees them, and a test of the kit checks that.
#
# **Predict:** will there be more clusters than people, or fewer? Will the ARI be nearer
# to 1 or to 0?

# %%
features = stage.features()
pseudo = stage.cluster(features)
agreement = cluster_agreement(pseudo.labels, stage.pids)
print(f"{pseudo.n_clusters} clusters; {pseudo.outlier_fraction:.0%} of the {len(features)} pictures are outliers.")
if agreement.ari is not None:
    print(f"There are {len(np.unique(stage.pids))} identities. ARI {agreement.ari:.3f}; "
          f"{agreement.purity:.0%} of the clustered pictures show their cluster's main identity.")
else:
    print("Nobody told us who is who, so the ARI cannot be measured.")

# %%
known_pids = stage.pids if stage.has_truth else None
rows = gallery_rows(pseudo.labels, known_pids, features)
fig = viz.cluster_gallery(stage.pictures().pixels, rows, known_pids)
stage.save_figure(fig, "00_first_clusters", caption="The first clustering: best, worst, outliers.")
fig

# %% [markdown]
# Equal letters in a row are one person. In the rows called *most mixed*, what do the
# pictures have in common besides the people: brightness, colour cast, wall, direction?
# Training begins with such clusters. The next notebooks show how it can improve them,
# and what distillation does with the wrong labels.
#
# ## 5. The notebooks
#
# | notebook | question | method |
# |---|---|---|
# | 00 start here | what is the problem? | |
# | 01 data | what do cameras do to pictures, and how are batches drawn? | P x K sampling, augmentation |
# | 02 clustering | where do pseudo labels come from, and how do they go wrong? | k-reciprocal Jaccard, DBSCAN |
# | 03 GKD | can the clustering teach more than hard labels? | $L_{GKD}$, temperature, break-even |
# | 04 SKD | what does agreement between pictures of a cluster give? | $L_{SKD}$, anchors, divergences |
# | 05 training | does it work together? | the whole loop, epoch by epoch |
# | 06 evaluation | how is a ranking scored, and what did training change? | mAP, CMC, mINP |
# | 07 label noise | where do wrong labels come from, and how do they move? | label noise |
# | 08 theory | what does the loss train on, and what can be proved? | P1 to P5 |
# | 09 rivals | which published ideas are alike? | other objectives, in one frame |
# | 10 own crops | what of my own pictures? | a guard without truth, labels, corrections, answers |
#
# Each runs alone: what is missing from an earlier one is made, and a line says so.

# %% [markdown]
# ## 6. Responsible use
#
# Re-identification follows people through cameras. That can find a lost child, and it
# can watch those who never agreed to be watched. This kit is for **research and
# teaching**: to understand label noise, and to reproduce results.
#
# - **Do not** use it to identify, track or profile people, at work, in public or
#   anywhere else; not for policing, border control, or decisions about persons; not on
#   pictures of people who did not consent. It has not been examined for fairness across
#   skin colour, age, sex, disability or dress. Expect it to fail more often for some
#   groups than for others.
# - The pictures you see by default are rendered: they show nobody. Prefer them for
#   teaching.
# - **DukeMTMC** was withdrawn by its authors in 2019, because the people in it never
#   gave consent. Its reader exists because published work reports on it; it is off
#   unless asked for, it warns, and nothing downloads it. Please choose another data
#   set.
# - With your own pictures: ask for consent, keep no more than needed, respect the law
#   of your place, and publish neither faces nor features (a feature is personal data:
#   it is made to recognise somebody).
#
# ## 7. Is everything in place?

# %%
from dkdmpl_kit.experiment import environment, pick_device

found = environment()
lines = [f"| {name} | {version or 'not installed'} |" for name, version in found["packages"].items()]
print(f"Python {found['python']} on {found['platform']} ({found['machine']}); device {pick_device(device)}, "
      f"{found['threads']} threads; CUDA {'available' if torch.cuda.is_available() else 'not available'}.")
Markdown("\n".join(["| package | version |", "|---|---|", *lines]))

# %% [markdown]
# ## Exercises
#
# Put each answer into the named variable; the cell below it says whether it is right,
# or why not. (The folded cell prepares the checks: it contains the answers.)

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.exercises import exercises, value

tests = {1: None, 2: None}
if result is not None:
    allowed = gallery_pids >= 0
    right = (query_pids[:, None] == gallery_pids) & allowed
    same_camera = right & (query_camids[:, None] == gallery_camids) & (query_camids[:, None] >= 0)
    right_left, shares = right & ~same_camera, right.sum(axis=1) / allowed.sum()
    can = right_left.any(axis=1)
    chances = right_left.sum(axis=1) / (allowed & ~same_camera).sum(axis=1)
    tests[1] = value(chances[can].mean(), mistakes={
        "leave out of both numbers the same person under the same camera, and nobody else (strangers there do count).":
            shares[can].mean(),
        "leave the same person's pictures under the same camera out of the counted pictures as well.":
            (right_left.sum(axis=1) / allowed.sum())[can].mean(),
        "queries without a right picture are skipped, and do not count as 0.": chances.mean()})

    def easiest_and_hardest(answer):
        if np.asarray(answer).shape != (2,) or np.asarray(answer).dtype.kind not in "iu":
            return "two whole numbers are asked for: the rows of the two queries, not their APs."
        ap, (easy, hard) = result.average_precision, (int(i) for i in answer)
        if np.isnan(ap[[easy, hard]]).any():
            return "one of the two has no AP (NaN): np.nanargmax and np.nanargmin pass over those."
        if ap[easy] == np.nanmin(ap) < np.nanmax(ap) == ap[hard]:
            return "the right two, the other way round: the easiest query has the highest AP."
        return "" if ap[easy] == np.nanmax(ap) and ap[hard] == np.nanmin(ap) else "there is a higher, or a lower AP than theirs."

    tests[2] = easiest_and_hardest
outliers = [int((stage.cluster(features, eps=e).labels < 0).sum()) for e in (0.4, 0.7)]
tests[3] = value(outliers, mistakes={
    "those are the pictures that are clustered; count the others.": [len(features) - n for n in outliers],
    "those are the clusters; count the outliers.": [stage.cluster(features, eps=e).n_clusters for e in (0.4, 0.7)]})
check = exercises(tests)

# %% [markdown]
# **1.** What Rank-1 does chance give? If features were random directions, each counted
# picture would come first equally often. So the chance of a query is the share of right
# pictures among all that are counted for it (the same person under the same camera
# counts in neither). Compute this chance for each query that has a right picture, and
# average.

# %% tags=["solution"]
# answer_1: one number from 0 to 1; you have query_pids, query_camids (Q,), gallery_pids and gallery_camids (G,)
answer_1 = None
if result is not None:
    match = query_pids[:, None] == gallery_pids  # (Q, G)
    left_out = match & (query_camids[:, None] == gallery_camids) & (query_camids[:, None] >= 0)
    n_right, n_counted = (match & ~left_out).sum(axis=1), (~left_out).sum(axis=1)
    answer_1 = (n_right / n_counted)[n_right > 0].mean()

    rng = np.random.default_rng(seed)  # and once by throwing dice
    dice = [rng.normal(size=x.shape) for x in (query, gallery)]
    luck = evaluate_ranking(*(x / np.linalg.norm(x, axis=1, keepdims=True) for x in dice),
                            query_pids, gallery_pids, query_camids, gallery_camids)
    print(f"Rank-1 by luck: {answer_1:.1%} expected, {luck.cmc[1]:.1%} in one throw of dice. "
          f"Untrained features: {result.cmc[1]:.1%}.")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2.** Which query is easiest for the untrained features, and which is hardest?
# (`result.average_precision` holds one value a query, NaN where nothing can be
# matched.) Then look at both:
# `viz.contact_sheet(stage.pictures("query").batch([a, b]))` shows the queries of rows
# `a` and `b`, and section 3 shows a ranking.

# %% tags=["solution"]
# answer_2: two row numbers of the query split, (easiest, hardest)
answer_2 = None
if result is not None:
    ap = result.average_precision
    answer_2 = both = np.array([np.nanargmax(ap), np.nanargmin(ap)])
    order = np.argsort(-(query[both] @ gallery.T), axis=1, kind="stable")[:, :10]
    matches = query_pids[both, None] == gallery_pids[order]
    own = matches & (query_camids[both, None] == gallery_camids[order]) & (query_camids[both, None] >= 0)
    fig = viz.ranking_grid(stage.pictures("query").batch(both), [stage.pictures("gallery").batch(row) for row in order],
                           matches, junk=own, titles=[f"AP {ap[i]:.2f}" for i in both])
    display(fig)

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3.** [DBSCAN](course/glossary.md#dbscan)'s radius `eps` decides what counts as near.
# Cluster with `eps` 0.4 and 0.7 (`stage.cluster(features, eps=...)`) and count the
# [outliers](course/glossary.md#outlier), whose label is -1. How do the number of
# clusters and the ARI change?

# %% tags=["solution"]
# answer_3: two whole numbers, the outliers at eps 0.4 and at eps 0.7
answer_3 = []
for eps in (0.4, 0.7):
    other = stage.cluster(features, eps=eps)
    answer_3.append((other.labels < 0).sum())
    ari = cluster_agreement(other.labels, stage.pids).ari
    print(f"eps {eps:.2f}: {other.n_clusters} clusters, {other.outlier_fraction:.0%} outliers, "
          f"ARI {'unknown' if ari is None else f'{ari:.3f}'}")

# %% tags=["check"]
check(3, answer_3)

# %%
stage.write_metrics(
    {"mAP": result.mAP if result else None, "rank1": result.cmc[1] if result else None, "mINP": result.mINP if result else None,
     "ari": agreement.ari, "n_clusters": pseudo.n_clusters, "outlier_fraction": pseudo.outlier_fraction},
    figures=["00_contact_sheet", "00_loop", "00_ranking", "00_first_clusters"])
print("Done. Next: 01_data.ipynb.")
