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
# - how the k-reciprocal Jaccard distance is computed from neighbour lists, by hand for
#   one picture;
# - what DBSCAN does with it, and what its radius `eps` changes;
# - in which ways pseudo labels are wrong, and how much of that the cameras cause.
#
# **Time** on 2 CPU cores: about a minute, most of it for the map. **Reads** the data
# set and the untrained features in `out_dir/artefacts` (made if missing). **Writes**
# pictures to `out_dir/figures`, numbers to `out_dir/metrics/02_clustering`.
#
# This is the field's usual clustering (distance: Zhong et al. 2017; DBSCAN: Ester et
# al. 1996; recipe: Cluster Contrast 2021). The paper's abstract says only that one
# clustering an epoch gives the pseudo labels; choosing this one is our reading.

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
from IPython.display import Markdown, display

from dkdmpl_kit import viz
from dkdmpl_kit.clustering import centre_by_camera, jaccard_distances, percolation_warning, pseudo_labels, sweep_eps
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.neighbors import knn_graph, umap_layout
from dkdmpl_kit.noise import ERROR_KINDS, cluster_agreement, clustering_summary, error_kinds, gallery_rows
from dkdmpl_kit.viz.style import count

stage = Stage("02_clustering", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())
pids, camids = stage.pids, stage.camids
truth = pids if stage.has_truth else None  # for measuring and for pictures, never for clustering
if truth is None:
    print("The identities of these pictures are unknown: whatever compares labels with the truth says so below.")
if not stage.has_cameras:
    print("The cameras are unknown: section 5 has nothing to show.")

# %% [markdown]
# ## 1. Neighbours
#
# Let $R_i$ be the $k_1$ nearest images of image $i$ by similarity
# $s_{ij} = v_i^\top v_j$, with $i$ itself first. All lists together are the **k-NN
# graph**, computed once an epoch.
#
# **Predict:** do the nearest neighbours show the same person? The same camera?

# %%
config = stage.config
if config.distance != "jaccard":
    raise KitError("This notebook computes the plain distance by hand: leave distance=jaccard.")
features = stage.features()
k1 = min(config.k1, len(features))
graph = knn_graph(features, k1)  # R_i is graph.indices[i], s_ij is graph.similarities[i]
i = len(features) // 3  # the picture that this notebook follows; try others
near = graph.indices[i, 1:11]
same_person = None if truth is None else [pids[near] == pids[i]]
fig = viz.ranking_grid(stage.pictures().batch([i]), [stage.pictures().batch(near)], same_person,
                       titles=[f"picture {i}"], title=f"The {len(near)} nearest training pictures of picture {i}")
stage.save_figure(fig, "02_neighbours", caption="The nearest neighbours of one picture, untrained features.")
fig

# %% [markdown]
# ## 2. Reciprocal neighbours
#
# Being near is not mutual: a picture in a crowd has near neighbours that all have
# *nearer* ones. Keep a neighbour only if $i$ is also among *its* nearest:
#
# $$P_i = \{\, j \in R_i : i \in R_j \,\}$$
#
# This also removes some pictures of the same person. To get them back, take each $j$ in
# $P_i$, its half-sized list $H_j$ (the first $\mathrm{round}(k_1/2)+1$ of $R_j$) and
# the [reciprocal](course/glossary.md#k-reciprocal-neighbours) set of that,
# $Q_j = \{\, l \in H_j : j \in H_l \,\}$. If more than two thirds of $Q_j$ lie in
# $P_i$, all of $Q_j$ joins $P_i$.
#
# Each set becomes a row of weights: $V_i$ is the softmax of $-(2 - 2 s_{ij})$ over the
# expanded set. **Query expansion** averages $V$ over the first $k_2$ of $R_i$. Two
# pictures are near when their rows overlap:
#
# $$m_{ij} = \sum_l \min(V_{il}, V_{jl}), \qquad d_{ij} = 1 - \frac{m_{ij}}{2 - m_{ij}}.$$
#
# So $d_{ij}$ is 0 for equal rows, and 1 for rows without a common neighbour:

# %% tags=["code"]
k2, half = min(config.k2, k1), min(k1, round(config.k1 / 2) + 1)


def reciprocal(j: int, k: int) -> set[int]:
    """{ n in the first k neighbours of j : j is in the first k of n }"""
    return {int(n) for n in graph.indices[j, :k] if j in graph.indices[n, :k]}


def expanded(j: int) -> set[int]:
    """P_j, and the close circle Q_n of each member n if more than two thirds of it lie in P_j."""
    circle = reciprocal(j, k1)
    close = [reciprocal(n, half) for n in circle]
    return circle.union(*(q for q in close if len(q & circle) > 2 / 3 * len(q)))


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
# These sets and loops are slow. The kit's version is sparse and parallel, and keeps
# only pairs with a distance of at most `max_distance`. It must give the same numbers.

# %%
distances = jaccard_distances(graph, k1=config.k1, k2=config.k2, max_distance=config.max_distance)
stored = distances[[i], :].tocoo()  # the pairs of picture i that the kit kept
by_kit = dict(zip(stored.coords[1].tolist(), stored.data.tolist()))
some = [*sorted(by_kit, key=by_kit.get)[:6], *graph.indices[i, -3:].tolist(), (i + len(features) // 2) % len(features)]
for j in some:
    by_hand = jaccard(i, j)
    if j in by_kit:
        np.testing.assert_allclose(by_hand, by_kit[j], atol=1e-5)
    else:
        assert by_hand > config.max_distance - 1e-5
    print(f"d({i}, {j}) by hand {by_hand:.5f}, by the kit {f'{by_kit[j]:.5f}' if j in by_kit else f'above {config.max_distance}'}")

# %%
closeness = features @ features[i]
sets = {"1 nearest": graph.indices[i].tolist(), "2 reciprocal": sorted(reciprocal(i, k1), key=lambda j: -closeness[j]),
        "3 expanded": sorted(expanded(i), key=lambda j: -closeness[j])}
members = np.array([j for group in sets.values() for j in group])
names = np.array([name for name, group in sets.items() for _ in group])
frames = None if truth is None else [viz.PALETTE["right" if pids[j] == pids[i] else "wrong"] for j in members]
fig = viz.contact_sheet(stage.pictures().batch(members), rows=names, row_name="set", frames=frames, max_columns=14,
                        title=f"The circle of picture {i}" + (": green frames are the same person" if truth is not None else ""))
stage.save_figure(fig, "02_reciprocal", caption="Nearest, reciprocal and expanded neighbours of one picture.")
fig

# %%
for name, group in sets.items():
    right = "" if truth is None else f", {np.mean(pids[group] == pids[i]):.0%} of them the same person"
    print(f"{name[2:]:>10}: {count(len(group), 'picture')}{right}")

# %% [markdown]
# Compare the share of the right person in the three sets: the reciprocal test should
# make the set [purer](course/glossary.md#purity), the expansion larger. (Each row
# starts with the most similar pictures.)
#
# ## 3. The distances as a picture
#
# **Predict:** sort the pictures by identity. If the distance were perfect, what would
# the matrix look like?

# %%
shown = np.flatnonzero(np.isin(pids, np.unique(pids)[:12]))[:240] if truth is not None else np.arange(min(120, len(pids)))
fig = viz.jaccard_matrix(distances[shown, :][:, shown], labels=None if truth is None else pids[shown])
stage.save_figure(fig, "02_jaccard", caption="Jaccard distances of some identities, sorted by identity.")
fig

# %% [markdown]
# A group on the axes is an identity (where known); white pairs are too far apart to be
# kept. Dark squares on the diagonal are what we want. Dark spots elsewhere are
# different people who share neighbours. Inside a square, look for blocks of one camera
# each.
#
# ## 4. DBSCAN, and its radius
#
# [DBSCAN](course/glossary.md#dbscan) reads only these distances. A picture with at
# least `min_samples` pictures within `eps`, itself included, is a **core**. Cores
# within `eps` of each other share a cluster, pictures near a core join it, and the rest
# are **[outliers](course/glossary.md#outlier)**, label $-1$, left out in this epoch.
# The number of clusters is *found*, not given.
#
# **Predict:** let `eps` grow. What happens to the outliers, to the number of clusters,
# to the [ARI](course/glossary.md#adjusted-rand-index)?

# %%
grid = np.linspace(0.1, config.max_distance, 29)
sweep = sweep_eps(distances, min_samples=config.min_samples)  # what eps=auto looks at
eps = sweep.chosen if config.eps == "auto" else config.eps
curve = [pseudo_labels(distances, eps=float(eps), min_samples=config.min_samples) for eps in grid]
ari = [cluster_agreement(found.labels, pids).ari for found in curve]  # None where nothing can be compared
fig = viz.eps_curve(grid, [found.n_clusters for found in curve], [found.outlier_fraction for found in curve],
                    None if truth is None else [np.nan if a is None else a for a in ari], chosen=eps, auto=sweep.chosen,
                    n_identities=None if truth is None else len(np.unique(pids)))
stage.save_figure(fig, "02_eps", caption="Clusters, outliers and ARI against eps.")
fig

# %%
pseudo = pseudo_labels(distances, eps=eps, min_samples=config.min_samples)
agreement = cluster_agreement(pseudo.labels, pids)
print(f"At eps = {eps}: {pseudo.n_clusters} clusters, {pseudo.outlier_fraction:.0%} outliers.")
if truth is not None and any(a is not None for a in ari):
    best = int(np.nanargmax([np.nan if a is None else a for a in ari]))
    chosen_ari = "unknown" if agreement.ari is None else f"{agreement.ari:.3f}"
    print(f"ARI there {chosen_ari}; the best on this curve is {ari[best]:.3f} at eps = {grid[best]:.2f}, "
          f"with {curve[best].outlier_fraction:.0%} of the pictures left out.")
    auto_ari = cluster_agreement(sweep.labels, pids).ari
    print(f"Without identities, eps=auto takes {sweep.chosen:g}: ARI {'unknown' if auto_ari is None else f'{auto_ari:.3f}'}.")
if percolation_warning(pseudo.labels, eps):
    print(percolation_warning(pseudo.labels, eps))
if pseudo.n_clusters < 2:
    print("Fewer than two clusters: training could not start. Raise eps or lower min_samples, for example with "
          "settings='min_samples=2'.")

# %% [markdown]
# Read the three panels together: the ARI counts clustered pictures only, so it can be
# high while nearly all are outliers. You could *choose* the best `eps` only because you
# know the identities; an [unsupervised](course/glossary.md#unsupervised) method must
# not. `settings="eps=auto"` chooses without them, in each epoch: `sweep_eps` takes the
# `eps` where the number of clusters peaks. Below it pictures are left out; above it
# clusters grow together. How far from the best ARI is that choice here?
#
# In JupyterLab, move the radius yourself. You see the purest cluster, the most mixed
# one and some outliers (without identities: the most compact cluster and the loosest).
# How small can `eps` become before half of the pictures are left out? How large before
# the rows fill with strangers?

# %%
if interactive:
    from dkdmpl_kit.lessons import lab as widgets

    def recluster(eps: float) -> tuple[np.ndarray, dict]:
        found = pseudo_labels(distances, eps=min(eps, config.max_distance), min_samples=config.min_samples)
        return found.labels, {"clusters": found.n_clusters, "outliers": found.outlier_fraction,
                              "ari": cluster_agreement(found.labels, pids).ari}

    def gallery(labels: np.ndarray):
        return viz.cluster_gallery(stage.pictures().pixels, gallery_rows(labels, truth, features, clusters_each=1), truth)

    display(widgets.eps_slider(recluster, gallery, value=eps, high=config.max_distance))

# %% [markdown]
# ## 5. The cameras' share in it
#
# **Predict:** how often was the nearest neighbour taken by the same camera? How often
# would that happen by chance?

# %%
shares = {}
if stage.has_cameras:
    sizes = np.bincount(camids)
    chance = float(np.mean((sizes[camids] - 1) / (len(camids) - 1)))  # of a neighbour drawn at random
    shares["untrained"] = float(np.mean(camids[graph.indices[:, 1]] == camids))
    print(f"The nearest neighbour comes from the same camera in {shares['untrained']:.1%} of the cases; by chance it would "
          f"in {chance:.1%}.")
    clustered = [np.flatnonzero(pseudo.labels == k) for k in range(pseudo.n_clusters)]
    if clustered:
        mean = np.average([np.bincount(camids[c]).max() / len(c) for c in clustered], weights=[len(c) for c in clustered])
        print(f"A clustered picture finds {mean:.0%} of its cluster under the cluster's main camera.")
else:
    print("The cameras of these pictures are unknown.")

# %% [markdown]
# If the first number is well above chance, the features partly measure the camera. A
# simple remedy, for the clustering alone: subtract from each feature the **mean of its
# camera** and bring it back to length 1,
# $v_i \leftarrow (v_i - \mu_{c(i)}) / \lVert v_i - \mu_{c(i)} \rVert$. This option
# (`centre_cameras`) is off by default: it is *not* in the paper's abstract, and it uses
# camera ids.

# %%
rows = [("as they are", pseudo, agreement, shares.get("untrained"))]
if stage.has_cameras and len(np.unique(camids)) > 1:
    try:
        centred = centre_by_camera(features, camids)
    except KitError as error:
        print(error)
    else:
        centred_graph = knn_graph(centred, k1)
        found = stage.cluster(features, centre_cameras=True)
        shares["centred"] = float(np.mean(camids[centred_graph.indices[:, 1]] == camids))
        rows.append(("centred by camera", found, cluster_agreement(found.labels, pids), shares["centred"]))
lines = []
for name, p, a, share in rows:
    cells = [None if share is None else f"{share:.1%}", p.n_clusters, f"{p.outlier_fraction:.1%}",
             None if a.ari is None else f"{a.ari:.3f}", None if a.purity is None else f"{a.purity:.1%}"]
    lines.append(f"| {name} | " + " | ".join("–" if cell is None else str(cell) for cell in cells) + " |")
Markdown("\n".join(["| features | nearest from the same camera | clusters | outliers | ARI | purity |",
                    "|---|---|---|---|---|---|", *lines]))

# %% [markdown]
# Centring removes what all pictures of a camera share, but not what concerns *some* of
# them (a back view, a bin in front). Where each camera saw different people, it also
# removes part of the people.
#
# ## 6. A map
#
# [UMAP](course/glossary.md#umap) draws the neighbour graph in 2 dimensions: the same
# map three times, coloured by [pseudo label](course/glossary.md#pseudo-label), by true
# identity, and by camera.
#
# **Predict:** in which of the three does each island have one colour?

# %%
xy = umap_layout(graph, seed=seed)
panels = [{"xy": xy, "colour_by": pseudo.labels, "kind": "cluster", "title": "pseudo label"},
          {"xy": xy, "colour_by": truth, "kind": "identity", "title": "true identity"},
          {"xy": xy, "colour_by": camids if stage.has_cameras else None, "kind": "camera", "title": "camera"}]
fig = viz.feature_maps(panels, title="One map of the untrained features, three colourings")
stage.save_figure(fig, "02_maps", caption="UMAP of the untrained features by pseudo label, identity and camera.")
fig

# %% [markdown]
# **The map is only a picture; the clusters were found in feature space.** UMAP keeps
# neighbourhoods, not distances: gaps and sizes of islands mean little, and another seed
# gives another map. Use it to ask questions ("is this island a person or a camera?"),
# and answer them with numbers.
#
# ## 7. What is in the clusters
#
# **Predict:** what do the pictures of a mixed cluster have in common? What do outliers
# look like?

# %%
rows = gallery_rows(pseudo.labels, truth, features, clusters_each=3)
fig = viz.cluster_gallery(stage.pictures().pixels, rows, truth)
stage.save_figure(fig, "02_gallery", caption="Purest clusters, most mixed clusters, outliers.")
fig

# %% [markdown]
# ## 8. Kinds of error
#
# A pseudo label can be wrong in different ways, and each needs another remedy:
#
# - **[merged](course/glossary.md#merged)**: the main person of the picture's cluster is
#   somebody else. Training pulls different people together;
# - [**split**](course/glossary.md#split): the main person is right, but another cluster
#   holds more of her pictures. Training pushes one person apart;
# - **outlier**: not clustered, so not learnt from in this epoch;
# - **right**: the rest.
#
# **Predict:** which kind is the most frequent here?

# %%
kinds = error_kinds(pseudo.labels, pids)
fig = viz.explorer_maps(xy, pseudo.labels, kinds if truth is not None else None,
                        summary=str(clustering_summary(pseudo.labels, truth)))
stage.save_figure(fig, "02_errors", caption="Pseudo labels and kinds of error on the map of the untrained features.")
fig

# %%
known = [name for name in ERROR_KINDS if (kinds == name).any()] if truth is not None else []
if known:
    most = max(known, key=lambda name: (kinds == name).sum())
    print(", ".join(f"{name} {np.mean(kinds == name):.0%}" for name in known) + f". The most frequent: {most}.")
else:
    print("Without identities the kinds of error cannot be told apart.")

# %% [markdown]
# For rendered pictures we can ask *why*: how often is something in front, is the person
# seen from behind, or does she wear another's clothes (a look-alike)? If a column is
# larger for one kind than for *right*, that factor occurs with this kind of error. (To
# show a cause, one would have to change it alone.)

# %%
factors = stage.factors()
if factors is None or truth is None or "pic_view" not in factors[0]:
    table = "*Only rendered pictures have a manifest of what made them.*"
else:
    causes = {"something in front": np.array([f["pic_occluder"] != "none" for f in factors]),
              "seen from behind": np.array([f["pic_view"] == "back" for f in factors]),
              "look-alike": np.array([f["id_lookalike_of"] is not None for f in factors])}
    lines = [f"| {kind} | {(kinds == kind).sum()} | " + " | ".join(f"{has[kinds == kind].mean():.0%}" for has in causes.values())
             + " |" for kind in known]
    table = "\n".join([f"| kind | pictures | {' | '.join(causes)} |", "|---" * (2 + len(causes)) + "|", *lines])
Markdown(table)

# %% [markdown]
# ## 9. Look around
#
# In JupyterLab the map below is interactive.
#
# - **Look.** Drag to pan, scroll to zoom, point at a picture to see it. Click one: its
#   cluster opens below, beside the clusters with the most similar centroids. The lasso
#   button at the left lets you draw around many pictures.
# - **Cluster again.** `eps` and `min_samples` are DBSCAN's (section 4), `k1` and `k2`
#   the lengths of the neighbour lists (sections 1 and 2; they act when you let go). A
#   cluster keeps its number and colour as long as it can be followed.
# - **Colour and find.** `colour by` offers what is known about the pictures. `cluster`
#   opens a cluster by its number; -1 closes it.
# - **Correct.** The buttons say of the lassoed pictures that they are one, that they
#   leave their cluster, or that they are not the same. They write `corrections.csv` in
#   `out_dir`, and the clustering keeps to it, here and in a training that is given
#   `corrections`.
#
# **Predict:** raise `eps` a little: which clusters will merge first?
#
# Then try three things:
#
# 1. Where identities are known, colour by kind of error and raise `eps` step by step.
#    Do *split* pictures come together before different people are *merged*? The line
#    under the controls counts both.
# 2. Look for an island with two labels, or one label on two islands, and click into
#    them. What do the pictures of a cluster share: the person, the clothes, the camera?
# 3. Halve `k1`, then bring it back. Which clusters fall apart, and do they return with
#    their numbers?

# %%
if interactive:
    compared = centre_by_camera(features, camids) if config.centre_cameras else features
    display(widgets.ClusterExplorer(xy, compared, pids=truth, camids=camids if stage.has_cameras else None,
                                    pictures=stage.pictures(), eps=eps, min_samples=config.min_samples, k1=config.k1,
                                    k2=config.k2, max_distance=config.max_distance,
                                    names=[stage.dataset.relative(image.path) for image in stage.dataset.train],
                                    corrections=f"{out_dir}/corrections.csv"))

# %% [markdown]
# The map does not move while you cluster: it is drawn once. So two points far apart on
# it can share a label.
#
# ## Exercises
#
# Put each answer into the named variable; the cell below it says whether it is right,
# or why not. (The folded cell prepares the checks: it contains the answers.)

# %% jupyter={"source_hidden": true} tags=["check"]
from sklearn.cluster import DBSCAN

from dkdmpl_kit.lessons.exercises import exercises, value

chosen = np.arange(min(len(features), 3000))
plain = np.clip(1 - features[chosen] @ features[chosen].T, 0, None)  # 1 - v_i . v_j, for exercise 2


def radius_test(answer):
    def share(radius):
        return np.mean(DBSCAN(eps=radius, min_samples=config.min_samples, metric="precomputed").fit_predict(plain) < 0)

    radius, target = float(answer), pseudo.outlier_fraction
    if not radius > 0:
        return "a radius is above 0."
    lower, here, upper = (share(factor * radius) for factor in (0.98, 1, 1.02))
    if abs(here - target) <= 0.05 or lower >= target >= upper:  # near enough, or the share leaps over the target just here
        return ""
    return (f"it leaves {here:.0%} of the pictures as outliers, and {target:.0%} are wanted: make it "
            f"{'larger' if here > target else 'smaller'}.")


left_out = [int((pseudo_labels(distances, eps=eps, min_samples=m).labels < 0).sum()) for m in (2, 4, 8)]
k1_tried = (max(2, config.k1 // 2), config.k1, min(2 * config.k1, len(features)))
with_k1 = [stage.cluster(features, k1=k, k2=min(config.k2, k)) for k in k1_tried]
check = exercises({
    1: value(left_out, mistakes={"those are the pictures that are clustered; count the others.":
                                 [len(features) - n for n in left_out],
                                 "those are the clusters; count the outliers.":
                                 [pseudo_labels(distances, eps=eps, min_samples=m).n_clusters for m in (2, 4, 8)]}),
    2: radius_test,
    3: value([found.n_clusters for found in with_k1], mistakes={
        "those are the outliers; count the clusters.": [int((found.labels < 0).sum()) for found in with_k1]})})

# %% [markdown]
# **1.** `min_samples` says how many pictures make a core. Cluster `distances` with
# `min_samples` 2, 4 and 8, at the radius `eps`, and count the outliers. How do
# the number of clusters and the ARI change?

# %% tags=["solution"]
# answer_1: three whole numbers, the outliers at min_samples 2, 4 and 8
answer_1 = []
for min_samples in (2, 4, 8):
    found = pseudo_labels(distances, eps=eps, min_samples=min_samples)
    answer_1.append((found.labels < 0).sum())
    a = cluster_agreement(found.labels, pids).ari
    print(f"min_samples {min_samples}: {found.n_clusters} clusters, {found.outlier_fraction:.0%} outliers, "
          f"ARI {'unknown' if a is None else f'{a:.3f}'}")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2.** Is the [Jaccard distance](course/glossary.md#jaccard-distance) worth its
# computation? Give DBSCAN the plain distance $1 - v_i^\top v_j$ instead: `plain` holds
# it (for 3,000 pictures at most). Find a radius that leaves about as many outliers as
# before, `pseudo.outlier_fraction`, and compare the ARI.
# (`DBSCAN(eps=radius, min_samples=config.min_samples, metric="precomputed").fit_predict(plain)`
# gives the labels. A larger radius never leaves more outliers, so you can halve an
# interval again and again.)

# %% tags=["solution"]
# answer_2: the radius, one number above 0
def plain_labels(radius: float) -> np.ndarray:
    return DBSCAN(eps=radius, min_samples=config.min_samples, metric="precomputed").fit_predict(plain)


low, high = 0.0, float(plain.max()) + 1e-6
for _ in range(16):
    middle = (low + high) / 2
    if np.mean(plain_labels(middle) < 0) > pseudo.outlier_fraction:
        low = middle  # too many outliers: a larger radius
    else:
        high = middle
answer_2 = high
for name, labels in (("plain", plain_labels(answer_2)), ("Jaccard", pseudo.labels)):
    a = cluster_agreement(labels, pids[:len(labels)]).ari
    print(f"{name} distance: {labels.max() + 1} clusters, {np.mean(labels < 0):.0%} outliers, "
          f"ARI {'unknown' if a is None else f'{a:.3f}'}")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3.** How does the length of the neighbour lists matter? Cluster with half of `k1`
# (rounded down, 2 at least), with `k1`, and with twice as much (at most the number of
# pictures): `stage.cluster(features, k1=..., k2=...)`. Keep `k2`, but never above `k1`.
# (Think first: how many pictures of one person are there?)

# %% tags=["solution"]
# answer_3: three whole numbers, the clusters found with half of k1, with k1, and with twice k1
answer_3 = []
for k in (max(2, config.k1 // 2), config.k1, min(2 * config.k1, len(features))):
    found = stage.cluster(features, k1=k, k2=min(config.k2, k))
    answer_3.append(found.n_clusters)
    a = cluster_agreement(found.labels, pids).ari
    print(f"k1 {k}: {found.n_clusters} clusters, {found.outlier_fraction:.0%} outliers, "
          f"ARI {'unknown' if a is None else f'{a:.3f}'}")

# %% tags=["check"]
check(3, answer_3)

# %%
stage.write_metrics(
    {"n_clusters": pseudo.n_clusters, "outlier_fraction": pseudo.outlier_fraction, "ari": agreement.ari, "nmi": agreement.nmi,
     "purity": agreement.purity, **{f"nearest_from_same_camera_{name}": share for name, share in shares.items()},
     **{f"share_{name}": float(np.mean(kinds == name)) for name in known}},
    figures=["02_neighbours", "02_reciprocal", "02_jaccard", "02_eps", "02_maps", "02_gallery", "02_errors"])
print("Done. Next: 03_gkd.ipynb.")
