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
# # 02 · Clustering: where pseudo labels come from, and how they go wrong
#
# **You will learn**
#
# - how the k-reciprocal Jaccard distance comes from neighbour lists;
# - what DBSCAN does with it, and what its radius `eps` changes;
# - in which ways pseudo labels are wrong, and what part the cameras have.
#
# **Time** on 2 CPU cores: a minute. **Reads** the data set and the untrained features.
# **Writes** to `out_dir`: figures, and numbers in `metrics/02_clustering`.
#
# This is the field's usual clustering (Zhong et al. 2017; Ester et al. 1996; Cluster
# Contrast 2021). The paper's abstract names no method: this choice is our reading.

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
from IPython.display import display
from sklearn.cluster import DBSCAN

from dkdmpl_kit import viz
from dkdmpl_kit.clustering import jaccard_distances, pseudo_labels, sweep_eps
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.clusters import eps_lab, eps_table, error_marks, explorer
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.neighbors import knn_graph, umap_layout
from dkdmpl_kit.noise import ERROR_KINDS, cluster_agreement, error_kinds

stage = Stage("02_clustering", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
config, pids, camids = stage.config, stage.pids, stage.camids
truth = pids if stage.has_truth else None  # for measuring and for pictures, never for clustering
print(stage.dataset.summary())

# %% [markdown]
# ## 1. Neighbours
#
# $v_i$ is the [feature](course/glossary.md#feature) of picture $i$, and $s_{ij} =
# v_i^\top v_j$ is a similarity. Let $R_i$ be the list of the $k_1$ pictures most
# similar to $i$, itself first. All lists are the [epoch](course/glossary.md#epoch)'s
# k-NN graph.
#
# **Predict:** do the nearest neighbours show the same person?

# %%
if config.distance != "jaccard":
    raise KitError("This notebook computes the plain distance by hand: leave distance=jaccard.")
features = stage.features()
k1 = min(config.k1, len(features))
graph = knn_graph(features, k1)  # R_i is graph.indices[i], s_ij is graph.similarities[i]
i = len(features) // 3  # the picture that this notebook follows; try others
near = graph.indices[i, 1:11]
fig = viz.ranking_grid(stage.pictures().batch([i]), [stage.pictures().batch(near)],
                       None if truth is None else [pids[near] == pids[i]], titles=[f"picture {i}"],
                       title=f"The {len(near)} nearest training pictures of picture {i}")
known = "who they show is not known" if truth is None else f"{(pids[near] == pids[i]).sum()} show the same person"
stage.show(fig, "02_neighbours", f"Of the {len(near)} nearest pictures of picture {i}, {known}.")

# %% [markdown]
# ## 2. Reciprocal neighbours
#
# To be near is not mutual: neighbours in a crowd have *nearer* ones. Keep a
# [neighbour](course/glossary.md#k-reciprocal-neighbours) only if $i$ is among *its*
# nearest:
#
# $$P_i = \{\, j \in R_i : i \in R_j \,\}$$
#
# To get back pictures that this loses, take each $j$ in $P_i$ and the reciprocal set $Q_j$
# of its half-sized list (the first $\mathrm{round}(k_1/2)+1$ of $R_j$). If more than two
# thirds of $Q_j$ lie in $P_i$, all of $Q_j$ joins.
#
# The set becomes a row $V_i$ of weights: the softmax of $-(2 - 2 s_{ij})$ over its members.
# *Query expansion* averages $V$ over the first $k_2$ of $R_i$. Two pictures are near when
# their rows overlap:
#
# $$m_{ij} = \sum_l \min(V_{il}, V_{jl}), \qquad d_{ij} = 1 - \frac{m_{ij}}{2 - m_{ij}}.$$
#
# **By hand.** Five points with lists of 3: $R_a=(a,b,c)$, $R_b=(b,a,c)$, $R_c=(c,d,b)$,
# $R_d=(d,c,e)$, $R_e=(e,d,c)$. $a$ lists $c$, but $c$ does not list $a$. So $P_a=\{a,b\}$
# and $P_b=\{a,b,c\}$. With equal weights and no expansion:
#
# - $V_a = (\tfrac12, \tfrac12, 0, 0, 0)$ and $V_b = (\tfrac13, \tfrac13, \tfrac13, 0, 0)$;
# - $m_{ab} = \tfrac13 + \tfrac13 = \tfrac23$, so $d_{ab} = 1 - \tfrac23 / \tfrac43 = 0.5$;
# - $P_e = \{d, e\}$ shares nothing with $P_a$, so $d_{ae} = 1$.

# %% tags=["code"]
k2, half = min(config.k2, k1), min(k1, round(config.k1 / 2) + 1)


def reciprocal(j: int, k: int) -> set[int]:
    """{ n in the first k neighbours of j : j is in the first k of n }"""
    return {int(n) for n in graph.indices[j, :k] if j in graph.indices[n, :k]}


def expanded(j: int) -> set[int]:
    """P_j, and Q_n of each member n if more than two thirds of it lie in P_j."""
    circle = reciprocal(j, k1)
    close = [reciprocal(n, half) for n in circle]
    return circle.union(*(q for q in close if len(q & circle) > 2 / 3 * len(q)))


# %% tags=["code"]
def encode(j: int) -> np.ndarray:
    """V_j: softmax of -(2 - 2 s) over the expanded set, zero elsewhere; (N,)"""
    row, members = np.zeros(len(features)), sorted(expanded(j))
    row[members] = np.exp(-(2 - 2 * features[members] @ features[j]))
    return row / row.sum()


def jaccard(a: int, b: int) -> float:
    """1 - m / (2 - m), after query expansion of both rows."""
    row_a, row_b = (np.mean([encode(n) for n in graph.indices[j, :k2]], axis=0) for j in (a, b))
    m = np.minimum(row_a, row_b).sum()  # m_ij = sum_l min(V_il, V_jl)
    return max(0.0, 1 - m / (2 - m))


# %% [markdown]
# The kit's version is sparse and keeps pairs up to `max_distance`. The numbers agree:

# %%
distances = jaccard_distances(graph, k1=config.k1, k2=config.k2, max_distance=config.max_distance)
stored = distances[[i], :].tocoo()  # the pairs of picture i that the kit kept
by_kit = dict(zip(stored.coords[1].tolist(), stored.data.tolist()))
for j in [*sorted(by_kit, key=by_kit.get)[:6], (i + len(features) // 2) % len(features)]:
    by_hand, kept = jaccard(i, j), by_kit.get(j)
    assert by_hand > config.max_distance - 1e-5 if kept is None else abs(by_hand - kept) < 1e-5
    print(f"d({i}, {j}) by hand {by_hand:.5f}, by the kit {f'above {config.max_distance}' if kept is None else f'{kept:.5f}'}")

# %% [markdown]
# **Predict:** which set holds the largest share of the right person: the nearest, the
# reciprocal, or the expanded one?

# %%
closest = (features @ features[i]).argsort()[::-1]
groups = {"nearest": graph.indices[i], "reciprocal": closest[np.isin(closest, list(reciprocal(i, k1)))],
          "expanded": closest[np.isin(closest, list(expanded(i)))]}
members = np.concatenate(list(groups.values()))
names = np.repeat([f"{n} {name}" for n, name in enumerate(groups, 1)], [len(group) for group in groups.values()])
frames = None if truth is None else [viz.PALETTE["right" if pids[j] == pids[i] else "wrong"] for j in members]
fig = viz.contact_sheet(stage.pictures().batch(members), rows=names, row_name="set", frames=frames, max_columns=14,
                        title=f"The circle of picture {i}" + (": green frames are the same person" if truth is not None else ""))
stage.show(fig, "02_reciprocal", "The sets hold " + ", ".join(f"{len(group)} ({name})" for name, group in groups.items())
           + " pictures; each row starts with the most similar one.")

# %%
if truth is not None:
    share = {name: float(np.mean(pids[group] == pids[i])) for name, group in groups.items()}
    order = "purer than" if share["reciprocal"] > share["nearest"] else "not purer than"
    stage.say("purer", f"**Answer.** For picture {i} the reciprocal set is {order} the list of the nearest: {share['nearest']:.0%} "
              f"of the nearest, {share['reciprocal']:.0%} of the reciprocal and {share['expanded']:.0%} of the expanded set are "
              "the same person (itself included).", **share)

# %% [markdown]
# ## 3. DBSCAN, and its radius
#
# [DBSCAN](course/glossary.md#dbscan) reads only these distances. A picture with at least
# `min_samples` pictures within `eps`, itself included, is a **core**. Cores within `eps` of
# each other share a [cluster](course/glossary.md#cluster), pictures near a core join it,
# and the rest are **[outliers](course/glossary.md#outlier)**, label $-1$, left out in this
# epoch. The number of clusters is *found*, not given.
#
# **Predict:** let `eps` grow. What happens to outliers, clusters,
# [ARI](course/glossary.md#adjusted-rand-index), and the right labels among *all* pictures?

# %%
sweep = sweep_eps(distances, min_samples=config.min_samples)  # what eps=auto looks at
eps = sweep.chosen if config.eps == "auto" else config.eps
pseudo = pseudo_labels(distances, eps=eps, min_samples=config.min_samples)
grid = np.linspace(0.1, config.max_distance, 29)
curve = eps_table(distances, grid, config.min_samples, pids)
compared = truth is not None and not np.isnan(curve["ari"]).all()
fig = viz.eps_curve(grid, curve["clusters"], curve["outliers"], curve["ari"] if compared else None,
                    curve["right"] if compared else None, chosen=eps, auto=sweep.chosen,
                    n_identities=None if truth is None else len(np.unique(pids)), title="What the radius eps does")
stage.show(fig, "02_eps", f"From eps = {grid[0]:g} to {grid[-1]:g} the outliers go from {curve['outliers'][0]:.0%} to "
           f"{curve['outliers'][-1]:.0%} of the pictures, the clusters from {curve['clusters'][0]} to {curve['clusters'][-1]}.")

# %%
size = "more" if pseudo.outlier_fraction > 0.5 else "not more"
stage.say("eps", f"At the setting eps = {eps:g} there are {pseudo.n_clusters} clusters, and {size} than half of the pictures are left "
          f"out ({pseudo.outlier_fraction:.0%}).", clusters=pseudo.n_clusters, outliers=pseudo.outlier_fraction)
if compared:
    best, most = int(np.nanargmax(curve["ari"])), int(np.argmax(curve["right"]))
    stage.say("best", f"**Answer.** The ARI is highest at eps = {grid[best]:.2f}, where {curve['outliers'][best]:.0%} are left out and "
              f"{curve['right'][best]:.0%} of all pictures have a right label. Right labels are most at eps = {grid[most]:.2f}: "
              f"{curve['right'][most]:.0%}. The curves choose {'the same radius' if best == most else 'different radii'}.",
              eps=grid.tolist(), ari=np.nan_to_num(curve["ari"], nan=-1).tolist(), right=curve["right"].tolist())

# %% [markdown]
# The ARI counts clustered pictures only: read the black curve beside it. To choose by
# either takes identities, which an [unsupervised](course/glossary.md#unsupervised)
# method must not have; `settings="eps=auto"` takes the `eps` where the number of
# clusters, averaged over three steps, is largest.

# %%
if compared:
    auto, top = float((error_kinds(sweep.labels, pids) == "right").mean()), max(curve["right"])
    far = "more than" if top - auto > 0.1 else "at most"
    stage.say("auto", f"`eps=auto` takes {sweep.chosen:g}. Its right labels, {auto:.0%} of all pictures, are {far} 10 points below "
              f"the most of the curve, {top:.0%}.", right=auto, highest=float(top))

# %% [markdown]
# In JupyterLab, move the radius: where do the rows fill with strangers?

# %%
if interactive:
    display(eps_lab(stage, features, distances, eps))

# %% [markdown]
# ## 4. The distances as a picture
#
# **Predict:** sort pictures by cluster. What does the matrix of their distances look like?

# %%
stage.require("clusters")

# %%
largest = np.argsort(-np.bincount(pseudo.labels[pseudo.labels >= 0]), kind="stable")[:6]
shown = np.concatenate([np.flatnonzero(pseudo.labels == k)[:14] for k in sorted(largest)])
part, of = distances[shown, :][:, shown], pseudo.labels[shown]
fig = viz.jaccard_matrix(part, labels=of, title=f"Jaccard distances within and between {len(largest)} clusters")
held = np.zeros(part.shape, bool)
held[part.tocoo().coords] = True
within = (of[:, None] == of) & ~np.eye(len(of), dtype=bool)
inside, between = float(held[within].mean()), float(held[of[:, None] != of].mean())
stage.show(fig, "02_jaccard", f"The {len(largest)} largest clusters, at most 14 pictures of each. White pairs are farther apart "
           f"than {config.max_distance:g}.")
stage.say("blocks", f"**Answer.** A block on the diagonal is one cluster. Distances up to {config.max_distance:g} have {inside:.0%} of "
          f"the pairs within a cluster, and {between:.0%} of the pairs of two clusters: the clusters are "
          f"{'mostly' if inside > between else 'hardly'} blocks.", inside=inside, between=between)

# %% [markdown]
# A spot off the diagonal: a larger `eps` may join these clusters.

# %% [markdown]
# ## 5. Kinds of error, on a map
#
# A [pseudo label](course/glossary.md#pseudo-label) is:
#
# - **[merged](course/glossary.md#merged)** if its cluster's main person is somebody else:
#   training pulls two people together;
# - **[split](course/glossary.md#split)** if the main person is right, but another cluster
#   holds more of her pictures: training pushes one person apart;
# - missing for an **outlier**, and **right** otherwise.
#
# [UMAP](course/glossary.md#umap) draws the neighbour graph in 2 dimensions. It keeps
# neighbourhoods, not distances: ask questions of a map, answer them with numbers.
#
# **Predict:** does each person form one island? Which error is most frequent?

# %%
xy = umap_layout(graph, seed=seed)
kinds = error_kinds(pseudo.labels, pids)
people, times = np.unique(pids[pseudo.labels >= 0], return_counts=True)
six = people[np.argsort(-times, kind="stable")[:6]]
panels = [{"colour_by": None if truth is None else np.where(np.isin(pids, six), pids, -1),
           "kind": "identity" if truth is None else "some", "title": "people" if truth is None else f"{len(six)} people, a colour each"},
          {"colour_by": camids if stage.has_cameras else None, "kind": "camera", "title": "camera"},
          {"colour_by": None if truth is None else kinds, "kind": "error", "title": "kind of error"}]
fig = viz.feature_maps([{"xy": xy, **panel} for panel in panels], title="One map of the untrained features, three colourings")
who = "; who they show is not known" if truth is None else f"; on the left the {len(six)} people with most clustered pictures"
stage.show(fig, "02_maps", f"{len(xy)} pictures, a point each{who}.")

# %%
seen = {name: float(np.mean(kinds == name)) for name in ERROR_KINDS if (kinds == name).any()} if truth is not None else {}
if seen:
    wrong = {name: value for name, value in seen.items() if name != "right"}
    worst = max(wrong, key=wrong.get) if wrong else "none"
    stage.say("kinds", "**Answer.** " + ", ".join(f"{name} {value:.0%}" for name, value in seen.items())
              + f" of all pictures. The most frequent error: {worst}.", worst=worst, shares=seen)

# %% [markdown]
# For rendered pictures, what goes with an error?

# %%
marks = error_marks(stage.factors())
if marks and {"right", "merged"} <= set(seen):
    merged, correct = ({name: float(has[kinds == kind].mean()) for name, has in marks.items()} for kind in ("merged", "right"))
    first = max(marks, key=lambda name: merged[name] - correct[name])
    listed = ", ".join(f"{name} {merged[name]:.0%} against {correct[name]:.0%}" for name in marks)
    clear = f"*{first}* is" if merged[first] - correct[first] >= 0.05 else "none is"
    stage.say("with_errors", f"Among merged against right pictures: {listed}. Of these {clear} more frequent by 5 points and more.",
              merged=merged, right=correct)

# %% [markdown]
# ## 6. Look around
#
# In JupyterLab drag, scroll, click a picture to open its cluster, or lasso many: the
# lasso's buttons write `corrections.csv`, which the clustering obeys.
#
# **Task:** colour by kind of error and raise `eps`. Do *split* pictures come together before
# different people are *merged*?

# %%
if interactive:
    display(explorer(stage, xy, features, eps))

# %% [markdown]
# ## 7. The cameras' share
#
# **Predict:** how often is the nearest neighbour from the same camera, and how often by
# chance?

# %%
stage.require("truth", "cameras")

# %%
sizes = np.bincount(camids)
chance = float(np.mean((sizes[camids] - 1) / (len(camids) - 1)))  # of a neighbour drawn at random
alike = float(np.mean(camids[graph.indices[:, 1]] == camids))
stage.say("cameras", f"**Answer.** The nearest neighbour is from the same camera in {alike:.1%} of the cases, "
          f"{'more' if alike > chance else 'not more'} often than by chance ({chance:.1%}).", alike=alike, chance=chance)

# %% [markdown]
# A simple remedy subtracts from each feature the mean $\bar v$ of its camera and
# restores length 1: $v_i \leftarrow (v_i - \bar v) / \lVert v_i - \bar v \rVert$.
# `centre_cameras` is off by default: it uses camera ids, and the abstract does not name
# it.
#
# **Predict:** does it help here?

# %%
several = np.unique(camids, return_counts=True)[1].min() > 1  # a camera of one picture has no use for its mean
centred = stage.cluster(features, centre_cameras=True) if several else pseudo
agreement = cluster_agreement(pseudo.labels, pids)
after = [float(np.mean(error_kinds(labels, pids) == "right")) for labels in (pseudo.labels, centred.labels)]
change = "more" if after[1] > after[0] else "not more"
stage.say("centring", f"**Answer.** With it {change} pictures have a right label: {after[1]:.1%} of all, {after[0]:.1%} without; "
          f"{centred.n_clusters} clusters against {pseudo.n_clusters}.", before=after[0], after=after[1])

# %% [markdown]
# Where each camera saw different people, this also removes part of the people.

# %% [markdown]
# ## Take home
#
# - Two pictures are near when they share mutual neighbours (Jaccard).
# - DBSCAN finds the number of clusters, and leaves pictures out.
# - Read the ARI beside the right labels among all pictures.
# - Labels are merged, split or missing; each needs another remedy.
# - A method that chooses `eps` by identities is not unsupervised.
#
# ## Exercises

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.checks import clustering as clustering_checks

plain = clustering_checks.plain_distances(features)
check = clustering_checks.checks(stage, features, distances, eps)

# %% [markdown]
# **1.** Cluster `distances` with `min_samples` 2, 4 and 8 at the radius `eps`, and count the
# outliers. What happens to the number of clusters?

# %% tags=["solution"]
# answer_1: three whole numbers, the outliers at min_samples 2, 4 and 8
answer_1 = []
for min_samples in (2, 4, 8):
    found = pseudo_labels(distances, eps=eps, min_samples=min_samples)
    answer_1.append((found.labels < 0).sum())
    print(f"min_samples {min_samples}: {found.n_clusters} clusters, {answer_1[-1]} outliers")
# Fewer pictures are cores, so outliers can only grow. Clusters vanish or fall apart: the count may go either way.

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2.** Is the [Jaccard distance](course/glossary.md#jaccard-distance) worth its
# computation? `plain` holds $1 - v_i^\top v_j$. Find a radius for `plain_labels` that leaves
# about as many outliers as `pseudo.outlier_fraction`, and compare the ARI. (A larger radius
# never leaves more: halve an interval again and again.)

# %%
def plain_labels(radius: float) -> np.ndarray:
    return DBSCAN(eps=radius, min_samples=config.min_samples, metric="precomputed").fit_predict(plain)


# %% tags=["solution"]
# answer_2: the radius, one number above 0
low, high = 0.0, float(plain.max()) + 1e-6
for _ in range(16):
    middle = (low + high) / 2
    if np.mean(plain_labels(middle) < 0) > pseudo.outlier_fraction:
        low = middle  # too many outliers: a larger radius
    else:
        high = middle
answer_2 = high
scores = [cluster_agreement(labels, pids[:len(labels)]).ari for labels in (plain_labels(answer_2), pseudo.labels)]
print(f"Radius {answer_2:.4f}: ARI {scores[0]} by the plain distance, {scores[1]} by Jaccard.")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3.** How many clusters are found with half of `k1` (rounded down, 2 at least), with `k1`,
# and with twice as much (at most the number of pictures)? Use
# `stage.cluster(features, k1=..., k2=...)`; keep `k2`, but never above `k1`.

# %% tags=["solution"]
# answer_3: three whole numbers, the clusters found with half of k1, with k1, and with twice k1
answer_3 = []
for k in (max(2, config.k1 // 2), config.k1, min(2 * config.k1, len(features))):
    found = stage.cluster(features, k1=k, k2=min(config.k2, k))
    answer_3.append(found.n_clusters)
    print(f"k1 {k}: {found.n_clusters} clusters, {found.outlier_fraction:.0%} outliers")
# Lists much longer than a person has pictures must hold strangers; short lists miss pictures of the person.

# %% tags=["check"]
check(3, answer_3)

# %%
stage.write_metrics(
    {"n_clusters": pseudo.n_clusters, "outlier_fraction": pseudo.outlier_fraction, "ari": agreement.ari, "nmi": agreement.nmi,
     "purity": agreement.purity, "nearest_from_same_camera_untrained": alike,
     **{f"share_{name}": value for name, value in seen.items()}})
print("Done. Next: 03_gkd.ipynb.")
