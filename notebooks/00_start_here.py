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
# # 00 · Start here: finding a person again, without being told who is who
#
# **You will learn**
#
# - what person re-identification (re-ID) is, and what *unsupervised* means;
# - the method on one page: the loop, the loss, the views of one label;
# - how far untrained features reach.
#
# **Time** on 2 CPU cores: a minute, and half a minute more to render the pictures.
# **Reads** the data set. **Writes** to `out_dir`: features, figures, and numbers in
# `metrics/00_start_here`.
#
# Run the cells in order (Shift + Enter). Answer each **Predict:** before you look.

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

from dkdmpl_kit import viz
from dkdmpl_kit.evaluation import evaluate_ranking
from dkdmpl_kit.experiment import environment
from dkdmpl_kit.lessons.example import running_example
from dkdmpl_kit.lessons.search import first_search
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.noise import cluster_agreement, gallery_rows, true_clusters

stage = Stage("00_start_here", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## 1. Re-identification is a ranking
#
# A person walks past camera 1, and later past camera 4. Which pictures of camera 4 show
# this person? Nobody of the test was in the training, so the answer is a ranking: one
# picture, the **[query](course/glossary.md#query)**, sorts many others, the
# **[gallery](course/glossary.md#gallery)**, by similarity.
#
# An **[encoder](course/glossary.md#encoder)** turns a picture into a
# **[feature](course/glossary.md#feature)**, a vector of length 1. Similarity is the
# inner product: (0.6, 0.8) and (0.8, 0.6) have 0.96. At the start it knows *kinds of
# things* (ImageNet: dogs, cups, cars), not persons. The people are drawn by default;
# nobody real is shown.
#
# **Predict:** how many of the ten most similar pictures show the query's person? What
# do the others share with it?

# %%
search = first_search(stage)
row = search.typical()  # the query of middle score, where rankings can be scored
near, same, own_camera = search.nearest(row)
fig = viz.ranking_grid(stage.pictures(search.query_split).batch([row]),
                       [stage.pictures(search.gallery_split).batch(near)],
                       None if same is None else [same], junk=[own_camera], title=f"Query {row} and its nearest pictures")
caption = f"The {len(near)} pictures that are most similar to query {row}; who they show is not known."
if same is not None:
    caption = f"Of the {(~own_camera).sum()} nearest pictures that count, {(same & ~own_camera).sum()} show the query's identity."
stage.show(fig, "00_ranking", caption)

# %% [markdown]
# A grey dash: the same person under the query's *own* camera, too easy to count.
#
# Three scores, means over the queries: **[Rank-1](course/glossary.md#cmc)**, the share
# with a right picture first; **[mAP](course/glossary.md#mean-average-precision)**, how
# early *all* right pictures come; **[mINP](course/glossary.md#minp)**, how early the
# *last* one comes. With right pictures at ranks 1 and 4, the average precision is
# (1/1 + 2/4) / 2 = 0.75, and the INP is 2/4 = 0.5.

# %%
if search.result is not None:
    score = search.result
    often = "more" if score.cmc[1] > 0.5 else "not more"
    stage.say("scores", f"Untrained features put a right picture first for **{often}** than half of the "
              f"{score.n_valid_queries} queries: Rank-1 {score.cmc[1]:.1%}, mAP {score.mAP:.1%}, mINP {score.mINP:.1%}.",
              queries=score.n_valid_queries, rank1=float(score.cmc[1]), mAP=float(score.mAP), mINP=float(score.mINP))

# %% [markdown]
# ## 2. Unsupervised: the labels are guessed
#
# **[Unsupervised](course/glossary.md#unsupervised)** re-ID has pictures without
# [identities](course/glossary.md#identity). It puts similar pictures into
# [clusters](course/glossary.md#cluster) and trains as if each were a person: its number
# is the **[pseudo label](course/glossary.md#pseudo-label)**. Pictures that fit nowhere,
# **[outliers](course/glossary.md#outlier)**, are left out this time.
#
# The [ARI](course/glossary.md#adjusted-rand-index) compares clusters with identities: 1
# is equal, 0 is chance. Training never sees identities.
#
# **Predict:** more clusters than people, or fewer? Is the ARI nearer to 0 or to 1?

# %%
features = stage.features()
pseudo = stage.cluster(features, gkd_teacher="vote")
known_pids = stage.pids if stage.has_truth else None
rows = gallery_rows(pseudo.labels, known_pids, features)
fig = viz.cluster_gallery(stage.pictures().pixels, rows, known_pids)
stage.show(fig, "00_first_clusters", f"The first clustering makes {pseudo.n_clusters} clusters of {len(features)} pictures; "
           f"{pseudo.outlier_fraction:.0%} of the pictures are outliers.")

# %%
agreement = cluster_agreement(pseudo.labels, stage.pids)
people = len(np.unique(stage.pids))
if agreement.ari is not None:
    order = {-1: "fewer", 0: "as many", 1: "more"}[int(np.sign(pseudo.n_clusters - people))]
    end = "0" if agreement.ari < 0.5 else "1"
    stage.say("first_guess", f"**Answer.** There are {order} clusters ({pseudo.n_clusters}) {'as' if order == 'as many' else 'than'} "
              f"identities ({people}). The ARI of the clustered pictures is {agreement.ari:.2f}, nearer to {end}. "
              f"{agreement.purity:.0%} of them show their cluster's main identity.",
              clusters=pseudo.n_clusters, people=people, ari=agreement.ari, purity=agreement.purity)

# %% [markdown]
# Equal letters in a row are one person. What do the most mixed rows share: light, wall,
# direction, something in front?

# %% [markdown]
# ## 3. The method on one page
#
# Training also follows the labels that are wrong. **DKD-MPL** (dual knowledge
# [distillation](course/glossary.md#distillation) on multiview pseudo labels, Zhu, Peng
# and Yan 2024) sees each label in several views. Symbols ([all](course/symbols.md)):
#
# - $v_i$: feature of picture $i$ before the clustering; $z_i$: in a batch,
#   [augmented](course/glossary.md#augmentation);
# - $y_i$: its pseudo label, one of $K$ clusters; the **hard label** $\mathbb{1}_{y_i}$ is 1
#   at $y_i$ and 0 elsewhere;
# - $C$: the normalised cluster means, frozen for the
#   [epoch](course/glossary.md#epoch); $M$: the memory, which starts as $C$ and moves;
# - $p(i)$: the [anchor](course/glossary.md#anchor), another picture of $i$'s cluster;
# - $\tau, \tau_t$: [temperatures](course/glossary.md#temperature); small ones make a
#   softmax sharp.

# %% [markdown]
# Three views, each $K$ probabilities:
#
# - $e_i$, the **[teacher](course/glossary.md#teacher)**: the whole epoch's clustering. By
#   default $\mathrm{softmax}(C v_i/\tau_t)$; in the picture below, similar pictures *vote*
#   for their clusters;
# - $q_i = \mathrm{softmax}(M z_i/\tau)$, the **student**: the encoder now;
# - $a_i = \mathrm{softmax}(M z_{p(i)}/\tau)$, its answer for the anchor.
#
# The loss pulls $q_i$ to the hard label, the teacher and the anchor's view:
#
# $$L = L_{CC} + \lambda_g L_{GKD} + \lambda_s L_{SKD}$$
#
# For $q_i = (0.5, 0.3, 0.2)$ and $y_i = 0$, $L_{CC} = -\log q_i[y_i] = -\log 0.5 = 0.69$.
# [GKD](course/glossary.md#global-knowledge-distillation) and
# [SKD](course/glossary.md#self-knowledge-distillation) follow in notebooks 03 and 04; the
# $\lambda$ are weights.

# %% [markdown]
# **The paper's, and ours.** Only the paper's abstract is available to us. It names the
# ideas; all formulas and weights are *our reading*, and no number here is the paper's.
#
# **Predict:** do teacher and student of a wrongly labelled picture repeat its label?

# %%
picture, notes, views = None, {}, None
truth = true_clusters(pseudo.labels, stage.pids) if stage.has_truth else None
if pseudo.n_clusters and pseudo.soft is not None:
    i = running_example(pseudo.soft, pseudo.labels, truth)  # where the teacher knows what the hard label does not
    y, star = int(pseudo.labels[i]), -1 if truth is None else int(truth[i])
    memory = ClusterMemory(features, pseudo.labels)  # M = C at the start
    e = pseudo.soft[[i]].toarray()[0]
    q = torch.softmax(memory.logits(torch.tensor(features[[i]]), stage.config.temperature), dim=1)[0].numpy()
    picture, views = stage.pictures().batch([i])[0], {"e": e, "q": q}
    notes = {y: "label"} | ({star: "true cluster"} if star >= 0 and star != y else {})

# %%
some = np.linspace(0, len(stage.paths) - 1, 4).astype(int)
fig = viz.loop_diagram(stage.pictures().batch(some), picture=picture, hard=None if views is None else y, views=views, notes=notes)
caption = "Four steps make an epoch, and the loss of step 4 compares the student with three labels."
if views is not None:
    caption += (f" Below, picture {i}, chosen as its neighbours doubt its label: the hard label gives cluster {y} everything, the teacher {e[y]:.0%}, and the student "
                f"(before training, by $v_i$ in place of $z_i$) {q[y]:.0%}.")
stage.show(fig, "00_loop", caption)

# %%
if views is not None:
    about = "Whether its label is right is not known."
    if star >= 0:
        about = (f"Its label is wrong: its identity's own cluster is {star}, and the teacher gives that {e[star]:.0%}."
                 if star != y else "Its label is right.")
    first = ["the label" if view[y] >= view.max() else "another cluster" for view in (e, q)]
    stage.say("example", f"**Answer.** Picture {i} has the label {y}. {about} This teacher names *{first[0]}* first ({e[y]:.0%} for "
              f"the label). The student names *{first[1]}* first ({q[y]:.0%} for the label); before training it equals the default "
              "teacher, if $\\tau = \\tau_t$.", label=y, true_cluster=star, teacher=[float(x) for x in e],
              student=[float(x) for x in q])

# %% [markdown]
# ## 4. The notebooks
#
# **01** data, **02** clustering, **03** GKD, **04** SKD, **05** training, **05b**
# results, **06** evaluation, **07** label noise, **08** theory, **09** rivals, **10**
# your own pictures. Each runs alone and makes what is missing. Words:
# [glossary](course/glossary.md).
#
# ## 5. Responsible use
#
# Re-identification can find a lost child, and it can watch those who never agreed to be
# watched. This kit is for **research and teaching**.
#
# - **Do not** use it to identify, track or profile people, at work, in public or anywhere
#   else; not for policing, border control, or decisions about persons; not on pictures of
#   people who did not consent. It has not been examined for fairness across skin colour,
#   age, sex, disability or dress: expect it to fail more often for some groups.
# - **DukeMTMC** was withdrawn by its authors in 2019: the people in it never gave
#   consent. Its reader exists because published work reports on it: please choose
#   another.
# - With your own pictures: ask for consent, keep no more than you need, respect the law,
#   and publish neither faces nor features. A feature is personal data: it is made to
#   recognise somebody.

# %%
found = environment()
versions = [f"{name} {version}" for name, version in found["packages"].items() if version]
print(f"Python {found['python']} on {found['platform']}, {found['threads']} threads; {', '.join(versions)}.")

# %% [markdown]
# ## Take home
#
# - Re-ID ranks a gallery; nobody of the test was in the training.
# - Unsupervised training guesses labels by clustering, anew in each epoch.
# - An encoder learns wrong labels too.
# - DKD-MPL adds two views to the hard label: the epoch's teacher and the anchor.
# - Formulas are our reading; identities only measure.
#
# ## Exercises
#
# Set the named variable; the next cell says whether it is right.

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.checks import start_here

check = start_here.checks(search, lambda eps: stage.cluster(features, eps=eps))

# %% [markdown]
# **1.** What Rank-1 does luck give? A query's chance is the share of right pictures
# among those that count for it (the same person under the same camera counts in
# neither). Average it over the queries that have one.

# %% tags=["solution"]
# answer_1: one number from 0 to 1; search has query_pids, query_camids (Q,), gallery_pids and gallery_camids (G,)
answer_1 = None
if search.result is not None:
    match = search.query_pids[:, None] == search.gallery_pids  # (Q, G)
    camera = search.query_camids[:, None]
    left_out = match & (camera == search.gallery_camids) & (camera >= 0)
    n_right, n_counted = (match & ~left_out).sum(axis=1), (~left_out).sum(axis=1)
    answer_1 = (n_right / n_counted)[n_right > 0].mean()
    rng = np.random.default_rng(seed)  # and once by throwing dice
    dice = [rng.normal(size=x.shape) for x in (search.query, search.gallery)]
    luck = evaluate_ranking(*(x / np.linalg.norm(x, axis=1, keepdims=True) for x in dice), search.query_pids,
                            search.gallery_pids, search.query_camids, search.gallery_camids)
    print(f"Rank-1 by luck: {answer_1:.1%} expected, {luck.cmc[1]:.1%} in one throw. Untrained: {score.cmc[1]:.1%}.")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2.** Which query is easiest, and which is hardest? `search.result.average_precision`
# holds one value a query, NaN where nothing can be matched. Look at both with the code of
# section 1.

# %% tags=["solution"]
# answer_2: two row numbers of the query split, (easiest, hardest)
answer_2 = None
if search.result is not None:
    ap = search.result.average_precision
    answer_2 = (np.nanargmax(ap), np.nanargmin(ap))
    print(f"Query {answer_2[0]} has AP {ap[answer_2[0]]:.2f}, query {answer_2[1]} has AP {ap[answer_2[1]]:.2f}.")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3.** `eps` decides what counts as near. Cluster with 0.4 and 0.7
# (`stage.cluster(features, eps=...)`) and count the outliers, label -1. What happens to
# clusters and ARI?

# %% tags=["solution"]
# answer_3: two whole numbers, the outliers at eps 0.4 and at eps 0.7
answer_3 = []
for eps in (0.4, 0.7):
    other = stage.cluster(features, eps=eps)
    answer_3.append((other.labels < 0).sum())
    ari = cluster_agreement(other.labels, stage.pids).ari
    print(f"eps {eps}: {other.n_clusters} clusters, {answer_3[-1]} outliers" + (f", ARI {ari:.3f}" if ari is not None else ""))
# A larger radius never leaves more outliers. Clusters may join, and the ARI counts clustered pictures only.

# %% tags=["check"]
check(3, answer_3)

# %%
stage.write_metrics(
    {"mAP": search.result and search.result.mAP, "rank1": search.result and search.result.cmc[1],
     "mINP": search.result and search.result.mINP, "ari": agreement.ari, "n_clusters": pseudo.n_clusters,
     "outlier_fraction": pseudo.outlier_fraction})
print("Done. Next: 01_data.ipynb.")
