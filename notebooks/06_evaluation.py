# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
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
# **You will learn** the protocol of re-ID by hand: what is left out of a ranking, and
# what AP, CMC and mINP measure; what training changed in maps, rankings and distances;
# which queries still fail.
#
# **Time** on 2 CPU cores: one or two minutes. **Reads** the runs of notebook 05 (else
# it trains a short one, and says so). **Writes** to `out_dir`: `figures/06_*.png`,
# `metrics/06_evaluation`. Which method is better is the question of 05b.

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
from sklearn.metrics import roc_auc_score

from dkdmpl_kit import viz
from dkdmpl_kit.data import arrays_of, load_factors
from dkdmpl_kit.evaluation import distance_groups, evaluate_ranking, top_matches
from dkdmpl_kit.experiment import METHOD_LABELS
from dkdmpl_kit.lessons import rankings
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.neighbors import knn_graph

stage = Stage("06_evaluation", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## 1. The protocol, by hand
#
# For one [query](course/glossary.md#query) the [gallery](course/glossary.md#gallery) is
# sorted by similarity. Before scoring, two kinds of pictures are taken out: **the same
# person under the same camera** (too easy) and **[junk](course/glossary.md#junk)**
# (`pid` -1 in Market-1501's layout: bad boxes).
# **[Distractors](course/glossary.md#distractor)** (`pid` 0: people whom nobody searches
# for) *stay*, and never match.
#
# Let the $m$ right pictures have the ranks $r_1 < r_2 < \dots < r_m$ in what is left.
# Then
#
# $$\mathrm{AP} = \frac1m \sum_{k=1}^{m} \frac{k}{r_k}, \qquad \mathrm{INP} = \frac{m}{r_m}, \qquad
# \mathrm{CMC}@k = \begin{cases}1 & r_1 \le k\\ 0 & \text{else.}\end{cases}$$
#
# [AP](course/glossary.md#average-precision) depends on the ranks of *all* of them, INP
# on the *last*, [CMC](course/glossary.md#cmc)@1 (Rank-1) on the first. The means over
# the queries that have a right picture are
# [mAP](course/glossary.md#mean-average-precision), [mINP](course/glossary.md#minp) and
# Rank-$k$.

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
# Seven gallery pictures, in order of similarity. The query shows person 7 under
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
ap, inp, first = score_query(tiny_gallery[:, 0], persons == 7, (persons == -1) | ((persons == 7) & (cameras == 0)))
by_kit = evaluate_ranking(np.array([[1.0, 0.0]]), tiny_gallery, np.array([7]), persons, np.array([0]), cameras)
np.testing.assert_allclose([ap, inp, first <= 1], [by_kit.mAP, by_kit.mINP, by_kit.cmc[1]])
print(f"The right ones stand at ranks 1 and 4: AP = (1/1 + 2/4) / 2 = {ap:.3f}, INP = 2/4 = {inp:.3f}, Rank-1 {first <= 1}.")

# %%
stage.require("clusters")

# %% [markdown]
# ## 2. The training pictures, before and after
#
# Maps of *training* pictures, by untrained features and by a trained run's. Identities
# and cameras only colour them.
#
# **Predict:** in the lower maps, will islands be people or cameras?

# %%
after, run = rankings.compared_run(stage)
names = ["untrained", METHOD_LABELS[after]]
print(f"Compared: {names[0]} features, and {names[1]} after {len(run['history'])} epochs.")
both = [stage.features(), stage.features(run["run"])]
graphs = [knn_graph(features, min(stage.config.k1, len(features))) for features in both]
groups, what = (stage.pids, "identities") if stage.has_truth else (stage.cluster(both[1]).labels, "clusters, after training")

# %%
nearest = [graph.indices[:, 1] for graph in graphs]  # column 0 is the picture itself
alike = [float((groups[near] == groups)[groups >= 0].mean()) for near in nearest]
caption = (f"The nearest neighbour is of the same {'identity' if stage.has_truth else 'cluster'} for {alike[0]:.0%} of the "
           f"pictures before and {alike[1]:.0%} after")
if stage.has_cameras:
    same = [float((stage.camids[near] == stage.camids).mean()) for near in nearest]
    by_luck = float((np.bincount(stage.camids) ** 2).sum() / len(stage.camids) ** 2)
    caption += f", under the same camera for {same[0]:.0%} and {same[1]:.0%} ({by_luck:.0%} by luck)"
fig = rankings.maps_of(graphs, groups, stage.camids if stage.has_cameras else None, names=names, what=what, seed=seed)
stage.show(fig, "06_maps", f"{caption}.")
if stage.has_truth:
    stage.say("neighbours", f"After training {'more' if alike[1] > alike[0] else 'not more'} pictures stand next to one of "
              "the same identity than before.", before=alike[0], after=alike[1])

# %%
stage.require("test")

# %% [markdown]
# ## 3. The untrained features, query by query
#
# From here on: *test* pictures, of people who were in no training. Our function over
# all queries must give the kit's numbers.

# %%
query_paths, query_pids, query_camids = arrays_of(stage.dataset.query)
gallery_paths, gallery_pids, gallery_camids = arrays_of(stage.dataset.gallery)
ids = (query_pids, gallery_pids, query_camids, gallery_camids)
view = {name: tuple(stage.features(which, split) for split in ("query", "gallery"))
        for name, which in (("untrained", None), (after, run["run"]))}
scored = {name: evaluate_ranking(*pair, *ids) for name, pair in view.items()}
(query, gallery), before = view["untrained"], scored["untrained"]

# %%
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
# **Predict:** what happens to Rank-1 if the same camera is allowed, and to mAP if the
# distractors are thrown out?

# %%
wanted, everything = np.isin(gallery_pids, query_pids), np.full(len(gallery), True)
unknown = np.full(len(query_camids), -1)  # a query of unknown camera: nothing is dropped by camera
rules = {"the protocol": (everything, query_camids), "same camera allowed": (everything, unknown),
         f"without distractors ({(~wanted).sum()} here)": (wanted, query_camids)}
found = {name: evaluate_ranking(query, gallery[kept], query_pids, gallery_pids[kept], cams, gallery_camids[kept])
         for name, (kept, cams) in rules.items()}
lines = [f"| {name} | {r.mAP:.1%} | {r.cmc[1]:.1%} | {r.mINP:.1%} |" for name, r in found.items()]
display(Markdown("\n".join(["| rules | mAP | Rank-1 | mINP |", "|---|---|---|---|", *lines])))
ranks = [float(r.cmc[1]) for r in found.values()]
stage.say("rules", f"Allowing the same camera {'raises' if ranks[1] > ranks[0] else 'does not raise'} Rank-1, from "
          f"{ranks[0]:.1%} to {ranks[1]:.1%}. Results can be compared only under the same rules.", ranks=ranks)

# %%
itself = np.isin([str(p) for p in gallery_paths], [str(p) for p in query_paths])  # gallery pictures that are queries too
print(f"{itself.sum()} gallery pictures are queries as well. (Without the camera rule such a query finds itself.)")

# %% [markdown]
# ## 4. The same queries, before and after
#
# Four queries, spread evenly over the list.
#
# **Predict:** is the query's own camera frequent among the *wrong* pictures? Will
# training change that?

# %%
valid = np.flatnonzero(~np.isnan(before.average_precision))
shown = valid[np.linspace(0, len(valid) - 1, min(4, len(valid))).astype(int)]
lists = {name: top_matches(*pair, *ids, top=10) for name, pair in view.items()}
for name, (near, right) in lists.items():
    fig = rankings.ranked_queries(stage, shown, (near, right), scored[name].average_precision,
                                  f"{METHOD_LABELS[name]}: queries and their nearest pictures")
    stage.show(fig, f"06_ranking_{name}", f"{METHOD_LABELS[name]}: {right[shown].sum()} of the {(near[shown] >= 0).sum()} "
               f"pictures are right; the mean AP of these queries is {np.mean(scored[name].average_precision[shown]):.2f}.")

# %%
change = (scored[after].average_precision - before.average_precision)[valid]
gain = float(scored[after].mAP - before.mAP)
stage.say("gain", f"{names[1]}: mAP {scored[after].mAP:.1%} after {len(run['history'])} epochs, {100 * gain:+.1f} points, "
          f"{'better' if gain > 0 else 'not better'} than the untrained features. AP rose for {(change > 0).sum()} queries and fell "
          f"for {(change < 0).sum()}.", change=gain, rose=int((change > 0).sum()), fell=int((change < 0).sum()))

# %%
other = (query_pids[:, None] != gallery_pids) & (gallery_pids >= 0)
by_luck = float(own_camera[other].mean())
shares = [rankings.own_camera_share(found, query_camids, gallery_camids) for found in lists.values()]
if None not in shares:
    stage.say("own_camera", f"Of the wrong pictures among the first ten, {shares[0]:.0%} were taken by the query's own camera "
              f"before training and {shares[1]:.0%} after; {by_luck:.0%} by luck. So before "
              f"training it is {'more' if shares[0] > by_luck else 'not more'} frequent among them than by luck.",
              shares=shares, luck=by_luck)

# %% [markdown]
# ## 5. Distances, before and after
#
# **Predict:** which two curves should training move apart?

# %%
counted = gallery_pids >= 0
pairs = {name: distance_groups(1 - q @ g[counted].T, query_pids, gallery_pids[counted], query_camids,
                               gallery_camids[counted]) for name, (q, g) in view.items()}
order = []  # how often a pair of one identity under two cameras is nearer than a pair of strangers
for _, one, two in pairs.values():
    strangers = np.repeat([0, 1], [len(one), len(two)])
    order.append(float(roc_auc_score(strangers, np.concatenate([one, two]))) if len(one) and len(two) else None)
text = " before training, ".join("unknown" if share is None else f"{share:.0%}" for share in order) + " after"
fig = viz.query_distances({METHOD_LABELS[name]: (found, [], []) for name, found in pairs.items()},
                          title=f"How often is the same person (green) nearer than another (red)? {text}")
stage.show(fig, "06_distances", "Compared are all pairs of one identity with all of two, under two cameras; luck gives 50 %.")
if None not in order:
    stage.say("apart", f"Training moved the two curves {'apart' if order[1] > order[0] else 'no further apart'}.",
              before=order[0], after=order[1])

# %% [markdown]
# ## 6. Where does the encoder look?
#
# Cover a small square of a picture with grey, and measure how much its similarity to
# another picture falls (*occlusion*; Zeiler and Fergus 2014). Where it falls most, the
# encoder found the two alike. (Pictures of 224 rows and more: *HiResCAM*, Draelos and
# Carin 2020.) A place that matters need not be one that *should* matter.
#
# **Predict:** how much of the effect lies in the middle half, where the person stands? An
# even map has 50 %.

# %%
encoders = {METHOD_LABELS[name]: stage.encoder(None if name == "untrained" else run["run"]) for name in view}
near, right = lists[after]
found = [j for j in shown if right[j].any()]
if not found:
    print("No right picture among the first ten of the queries shown: there is no pair to look at.")
else:
    j, k = found[0], int(near[found[0]][right[found[0]]][0])
    a, b = stage.pictures("query").batch([j])[0], stage.pictures("gallery").batch([k])[0]
    pair = {METHOD_LABELS[name]: (g[k], q[j]) for name, (q, g) in view.items()}
    maps = {name: rankings.look(encoders[name], a, of_b, b, of_a) for name, (of_b, of_a) in pair.items()}
    middle = ["unknown" if share is None else f"{share:.0%}" for share in rankings.middle_shares(maps).values()]
    fig = viz.activation_pairs(a.numpy(), b.numpy(), maps, scores={name: float(x @ y) for name, (x, y) in pair.items()},
                               title=f"Of what matters, the middle half holds {middle[0]} before training, {middle[1]} after")
    stage.show(fig, "06_where_it_looks", f"{middle[0]} of the effect lies in the middle half of the two pictures before "
               f"training, and {middle[1]} after. This is one pair.")

# %% [markdown]
# In JupyterLab the browser takes any query (framed grey: left out). Take the one with
# the lowest AP: what do the wrong pictures at its top share with it? Then choose *most
# changed first*: did training make a query worse?

# %%
if interactive:
    from dkdmpl_kit.lessons.lab import RankingBrowser

    browser = RankingBrowser({METHOD_LABELS[name]: pair for name, pair in view.items()}, stage.pictures("query"),
                             stage.pictures("gallery"), query_pids=query_pids, gallery_pids=gallery_pids,
                             query_camids=query_camids, gallery_camids=gallery_camids,
                             look=lambda name, *rest: rankings.look(encoders[name], *rest))
    display(browser)

# %% [markdown]
# ## 7. Who is still not found?
#
# **Predict:** what makes a query hard: something in front, a back view, or another
# person in the same clothes?

# %%
precision = scored[after].average_precision
hard = precision <= np.nanquantile(precision, 0.25)  # the lowest quarter; False where NaN
fig = rankings.ranked_queries(stage, np.argsort(precision)[:4], lists[after], precision,  # NaN sorts to the end
                              f"{names[1]}: the queries with the lowest AP")
stage.show(fig, "06_hardest",
           f"The lowest AP is {np.nanmin(precision):.2f}; {(precision < 0.5).sum()} of {len(valid)} queries have less than 0.5.")

# %% [markdown]
# For rendered pictures a table compares the hardest quarter with all other queries. A
# small difference may be chance.

# %%
if stage.config.data == "synthetic":
    made = load_factors(stage.dataset.root)
    of = [made[image.path.relative_to(stage.dataset.root).as_posix()] for image in stage.dataset.query]
    facts = {"something in front": [f["pic_occluder"] != "none" for f in of],
             "seen from behind": [f["pic_view"] == "back" for f in of],
             "look-alike": [f.get("id_lookalike_of") is not None for f in of]}
    rest = ~hard & ~np.isnan(precision)
    parts = {fact: [float(np.array(has)[rows].sum() / max(rows.sum(), 1)) for rows in (hard, rest)]
             for fact, has in facts.items()}
    lines = [f"| {fact} | {one:.0%} | {two:.0%} |" for fact, (one, two) in parts.items()]
    display(Markdown("\n".join([f"| the query | hardest quarter ({hard.sum()}) | all others ({rest.sum()}) |", "|---|---|---|", *lines])))
    largest = max(parts, key=lambda fact: parts[fact][0] - parts[fact][1])
    more = parts[largest][0] - parts[largest][1]
    stage.say("hard", f"*{largest.capitalize()}* has the largest excess among the hardest queries, {100 * more:.0f} points."
              if more > 0 else "None of the three is more frequent among the hardest queries.", **parts)

# %% [markdown]
# ## Take home
#
# 1. A query's own camera and junk are taken out; distractors stay.
# 2. AP looks at all right pictures, Rank-1 at the first, INP at the last.
# 3. Numbers can be compared only under the same rules and the same gallery.
# 4. A map of what matters is about one pair; a bright place may be the wrong one.
# 5. Look at the queries that fail: a mean does not show them.
#
# ## Exercises

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.checks import evaluation as evaluation_checks

check = evaluation_checks.checks(view[after], *ids, precision=precision, itself=itself)

# %% [markdown]
# **1.** Score the queries of each camera apart: the mean of `precision` (AP, NaN where
# nothing can be matched) over each of `np.unique(query_camids)`.

# %% tags=["solution"]
# answer_1: one number a camera, NaN for a camera without a query that can be matched
answer_1 = []
for camera in np.unique(query_camids):
    mine = precision[(query_camids == camera) & ~np.isnan(precision)]
    answer_1.append(mine.mean() if len(mine) else np.nan)
    print(f"camera {camera + 1 if camera >= 0 else 'unknown'}: mean AP {answer_1[-1]:.1%} over {len(mine)} queries")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2.** Do several pictures of a person find more than one? Average the features of
# each identity's queries (and bring the mean back to length 1) before ranking; take
# `view[after]`, query and gallery. Such a query has several cameras: give it none
# (camid -1), and leave out the gallery pictures that are queries too (`itself`): why?
# What is the mAP?

# %% tags=["solution"]
# answer_2: one number from 0 to 1, the mAP of the joined queries, one for each of np.unique(query_pids)
answer_2, people, kept = None, np.unique(query_pids), ~itself  # without the camera rule a picture would find itself
joined = np.stack([view[after][0][query_pids == p].mean(axis=0) for p in people])
joined /= np.linalg.norm(joined, axis=1, keepdims=True)
if np.isin(people, gallery_pids[kept]).any():
    answer_2, alone = (evaluate_ranking(q, view[after][1][kept], pids, gallery_pids[kept], np.full(len(pids), -1), gallery_camids[kept]).mAP
                       for q, pids in ((joined, people), (view[after][0], query_pids)))
    print(f"Without the camera rule: mAP {answer_2:.1%} joined, {alone:.1%} one by one.")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3.** How sure is a mAP? Write a function of the AP of some queries that draws as many
# of them with replacement, a few thousand times
# ([bootstrap](course/glossary.md#bootstrap)), and returns the two ends of the middle
# 95 % of the means.

# %% tags=["solution"]
# answer_3: a function (values) -> (lower end, upper end)
def bootstrap(values):
    drawn = np.random.default_rng(seed).choice(values, (4000, len(values)))
    return np.quantile(drawn.mean(axis=1), (0.025, 0.975))


answer_3 = bootstrap
low, high = bootstrap(precision[~np.isnan(precision)])
print(f"{names[1]}: mAP {np.nanmean(precision):.1%}, 95 % of the bootstrap between {low:.1%} and {high:.1%}.")
# This is the doubt from the choice of queries. Seeds add their own.

# %% tags=["check"]
check(3, answer_3)

# %%
measures = {name: {"mAP": float(r.mAP), "rank1": float(r.cmc[1]), "mINP": float(r.mINP)} for name, r in scored.items()}
rows = [[METHOD_LABELS[name], *of.values()] for name, of in measures.items()]
stage.write_metrics({f"{name}_{m}": value for name, of in measures.items() for m, value in of.items()},
                    table={"columns": ["method", "mAP", "rank1", "mINP"], "rows": rows})
