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
# # 06 · Evaluation: how a ranking is scored, and what training changed
#
# **You will learn**
#
# - the protocol of re-ID by hand: what is left out of a ranking, and what AP, CMC and
#   mINP measure;
# - what training changed: numbers, rankings, distances, maps, and where the encoder
#   looks;
# - which queries still fail, and what several seeds show that one run cannot.
#
# **Time** on 2 CPU cores: about two minutes, most of it for the maps; a little more if
# no training run is found. **Reads** the runs that notebook 05 left in `out_dir/runs`
# (else it trains a short one, and says so), features from `out_dir/artefacts`, and the
# records of long runs that come with the kit in `figures/reproduce`. **Writes**
# pictures to `out_dir/figures`, numbers and the table of results to
# `out_dir/metrics/06_evaluation`.

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
import torch
from IPython.display import Markdown, display

import dkdmpl_kit
from dkdmpl_kit import viz
from dkdmpl_kit.data import arrays_of, load_factors
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import distance_groups, evaluate_ranking, top_matches
from dkdmpl_kit.experiment import METHOD_LABELS, METHODS, read_json
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.models.activation import occlusion_map, similarity_map
from dkdmpl_kit.neighbors import knn_graph, umap_layout
from dkdmpl_kit.noise import cluster_agreement
from dkdmpl_kit.studies import results

stage = Stage("06_evaluation", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())
figures = []

# %% [markdown]
# ## 1. The protocol, by hand
#
# For one [query](course/glossary.md#query) the [gallery](course/glossary.md#gallery) is
# sorted by similarity. Before scoring, some gallery pictures are taken out:
#
# - **the same person under the same camera**: taken a moment before or after, in the
#   same light, so they are too easy to find;
# - **[junk](course/glossary.md#junk)** (`pid` -1 in Market-1501's layout): bad boxes,
#   such as half a person.
#
# **[Distractors](course/glossary.md#distractor)** (`pid` 0: people whom nobody searches
# for) *stay*, and never match: they make the ranking harder.
#
# Let the $m$ right pictures have the ranks $r_1 < r_2 < \dots < r_m$ in what is left.
# Then
#
# $$\mathrm{AP} = \frac1m \sum_{k=1}^{m} \frac{k}{r_k}, \qquad \mathrm{INP} = \frac{m}{r_m}, \qquad
# \mathrm{CMC}@k = \begin{cases}1 & r_1 \le k\\ 0 & \text{else.}\end{cases}$$
#
# [AP](course/glossary.md#average-precision) depends on the ranks of *all* of them, INP
# on the rank of the *last*, [CMC](course/glossary.md#cmc)@1 (Rank-1) only on the first.
# The means over the queries are [mAP](course/glossary.md#mean-average-precision),
# [mINP](course/glossary.md#minp) and Rank-$k$. A query without a right picture left is
# skipped.

# %% tags=["code"]
def score_query(similarity: np.ndarray, matches: np.ndarray, dropped: np.ndarray) -> tuple[float, float, float]:
    """AP, INP and r_1 of one query; all three arguments have one value a gallery picture, (G,)."""
    order = np.argsort(-similarity[~dropped], kind="stable")  # of what is left, the most similar first
    r = 1 + np.flatnonzero(matches[~dropped][order])  # ranks of the right pictures
    if len(r) == 0:
        return np.nan, np.nan, np.nan  # nothing to find
    k = np.arange(1, len(r) + 1)
    return (k / r).mean(), len(r) / r[-1], float(r[0])  # AP = mean of k / r_k, INP = m / r_m, r_1


# %% [markdown]
# Seven gallery pictures, already in order of similarity. The query shows person 7 under
# camera 1.
#
# | place | person | camera | |
# |---|---|---|---|
# | 1 | 7 | 1 | same person, same camera: out |
# | 2 | 7 | 2 | right |
# | 3 | -1 | 2 | junk: out |
# | 4 | 3 | 2 | wrong |
# | 5 | 0 | 3 | distractor: stays, wrong |
# | 6 | 7 | 3 | right |
# | 7 | 3 | 1 | wrong |
#
# **Predict:** which ranks do the right pictures have once the two are out? What are AP
# and INP?

# %%
persons, cameras = np.array([7, 7, -1, 3, 0, 7, 3]), np.array([0, 1, 1, 1, 2, 2, 0])  # cameras from 0 in memory
angles = np.linspace(0.1, 1.3, 7)  # features in the plane: the larger the angle to the query, the less similar
tiny_gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
tiny_query = np.array([[1.0, 0.0]])
ap, inp, first = score_query(tiny_gallery[:, 0], persons == 7, (persons == -1) | ((persons == 7) & (cameras == 0)))
by_kit = evaluate_ranking(tiny_query, tiny_gallery, np.array([7]), persons, np.array([0]), cameras)
np.testing.assert_allclose([ap, inp, first <= 1], [by_kit.mAP, by_kit.mINP, by_kit.cmc[1]])
print(f"The right ones stand at ranks 1 and 4: AP = (1/1 + 2/4) / 2 = {ap:.3f}, INP = 2/4 = {inp:.3f}, Rank-1 {first <= 1}.")

# %% [markdown]
# ## 2. The untrained features, query by query
#
# The same function over all queries of this data set must give the kit's numbers.

# %%
query_paths, query_pids, query_camids = arrays_of(stage.dataset.query)
gallery_paths, gallery_pids, gallery_camids = arrays_of(stage.dataset.gallery)
itself = np.isin([str(p) for p in gallery_paths], [str(p) for p in query_paths])  # gallery pictures that are queries too
before, reason = None, "This data set has no queries with a gallery: nothing can be ranked here."
if stage.has_test:
    query, gallery = stage.features(split="query"), stage.features(split="gallery")
    try:
        before = evaluate_ranking(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids)
    except KitError as error:
        reason = str(error)
if before is None:
    print(reason)
else:
    similarity = (torch.from_numpy(query) @ torch.from_numpy(gallery).T).numpy()
    same = (query_pids[:, None] == gallery_pids) & (query_pids[:, None] >= 0)
    own_camera = (query_camids[:, None] == gallery_camids) & (query_camids[:, None] >= 0)
    dropped = (gallery_pids < 0) | (same & own_camera)
    scores = np.array([score_query(*rows) for rows in zip(similarity, same, dropped)])
    np.testing.assert_allclose(scores[:, 0], before.average_precision, atol=1e-3)
    np.testing.assert_allclose(np.nanmean(scores[:, 1]), before.mINP, atol=1e-3)
    np.testing.assert_allclose(np.nanmean(scores[:, 2] <= 1, where=~np.isnan(scores[:, 2])), before.cmc[1], atol=1e-3)
    print(f"By hand and by the kit: mAP {before.mAP:.1%}, mINP {before.mINP:.1%}, Rank-1 {before.cmc[1]:.1%}, "
          f"over {before.n_valid_queries} of {len(query)} queries.")

# %% [markdown]
# **Predict:** how much do the rules matter? What happens to Rank-1 if the same camera
# is allowed, and what to mAP if the distractors are thrown out?

# %%
lines = []
if before is not None:
    wanted = np.isin(gallery_pids, query_pids)
    unknown = np.full(len(query_camids), -1)  # a query of unknown camera: nothing is dropped by camera
    rules = {"the protocol": (np.full(len(gallery), True), query_camids),
             "same camera allowed (too easy)": (np.full(len(gallery), True), unknown),
             f"without distractors ({(~wanted).sum()} here)": (wanted, query_camids)}
    for name, (kept, cams) in rules.items():
        r = evaluate_ranking(query, gallery[kept], query_pids, gallery_pids[kept], cams, gallery_camids[kept])
        lines.append(f"| {name} | {kept.sum():,} | {r.mAP:.1%} | {r.cmc[1]:.1%} | {r.mINP:.1%} |")
Markdown("\n".join(["| rules | gallery | mAP | Rank-1 | mINP |", "|---|---|---|---|---|", *lines]) if lines else reason)

# %% [markdown]
# So results can be compared only under the same rules. (Junk does not appear: the
# reader has left it out already.)

# %%
if itself.any():
    print(f"{itself.sum()} gallery pictures are queries as well. Then the camera rule is all that keeps a query from finding "
          "itself: the row without it means nothing here.")
else:
    print("No query lies in the gallery: none can find itself.")

# %% [markdown]
# ## 3. What training changed
#
# These are the runs of notebook 05, with the same start. The row *true identities* was
# trained with them (for half the epochs): it is a comparison, not an
# [unsupervised](course/glossary.md#unsupervised) method.
#
# **Predict:** which order will the rows have? How far will the best unsupervised row be
# from the true identities?

# %%
untrained = stage.features()
guess = stage.cluster(untrained)
found = cluster_agreement(guess.labels, stage.pids)
start = {"mAP": before and before.mAP, "rank1": before and before.cmc[1], "mINP": before and before.mINP, "ari": found.ari,
         "n_clusters": guess.n_clusters, "outlier_fraction": guess.outlier_fraction}
runs = {}
for method in METHODS:
    folder = stage.out_dir / "runs" / f"{method}-seed{seed}"
    if (folder / "result.json").exists():
        record = results.read_run(folder)
        if record["data_fingerprint"] == stage.dataset.fingerprint():
            runs[method] = record
if not runs:
    print(f"There are no finished runs of these pictures in {stage.out_dir.name}/runs. A short run of cluster contrast stands "
          "in for them: it shows the direction, not what longer training reaches. Notebook 05 trains the real ones.")
    try:
        runs["cluster_contrast"] = results.read_run(stage.warm_run().run_dir)
    except KitError as error:
        print("No run could be trained:", error)
records = [{"run": "untrained", "settings": {"seed": seed}, "history": [], "final": start}, *runs.values()]
Markdown(results.markdown_table(records))

# %%
if before is not None:
    fig = viz.result_bars({results.method_of(r): r["final"]["mAP"] for r in records}, metric="mAP (0 to 1)",
                          title="Retrieval of people never seen in training: one run each")
    stage.save_figure(fig, "06_results", caption="mAP of the untrained features and of this folder's runs.")
    figures.append("06_results")
    display(fig)

# %%
after = next((m for m in ("dkdmpl", "skd", "gkd", "cluster_contrast", "supervised") if m in runs), None)
if after is not None and before is not None:
    final = runs[after]["final"]
    gain = final["mAP"] - before.mAP
    print(f"{METHOD_LABELS[after]}: mAP {final['mAP']:.1%} after {len(runs[after]['history'])} epochs, "
          f"{abs(gain) * 100:.1f} points {'above' if gain >= 0 else 'BELOW'} the untrained features.")
    if {"dkdmpl", "cluster_contrast"} <= set(runs):
        edge = 100 * (final["mAP"] - runs["cluster_contrast"]["final"]["mAP"])
        print(f"DKD-MPL minus cluster contrast: {edge:+.1f} mAP points. One pair of runs: section 9 shows how much "
              "such a difference varies between seeds.")

# %% [markdown]
# ## 4. The same queries, before and after
#
# **Predict:** which wrong pictures will disappear first: those with the same camera, or
# those with the same clothes?

# %%
view, shown = None, np.empty(0, dtype=int)
if before is not None:
    ids = (query_pids, gallery_pids, query_camids, gallery_camids)
    valid = np.flatnonzero(~np.isnan(before.average_precision))
    shown = valid[np.linspace(0, len(valid) - 1, min(4, len(valid))).astype(int)]
    view = {"untrained": (query, gallery)}
    if after is not None:
        view[after] = tuple(stage.features(runs[after]["run"], split) for split in ("query", "gallery"))
    scored = {name: evaluate_ranking(*pair, *ids) for name, pair in view.items()}
    for name, pair in view.items():
        nearest, right = top_matches(*pair, *ids, top=10)
        width = int((nearest >= 0).all(axis=0).sum())  # a small gallery may run out
        fig = viz.ranking_grid(stage.pictures("query").batch(shown),
                               [stage.pictures("gallery").batch(row[:width]) for row in nearest[shown]],
                               right[shown, :width], title=f"{METHOD_LABELS[name]}: queries and their nearest pictures",
                               titles=[f"AP {scored[name].average_precision[j]:.2f}" for j in shown])
        stage.save_figure(fig, f"06_ranking_{name}", caption=f"Rankings by {METHOD_LABELS[name]}.")
        figures.append(f"06_ranking_{name}")
        display(fig)
else:
    print(reason)

# %% [markdown]
# The queries are the same in both pictures, spread evenly over the list and not chosen
# by their result. Pictures that the protocol leaves out are not shown.
#
# ## 5. Distances, before and after
#
# **Predict:** which two curves should training move apart?

# %%
for name, (q, g) in (view or {}).items():
    counted = gallery_pids >= 0
    groups = distance_groups(1 - q @ g[counted].T, query_pids, gallery_pids[counted], query_camids,
                             gallery_camids[counted])
    fig = viz.distance_histograms(*groups)
    fig.suptitle(f"{METHOD_LABELS[name]}. {fig.get_suptitle()}", x=0.01, ha="left", fontweight="bold")
    stage.save_figure(fig, f"06_distances_{name}", caption=f"Distances between query and gallery, {METHOD_LABELS[name]}.")
    figures.append(f"06_distances_{name}")
    display(fig)
if view is None:
    print(reason)

# %% [markdown]
# The overlap in the titles is the area that the curve of the same person under other
# cameras shares with the curve of different people: less is better. The distance
# between the blue and the green curve is what another camera adds for the same person.
#
# ## 6. Where does the encoder look?
#
# Cover a small square of a picture with grey and measure how much its similarity to
# another picture falls (*occlusion*; Zeiler and Fergus 2014). Where it falls most, the
# encoder found the two alike. The map is about this pair only, and a place that matters
# is not always one that *should* matter. Here are a query and the first right picture
# of its list; each is covered in turn.
#
# **Predict:** will the map be bright on the clothes, on the face, or on the wall
# behind?

# %%
encoders = {name: stage.encoder(None if name == "untrained" else runs[name]["run"]) for name in view or {}}


def look(name, query_picture, gallery_feature, gallery_picture, query_feature):
    """(map of the query, map of the gallery picture): what each place does for their similarity."""
    pairs = [(picture, torch.from_numpy(feature)) for picture, feature in
             ((query_picture, gallery_feature), (gallery_picture, query_feature))]
    if stage.config.height >= 224:  # a last map of at least 7 rows is fine enough, and takes one pass in place of a hundred
        return tuple(similarity_map(encoders[name], p[None], f[None])[0].numpy() for p, f in pairs)
    return tuple(occlusion_map(encoders[name], p, f).numpy() for p, f in pairs)


found_one = [j for j in shown if right[j].any()] if view else []
if found_one:
    j = found_one[0]
    k = int(nearest[j][right[j]][0])  # by the last view of section 4
    pair = [stage.pictures("query").batch([j])[0], stage.pictures("gallery").batch([k])[0]]
    alike = {METHOD_LABELS[name]: look(name, pair[0], g[k], pair[1], q[j]) for name, (q, g) in view.items()}
    scores = {METHOD_LABELS[name]: float(q[j] @ g[k]) for name, (q, g) in view.items()}
    fig = viz.activation_pairs(pair[0].numpy(), pair[1].numpy(), alike, scores=scores)
    stage.save_figure(fig, "06_where_it_looks", caption="What covering each place costs the similarity of one pair.")
    figures.append("06_where_it_looks")
    display(fig)
else:
    print("No right picture among the first ten of the queries shown: there is no pair to look at." if view else reason)

# %% [markdown]
# Beside each picture is its map. Yellow: covering this place lowers the similarity
# most. Grey: not at all, or it even rises. (For pictures of 224 rows and more the map
# comes from one gradient instead, *HiResCAM*, Draelos and Carin 2020, and yellow is
# what adds most.) Each row has its own scale: compare places within a row only. Where
# the wall is as bright as the person, the walls are alike, too.
#
# In JupyterLab the browser below takes any query. `order` sorts the queries (as listed,
# lowest AP first, or those first that training changed most), and `query` moves along
# that order. You see up to twenty nearest pictures, one row before and one row after
# training; what the protocol leaves out is framed grey (the legend calls all of it
# junk). Below, ticks show where this list lies among the distances of all pairs. *where
# does it look?* draws the maps for the picture at `place` of the last row; move `place`
# to see another.
#
# **Predict:** take the query with the lowest AP. Will the wrong pictures at its top
# share its clothes, its view or its camera?
#
# Three things to try:
#
# 1. Lowest AP first: which ranks do the right pictures have, and what comes before
#    them?
# 2. Most changed first: has training moved right pictures up, or others away? Is there
#    a query that it made worse?
# 3. Look at the maps of a wrong picture near the front: which places made it similar?
#    Compare with a right one.

# %%
if interactive and view:
    from dkdmpl_kit.lessons.lab import RankingBrowser

    browser = RankingBrowser({METHOD_LABELS[name]: pair for name, pair in view.items()}, stage.pictures("query"),
                             stage.pictures("gallery"), query_pids=query_pids, gallery_pids=gallery_pids,
                             query_camids=query_camids, gallery_camids=gallery_camids,
                             look=lambda label, *rest: look(next(n for n in view if METHOD_LABELS[n] == label), *rest))
    display(browser)

# %% [markdown]
# ## 7. Maps, before and after
#
# The training pictures as in notebook 02. The second map starts from the positions of
# the first, so that movements come from the training. Identities and cameras are only
# used for colouring.

# %%
truth = stage.pids if stage.has_truth else None
seen_by = stage.camids if stage.has_cameras else None
trained = stage.features(runs[after]["run"]) if after is not None else None
xy, panels = None, []
for features in (untrained, trained):
    if features is None:
        continue
    graph = knn_graph(features, min(stage.config.k1, len(features)))
    xy = umap_layout(graph, seed=seed, init=xy)
    labels = stage.cluster(features).labels
    panels.append([{"xy": xy, "colour_by": labels, "kind": "cluster", "title": "pseudo label"},
                   {"xy": xy, "colour_by": truth, "kind": "identity", "title": "true identity"},
                   {"xy": xy, "colour_by": seen_by, "kind": "camera", "title": "camera"}])
fig = viz.feature_maps(panels, row_labels=["untrained", METHOD_LABELS.get(after, "")][:len(panels)],
                       title="The training pictures before and after training" if len(panels) > 1 else "The training pictures")
stage.save_figure(fig, "06_maps", caption="UMAP before and after training, by pseudo label, identity and camera.")
figures.append("06_maps")
fig

# %% [markdown]
# If training went well, the cameras mix in the lower right map, and the islands of the
# lower left one are people: compare them with the middle map. The map is only a
# picture; the numbers are in the table above.
#
# ## 8. Who is still not found?
#
# **Predict:** what makes a query hard: something in front, a back view, or another
# person in the same clothes?

# %%
hard = None
if before is not None:
    name = list(view)[-1]
    precision = scored[name].average_precision
    worst = np.argsort(precision)[:4]  # NaN sorts to the end
    nearest, right = top_matches(*view[name], *ids, top=10)
    width = int((nearest >= 0).all(axis=0).sum())
    fig = viz.ranking_grid(stage.pictures("query").batch(worst),
                           [stage.pictures("gallery").batch(row[:width]) for row in nearest[worst]], right[worst, :width],
                           title=f"{METHOD_LABELS[name]}: the queries with the lowest AP",
                           titles=[f"AP {precision[j]:.2f}" for j in worst])
    stage.save_figure(fig, "06_hardest", caption=f"The hardest queries of {METHOD_LABELS[name]}.")
    figures.append("06_hardest")
    hard = precision <= np.nanquantile(precision, 0.25)  # the lowest quarter; False where NaN
    display(fig)
else:
    print(reason)

# %%
table = "*Only rendered pictures have a manifest of what made them.*"
if hard is not None and stage.config.data == "synthetic":
    root = stage.dataset.root
    made = load_factors(root)
    of = [made[image.path.relative_to(root).as_posix()] for image in stage.dataset.query]
    facts = {"something in front": [f["pic_occluder"] != "none" for f in of],
             "seen from behind": [f["pic_view"] == "back" for f in of],
             "look-alike": [f.get("id_lookalike_of") is not None for f in of]}
    rest = ~hard & ~np.isnan(precision)
    lines = [f"| {fact} | {np.mean(np.array(has)[hard]):.0%} | {np.mean(np.array(has)[rest]):.0%} |"
             for fact, has in facts.items()]
    table = "\n".join([f"| the query | hardest quarter ({hard.sum()}) | all others ({rest.sum()}) |", "|---|---|---|", *lines])
Markdown(table)

# %% [markdown]
# A factor that is clearly more frequent on the left goes with hard queries here. A
# small difference between such small groups may be chance.
#
# ## 9. One run is not enough: several seeds
#
# The runs above are short, one of each method. The records of a longer study
# (`make reproduce`) come with the kit: every method was trained with several
# [seeds](course/glossary.md#seed). Each is compared with
# [cluster contrast](course/glossary.md#cluster-contrast) *at the same seed*, because
# seeds can differ by more than methods do.

# %%
path = Path(dkdmpl_kit.__file__).resolve().parents[1] / "figures" / "reproduce" / "records.json"
study = read_json(path) if path.exists() else []
by_method = results.by_method(study)
if study:
    kept = [r for r in study if r["final"] and r["history"]]
    seeds = sorted({s for method, at in by_method.items() for s in at if method != "untrained"})
    epochs = sorted({r["settings"]["epochs"] for r in kept})
    drift = []  # how far the mAP still moved over the last quarter of each run
    for r in kept:
        seen = [(h["epoch"], h["mAP"]) for h in r["history"] if h.get("mAP") is not None]
        late = [value for epoch, value in seen if epoch + 1 >= 0.75 * r["settings"]["epochs"]]
        if len(late) > 1:
            drift.append(100 * (late[-1] - late[0]))
    text = f"{len(kept)} runs, {len(seeds)} seeds, {' or '.join(map(str, epochs))} epochs."
    if drift:
        flat = "to their plateau" if abs(np.mean(drift)) < 1 else "not yet at a plateau"
        text += f" Over the last quarter of the epochs the mAP moved by {np.mean(drift):+.1f} points on average: {flat}."
    print(text)
table = results.markdown_table(study) if study else "*The records of the long study are not in this checkout.*"
Markdown(table)

# %%
if study:
    fig = viz.result_bars({m: [r["final"]["mAP"] for r in at.values()] for m, at in by_method.items()},
                          title=f"The long study: mAP over {len(seeds)} seeds")
    stage.save_figure(fig, "06_study", caption="The long study: mAP, one dot a seed.")
    figures.append("06_study")
    display(fig)

# %%
if study:
    differences = {m: [100 * d for d in at.values()] for m, at in results.paired_differences(study).items() if at}
    fig = viz.paired_differences(differences, {m: results.spread(at).interval for m, at in differences.items()})
    stage.save_figure(fig, "06_paired", caption="The long study: mAP minus cluster contrast's at the same seed.")
    figures.append("06_paired")
    for method, values in differences.items():
        above = np.sum(np.array(values) > 0)
        print(f"{METHOD_LABELS[method]}: {np.mean(values):+.1f} mAP points, above zero in {above} of {len(values)} seeds.")
    display(fig)

# %% [markdown]
# A dot right of zero is a seed in which the method did better than cluster contrast.
# Believe a difference when the dots agree, and the interval of the mean stays on one
# side of zero. These are *our* pictures, *our* reading of the method and *our*
# schedule: they say nothing about the figures in the paper, which we do not have.

# %% [markdown]
# ## Exercises
#
# Put each answer into the named variable; the cell below it says whether it is right,
# or why not. (The folded cell prepares the checks: it contains the answers.)

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.exercises import exercises, value

tests = {1: None, 2: None, 3: None}
if before is not None:
    q, g = view[name]

    def mean_of(of):  # the kit's mAP of some of the queries; NaN where none of them can be matched
        try:
            return evaluate_ranking(q[of], g, query_pids[of], gallery_pids, query_camids[of], gallery_camids).mAP
        except KitError:
            return np.nan

    tests[1] = value([mean_of(query_camids == c) for c in np.unique(query_camids)], mistakes={
        "queries without a match (NaN) are left out of a mean, and do not count as 0.":
            [np.nan_to_num(precision[query_camids == c]).mean() for c in np.unique(query_camids)]})
    kept, nobody = ~itself, lambda p: np.full(len(p), -1)
    people = np.unique(query_pids)
    if np.isin(people, gallery_pids[kept]).any():
        unit = np.stack([q[query_pids == p].mean(axis=0) for p in people])
        unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
        joined_map, single_map, with_itself = (
            evaluate_ranking(a, b[k], p, gallery_pids[k], nobody(p), gallery_camids[k]).mAP for a, b, p, k in (
                (unit, g, people, kept), (q, g, query_pids, kept),
                (unit, g, people, np.full(len(g), True))))
        tests[2] = value(joined_map, mistakes={
            "those are the single queries; average the features of each person first.": single_map,
            "gallery pictures that are queries too must be left out: `itself` marks them.": with_itself})

# %% jupyter={"source_hidden": true} tags=["check"]
if before is not None:
    values = precision[~np.isnan(precision)]
    means = np.random.default_rng(seed + 1).choice(values, (4000, len(values))).mean(axis=1)

    def interval_test(answer):
        low, high = (float(x) for x in answer)
        ends = {"": np.quantile(means, (0.025, 0.975)), "the two ends, the other way round.": np.quantile(means, (0.975, 0.025)),
                "those are quantiles of single queries; take quantiles of the means.": np.quantile(values, (0.025, 0.975)),
                "that holds the middle 90 %; for 95 % cut 2.5 % at each end.": np.quantile(means, (0.05, 0.95))}
        near = 0.07 * np.ptp(ends[""]) + 1e-3  # both of us drew at random
        fits = (hint for hint, e in ends.items() if max(abs(low - e[0]), abs(high - e[1])) <= near)
        return next(fits, f"an interval of {high - low:.3f} is not what a thousand draws of {len(values)} queries give.")

    tests[3] = interval_test
check = exercises(tests)

# %% [markdown]
# **1.** Score the queries of each camera apart: the mean of `precision` (AP, one value
# a query, NaN where nothing can be matched) over each of `np.unique(query_camids)`. Is
# one camera harder than the others?

# %% tags=["solution"]
# answer_1: one number a camera, NaN for a camera without a query that can be matched
answer_1 = None
if before is not None:
    answer_1 = []
    for camera in np.unique(query_camids):
        mine = (query_camids == camera) & ~np.isnan(precision)
        answer_1.append(precision[mine].mean() if mine.any() else np.nan)
        if mine.any():
            print(f"camera {camera + 1 if camera >= 0 else 'unknown'}: mean AP {precision[mine].mean():.1%} over {mine.sum()} queries")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2.** Do several pictures of a person find more than one? Average the features of
# each identity's queries (and bring the mean back to length 1) before ranking; take the
# features `view[name]`, a pair of query and gallery. Such a query has several cameras,
# so give it none (camid -1), and leave out the gallery pictures that are queries too
# (`itself`): why? What mAP do the joined queries reach?

# %% tags=["solution"]
# answer_2: one number from 0 to 1, the mAP of the joined queries, one for each of np.unique(query_pids)
answer_2 = None
if before is not None:
    people = np.unique(query_pids)
    joined = np.stack([view[name][0][query_pids == p].mean(axis=0) for p in people])
    joined /= np.linalg.norm(joined, axis=1, keepdims=True)
    # several cameras in one query: no single camera to leave out (camid -1), so no gallery picture may be a query itself
    kept = ~itself
    rest = (view[name][1][kept], gallery_pids[kept], gallery_camids[kept])
    if np.isin(people, rest[1]).any():
        for title, q, p in (("single", view[name][0], query_pids), ("joined", joined, people)):
            answer_2 = evaluate_ranking(q, rest[0], p, rest[1], np.full(len(p), -1), rest[2]).mAP
            print(f"{title} queries, without the camera rule: mAP {answer_2:.1%}")
    else:
        print("Without the queries themselves nothing is left to find in this gallery.")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3.** How sure is a mAP? Draw the queries with replacement a thousand times
# (bootstrap) and give the middle 95 % of the means. (Take the values of `precision`
# that are not NaN.)

# %% tags=["solution"]
# answer_3: two numbers from 0 to 1, (lower end, upper end)
answer_3 = None
if before is not None:
    values = precision[~np.isnan(precision)]
    rng = np.random.default_rng(seed)
    boot = rng.choice(values, (1000, len(values))).mean(axis=1)
    answer_3 = low, high = np.quantile(boot, (0.025, 0.975))
    print(f"{METHOD_LABELS[name]}: mAP {values.mean():.1%}, 95 % of the bootstrap between {low:.1%} and {high:.1%}. "
          "(This is the doubt from the choice of queries; seeds add their own.)")

# %% tags=["check"]
check(3, answer_3)

# %%
measures = ("mAP", "rank1", "mINP", "ari", "n_clusters", "outlier_fraction")
rows = [[METHOD_LABELS[results.method_of(r)], *(r["final"].get(m) for m in measures)] for r in records]
numbers = {f"{results.method_of(r)}_{m}": r["final"].get(m) for r in records for m in ("mAP", "rank1")}
stage.write_metrics(numbers, table={"columns": ["method", *measures], "rows": rows}, figures=figures)
print("Done. Notebook 07 asks where the wrong labels come from.")
