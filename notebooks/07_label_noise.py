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
# # 07 · Label noise: how to find it, what explains it, and what it costs
#
# **What you will learn**
#
# - To find suspicious labels without identities, and to test such a score.
# - To measure which share of the wrong labels a cause explains.
# - To judge each view of a label by its mass on the truth and by its confidence.
#
# **Time** on 2 CPU cores: a minute, more if runs are missing. **Reads** the data set
# and the runs `warm-seed…` and `dkdmpl-seed…`. **Writes** to `out_dir`:
# `figures/07_*.png`, `metrics/07_label_noise`.
#
# How noise is measured is **this kit's reading** of the abstract of Zhu, Peng and Yan
# (2024).

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
from sklearn.calibration import calibration_curve

from dkdmpl_kit import noise, viz
from dkdmpl_kit.clustering import rows_of
from dkdmpl_kit.lessons.batch_views import batch_views
from dkdmpl_kit.lessons.checks import label_noise as exercise_checks
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.lessons.views import follow

# %%
from dkdmpl_kit.losses import mixed_target, teacher_logits, theory
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.neighbors import knn_graph
from dkdmpl_kit.studies import label_noise as robustness, results

stage = Stage("07_label_noise", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())
config, store = stage.config, stage.pictures("train")
known_by = {"camids": stage.camids if stage.has_cameras else None, "factors": stage.factors()}

# %% [markdown]
# ## 1. Which labels look wrong?
#
# After a few [epochs](course/glossary.md#epoch) of cluster contrast, each
# [pseudo label](course/glossary.md#pseudo-label) $y_i$ has these views:
#
# - the [teacher](course/glossary.md#teacher) $e_i=\mathrm{softmax}(Cv_i/\tau_t)$, from
#   the feature $v_i$ and the centroids $C$; beside it notebook 03's *vote*;
# - the query view $q_i=\mathrm{softmax}(Mz_i/\tau)$, from an augmented picture's feature
#   $z_i$ and the [memory](course/glossary.md#memory) $M$;
# - the [anchor](course/glossary.md#anchor)'s view $a_i$: the query view of the least
#   similar picture of the same cluster in the batch.
#
# $q$ and $a$ come from batches as training draws them.

# %%
encoder, features, pseudo = stage.warm_start()
labels, v = pseudo.labels, torch.from_numpy(features)
images, q, a = batch_views(stage, encoder, features, labels)               # of the pictures that a batch drew
y = torch.from_numpy(labels[images])
centroids = ClusterMemory(v, torch.from_numpy(labels)).centroids           # C
t = teacher_logits("sample", centroids=centroids, features=v[images], temperature=config.teacher_temperature).double()
e = t.softmax(1)
followed = follow(stage, features, labels)                                 # the picture of notebooks 03 and 04, and the vote
vote = torch.from_numpy(rows_of(followed.votes, images, labels)).double()
own = {name: float(view.gather(1, y[:, None]).mean()) for name, view in {"e": e, "vote": vote}.items()}
stage.say("doubt", f"On the label itself the teacher $e$ puts {own['e']:.3f} of its mass on average, the vote "
          f"{own['vote']:.3f}: {'the vote' if own['vote'] < own['e'] else 'the teacher'} doubts more.", **own)

# %% [markdown]
# Four signs of doubt need no truth:
#
# - **views**: $e$, $q$ and $a$ disagree
#   ([Jensen-Shannon divergence](course/glossary.md#jensen-shannon-divergence));
# - **neighbours**: the nearest pictures carry several labels;
# - **silhouette**: another cluster's centre is nearly as close as its own;
# - **vote**: little of the vote's mass lies on the label.
#
# The *mean rank* joins the first three. **Predict:** are the most suspicious labels
# wrong, or the pictures only hard?

# %%
found = noise.label_quality(labels[images], views=(e.numpy(), q.numpy(), a.numpy()), features=features[images],
                            indices=knn_graph(features[images], min(config.k1, len(images))).indices)
suspicion = {"mean rank": found.score, "views": found.agreement, "neighbours": found.purity_nearby,
             "silhouette": found.silhouette, "vote": noise.self_confidence(vote.numpy(), labels[images])}

# %%
rows = noise.doubt_rows(images, labels[images], found.score, first=followed.index)
purple = [viz.PALETTE["purple" if place == 0 else "light"] for row in rows for place in range(len(row))]
sheet = viz.contact_sheet(store.batch(np.concatenate(rows)).numpy(), rows=np.repeat(range(len(rows)), [len(row) for row in rows]), frames=purple,
                          row_name="row", max_columns=7,
                          title="A doubtful picture (purple) and its cluster")
stage.show(sheet, "07_suspicious", (f"Row 0 is picture {followed.index}, which the course follows. " if followed.index in images else "")
           + f"The other rows begin with the most suspicious of {len(images)} pictures. Which would you move to another cluster?")

# %%
i, mass = followed.index, float(followed.votes[[followed.index]].toarray()[0, followed.other])
ranks = {name: int((score < score[images == i]).sum() + 1) for name, score in suspicion.items() if i in images}
stage.say("followed", f"{followed.sentence} The vote puts {mass:.2f} of its mass on cluster {followed.other}. Its place among "
          f"{len(images)} pictures, the most suspicious first: "
          + (", ".join(f"{name} {rank}" for name, rank in ranks.items()) or "unknown, as no batch drew it") + ".",
          label=followed.hard, rival=followed.other, mass=mass, ranks=ranks, count=len(images))

# %% [markdown]
# A score says what to check first; it proves nothing. A person in *two* clean clusters
# looks suspicious in neither.
#
# ## 2. How do labels move?
#
# (Clusters of two epochs are matched by overlap.) **Predict:** do fewer labels change
# in later epochs?

# %%
stage.require("clusters")

# %%
run = stage.run("dkdmpl", progress=False, sampler=config.sampler if stage.has_cameras else "random")
by_epoch = stage.epoch_labels(run.run_dir.name)
moves = noise.change_table(by_epoch)
begin, end = (float(moves["flip_share"][place]) for place in (0, -1))
stage.show(viz.change_curves(moves, title="How labels move in the run dkdmpl"), "07_change",
           f"In the last step {moves['births'][-1]} clusters are born and {moves['deaths'][-1]} die; {moves['n_clusters'][-1]} are there.")
stage.say("moves", f"Of the pictures that stay clustered, {begin:.1%} change sides in the first step and {end:.1%} in the last: "
          f"{'as many as' if begin == end else 'more than' if end > begin else 'fewer than'} at first.", first=begin, last=end)

# %% [markdown]
# The rest needs identities, only to *measure*.

# %%
stage.require("truth")

# %% [markdown]
# ## 3. How wrong are they?
#
# - **Pairs.** Of the pairs in one cluster, which share shows one person (*precision*)?
#   Of the pairs of one person, which share is in one cluster (*recall*)?
#   [B-cubed](course/glossary.md#b-cubed) asks the same of each picture, and takes the
#   mean.
# - **One label.** The *true cluster* $y^*$ of a picture: of the clusters in which its
#   identity is the majority, the one with most of its pictures. Any other label is wrong.
#   With labels 0 0 0 1 and identities 7 7 9 7, identity 7 has true cluster 0, so the last
#   label is wrong; identity 9 has none.
#
# **Predict:** one wrong cluster of 100 pictures and fifty clean clusters of 4. Which
# precision looks worse, of pairs or B-cubed?

# %%
np.testing.assert_array_equal(noise.true_clusters(np.array([0, 0, 0, 1]), np.array([7, 7, 9, 7])), [0, 0, -1, 0])
report = noise.label_report(labels, stage.pids)
for name in ("pair_precision", "pair_recall", "bcubed_precision", "bcubed_recall", "ari"):
    print(f"{name:18s}{np.nan if getattr(report, name) is None else getattr(report, name):.3f}  ({pseudo.outlier_fraction:.1%} outliers left out)")
star = followed.star                                                      # y*
wrong = labels[images] != star[images]
pairs = {kind: noise.pair_causes(labels, stage.pids, kind=kind, seed=seed, **known_by) for kind in ("merged", "split")}
counts = {kind: one.n_wrong for kind, one in pairs.items()}
main = max(counts, key=counts.get)
stage.say("errors", f"{counts['merged']:,} pairs are wrongly merged and {counts['split']:,} wrongly split; {wrong.mean():.1%} of the "
          f"labels are wrong. We go on with the commoner error of pairs: **{main}**.", kind=main, **counts)
repaired, spoilt = noise.label_repairs(by_epoch, stage.pids)
stage.say("repairs", f"The changes of section 2 repair {repaired} labels and spoil {spoilt}.", repaired=repaired, spoilt=spoilt)

# %% [markdown]
# (Of pairs: a cluster of 100 holds 4950, one of 4 holds 6.) Look at the
# [outliers](course/glossary.md#outlier) too: where every hard picture is left out, the
# other labels are clean.
#
# **Did the scores of section 1 find them?** [AUROC](course/glossary.md#auroc): how
# probably a wrong label looks more suspicious than a right one; 0.5 is chance.

# %%
aurocs = {name: noise.auroc(score, wrong) for name, score in suspicion.items()}
best = max(aurocs, key=lambda name: aurocs[name] or 0)
tenth = np.argsort(suspicion[best], kind="stable")[: max(len(images) // 10, 1)]
stage.show(viz.suspicion_curves({name: noise.suspicion_curve(score, wrong) for name, score in suspicion.items()}, aurocs=aurocs),
           "07_suspicion", f"Of the tenth that *{best}* doubts most, {wrong[tenth].mean():.0%} have a wrong label; of all pictures "
           f"{wrong.mean():.0%}.")
stage.say("scores", "All labels are right or all are wrong, so no score can be tested." if aurocs[best] is None else
          f"Of these scores, *{best}* finds wrong labels best here: AUROC {aurocs[best]:.2f}.", best=best, aurocs=aurocs)

# %% [markdown]
# ## 4. Where, and why?
#
# **Predict:** is a pair wrongly *merged* more often within one camera or between two?
# And wrongly *split*?

# %%
if stage.has_cameras:
    errors = noise.camera_pair_errors(labels, stage.pids, stage.camids)
    within, between = errors.rates(main)
    stage.show(viz.camera_error_rates(errors.cameras + 1, errors.merged, errors.together, errors.split, errors.same), "07_cameras",
               f"Wrongly {main} are {within:.1%} of the pairs within one camera and {between:.1%} of those between two.")

# %% [markdown]
# Cameras, clothes and views come together, so rates cannot separate them. A logistic
# regression predicts "this pair is wrong" from what its pictures share. An [odds
# ratio](course/glossary.md#odds-ratio) of 3: with this factor the odds of an error are
# three times as high, all else equal. The intervals: a
# [bootstrap](course/glossary.md#bootstrap) over identities.
#
# A cause does not explain every pair that has it. Where errors are rare and all wrong
# pairs have a factor of ratio 1.7, $1-1/1.7=41\,\%$ of them would be right without it:
# its **attributable fraction**.
#
# **Predict:** which factor explains most?

# %%
causes = pairs[main]
named = causes.table()
clear = [cause for cause, holds in zip(named["cause"], named["clear"]) if holds]
stage.show(viz.pair_cause_bars(named, kind=main, note=causes.note), "07_causes",
           f"Together the clear causes explain {1 - causes.unexplained:.0%} of the wrongly {main} pairs.")
stage.say("causes", f"Of the recorded factors, *{clear[0]}* explains the largest share of the wrongly {main} pairs, {named['explains'][0]:.0%}."
          if clear else "No recorded factor clearly explains errors here.",
          clear=clear, explains=dict(zip(named["cause"], named["explains"])))
some = causes.pairs[np.random.default_rng(seed).permutation(len(causes.pairs))[:6]]
stage.show(viz.pair_pictures(*(store.batch(side) for side in some.T), [f"id {stage.pids[i]} | {stage.pids[j]}" for i, j in some],
                             kind=main, title=f"Some wrongly {main} pairs"), "07_examples",
           f"{len(some)} of the {causes.n_wrong:,} wrongly {main} pairs. Which cause would you name for each?")

# %% [markdown]
# Shares overlap, as two causes can hold for one pair.
#
# ## 5. Noise made on purpose
#
# *Symmetric* noise gives a picture the label of any other identity; *camera split* gives
# one camera's pictures of a person a label of their own. **Predict:** does camera split
# lower the precision of the pairs, or their recall?

# %%
made, kind = ("camera_split", "split") if stage.has_cameras else ("symmetric", "merged")
response = noise.noise_response(stage.pids, np.linspace(0, 0.6, 7), noise=made, kind=kind, seed=seed, **known_by)
stage.show(viz.noise_response_curves(response, noise=made, kind=kind), "07_response",
           f"At a rate of {response['rate'][-1]:.1f}, {made.replace('_', ' ')} noise leaves a precision of "
           f"{response['pair_precision'][-1]:.2f} and a recall of {response['pair_recall'][-1]:.2f}.")

# %% [markdown]
# Camera split never puts two people together: it lowers the recall alone. Far below 1,
# an odds ratio says that the *absence* of the factor goes with errors.
#
# The panel does this for every kind of noise.

# %%
if interactive:
    from dkdmpl_kit.lessons.lab import NoiseLens

    display(NoiseLens(labels, stage.pids, pictures=store, features=features, seed=seed, **known_by))

# %% [markdown]
# ## 6. How near the truth is each view?
#
# We add the [mixed target](course/glossary.md#mixed-target)
# $r_3=(\mathbb{1}_y+\lambda_g e+\lambda_s a)/(1+\lambda_g+\lambda_s)$, with the weights
# $\lambda$ of the distillations. Three measures, where $y^*$ exists: how often the
# view's favourite is $y^*$; its mass on $y^*$; the squared distance from the truth, a
# [proper score](course/glossary.md#proper-score) (0 at best, 2 at worst). **Predict:**
# which view is best by each?

# %%
hard = torch.nn.functional.one_hot(y, pseudo.n_clusters).double()          # 1_y
views = {"hard": hard, "e": e, "e by vote": vote, "q": q, "a": a, "r3": mixed_target(y, e, a, config.gkd_weight or 0.5,
                                                                                             config.skd_weight or 0.5)}
judged = torch.from_numpy(star[images] >= 0)
goal = torch.from_numpy(star[images])[judged]                             # y*
truth = torch.nn.functional.one_hot(goal, pseudo.n_clusters)
scores = {name: [float(x) for x in ((view.argmax(1) == goal).double().mean(), view.gather(1, goal[:, None]).mean(),
                                    (view - truth).square().sum(1).mean())]
          for name, view in ((name, view[judged]) for name, view in views.items())}
head = ["| view | favourite is $y^*$ | mass on $y^*$ | squared distance |", "|---|---|---|---|"]
display(Markdown("\n".join([*head, *(f"| {name} | {x:.3f} | {m:.3f} | {d:.3f} |" for name, (x, m, d) in scores.items())])))
most, near = (choose(row[column] for row in scores.values()) for choose, column in ((max, 0), (min, 2)))
stage.say("views", f"On these {int(judged.sum())} pictures the true cluster is most often the favourite of "
          f"{', '.join(name for name in scores if scores[name][0] == most)}; nearest to the truth in the squared distance lies "
          f"{', '.join(name for name in scores if scores[name][2] == near)}.", scores=scores)

# %% [markdown]
# **Does mixing a view into the label help?** Where the label is wrong (a share $\eta$),
# the view brings mass to $y^*$: $e_w$ on average. Where it is right, the view takes mass
# away: $1-e_c$. By P2 (notebook 08) the mixture is nearer to the truth, in the *absolute*
# distance, when $\eta e_w>(1-\eta)(1-e_c)$. With $\eta=0.2$, $e_w=0.3$ and $e_c=0.9$
# it is not ($0.06<0.08$).

# %%
eta = float((y[judged] != goal).double().mean())
balances = {name: noise.mass_balance(views[name][judged], y[judged], goal, stage.pids[images][judged.numpy()], seed=seed)
            for name in ("e", "e by vote", "q", "a")}
stage.show(viz.mass_balance_bars(balances), "07_views", f"A share η = {eta:.3f} of these labels is wrong. A difference right of 0 "
           "means that mixing in the view brings the label nearer to the truth.")
stage.say("balance", "Nearer to the truth, further from it, or undecided (0 lies in the interval)? "
          + "; ".join(f"*{name}*: {one.verdict}" for name, one in balances.items()) + ".",
          **{name: [one.margin, one.low, one.high] for name, one in balances.items()})

# %% [markdown]
# P2 has limits: a teacher that is right as often as it says, and prefers the label,
# never passes this line, though in the squared distance it is nearer to the truth
# (notebook 08).
#
# ## 7. Is a view as sure as it should be?
#
# Sort the pictures by *confidence*, the view's largest entry, into ten bins, and compare
# the mean confidence of each with its accuracy. The mean gap, weighted by pictures, is the
# expected [calibration](course/glossary.md#calibration) error, ECE (Guo et al., 2017).
# **Predict:** which view is too sure?

# %%
def reliability(confidence, correct, bins=10):
    """(mean confidence, accuracy, count) of the filled bins of equal width, and the ECE."""
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    count = np.bincount(place, minlength=bins)
    filled = count > 0
    mean, accuracy = (np.bincount(place, x, bins)[filled] / count[filled] for x in (confidence, correct))
    ece = float((count[filled] * abs(accuracy - mean)).sum() / len(confidence))  # sum_b n_b / n |acc_b - conf_b|
    return (mean, accuracy, count[filled]), ece


# %%
bins, ece, lean = {}, {}, {}
for name in ("hard", "e", "e by vote", "q", "a"):
    confidence, correct = views[name][judged].amax(1).clamp(0, 1).numpy(), (views[name][judged].argmax(1) == goal).numpy()
    bins[name], ece[name] = reliability(confidence, correct)
    lean[name] = float(confidence.mean() - correct.mean())
    reference = calibration_curve(correct, confidence, n_bins=10, strategy="uniform")
    np.testing.assert_allclose(bins[name][1::-1], reference)              # accuracy, confidence: as scikit-learn has them
stage.show(viz.reliability_diagrams({name: bins[name] for name in bins if name != "hard"}, errors=ece), "07_reliability",
           "Below the diagonal a view is too sure; a small dot holds few pictures.")
stage.say("sure", f"Too sure on average: {', '.join(name for name in lean if lean[name] > 0) or 'no view'}. "
          f"The ECE is smallest for *{min(ece, key=ece.get)}*.", lean=lean, ece=ece)

# %% [markdown]
# ## 8. What does noise cost each loss?
#
# In `figures/robustness/` a share of true labels was made wrong, each loss trained a
# small head on fixed features (**not** the encoder; no louder control), and other
# people were ranked. *Look alike* noise gives the label of the most similar identity.
# **Predict:** against which noise does the teacher help (GKD), against which the anchor
# (SKD)?

# %%
records = results.published("robustness")
if records:
    stage.show(viz.noise_panels(robustness.by_rate(records), robustness.gains(records)), "07_robustness",
               f"{len(records)} trainings. Below: the gain over cluster contrast; where its bar crosses 0, the sign is undecided.")
    helps = {method: sorted({row["kind"].replace("_", " ") for row in robustness.gains(records)
                             if (row["method"], row["verdict"]) == (method, "helps")}) for method in ("gkd", "skd")}
    stage.say("helps", "**Answer.** Surely better than cluster contrast at some rate: " + "; ".join(
        f"{method.upper()} against {', '.join(kinds) or 'no kind'}" for method, kinds in helps.items()) + ".", **helps)

# %% [markdown]
# **Did P2 predict it?** Across: its margin in the run *without* GKD; upwards: GKD's
# gain. **Predict:** if P2 decided the result, where would the points lie?

# %%
if records:
    points = {when: robustness.margins_and_gains(records, when) for when in ("first", "last")}
    told = {when: robustness.agreement(rows) for when, rows in points.items()}
    within = {kind.replace("_", " "): rho for kind, rho in told["last"]["rho_by_kind"].items() if rho is not None and kind != "none"}
    stage.show(viz.margin_gain(points), "07_prediction", "In the shaded quarters P2's sign and the gain agree: after the first epoch in "
               f"{told['first']['same_sign']} of {told['first']['n']} runs, after the last in {told['last']['same_sign']}.")
    stage.say("forecast", f"Rank correlation of margin and gain: {told['first']['rho']:+.2f} after the first epoch, "
              f"{told['last']['rho']:+.2f} after the last; within one kind of noise (last epoch): "
              + ", ".join(f"{kind} {rho:+.2f}" for kind, rho in within.items()) + ".",
              first=told["first"]["rho"], last=told["last"]["rho"], within=within)

# %% [markdown]
# Correlations near 0 within one kind: the margin tells the kinds apart, not how much a
# method gains. And the last margin is known only after training.
#
# ## Take home
#
# 1. Signs of doubt need no identities; test them on a few dozen labels of your own.
# 2. Read precision, recall and outliers together.
# 3. An odds ratio says how strong a cause is, its attributable fraction how many errors
#    it explains.
# 4. Judge a view by a proper score and by its calibration.
# 5. What noise costs depends on its kind.
#
# ## Exercises

# %% jupyter={"source_hidden": true} tags=["check"]
check = exercise_checks.checks(eta=eta, logits=t, labels=y, judged=judged, goal=goal, e=e, q=q)

# %% [markdown]
# **1. The calibration of the hard label.** Its confidence is always 1. What is its ECE,
# from the share $\eta$ of wrong labels (`eta`)?

# %% tags=["solution"]
# answer_1: a number from 0 to 1
answer_1 = eta                                                            # one bin: |accuracy - 1| = |(1 - eta) - 1|
print(f"A label that doubts nothing has the noise as its calibration error: {ece['hard']:.3f}.")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2. A teacher that doubts more.** Multiply the teacher's temperature by 4 (its logits
# are `t`; judged rows `judged`, their labels `y[judged]`, true clusters `goal`). What is
# P2's margin $\eta e_w-(1-\eta)(1-e_c)$ then? What does P2 reward, and what does the
# squared distance reward?

# %% tags=["solution"]
# answer_2: a number, the margin at four times the temperature
softer = (t / 4).softmax(1)[judged]
answer_2 = theory.break_even(*theory.teacher_quality(softer, y[judged], goal))
distance = (softer - truth).square().sum(1).mean()
print(f"margin {balances['e'].margin:+.3f} -> {answer_2:+.3f}; squared distance {scores['e'][2]:.3f} -> {distance:.3f}. P2 rewards mass on "
      "the true cluster alone, so a bold teacher; the squared distance is best where the mass equals how often the teacher is right.")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3. Disagreement by hand.** For every picture compute how far teacher and query
# differ: $\left(H\!\left(\frac{e+q}2\right)-\frac{H(e)+H(q)}2\right)/\log 2$, with the
# [entropy](course/glossary.md#entropy) $H(p)=-\sum_k p_k\log p_k$ and $0\log0=0$
# (`torch.special.entr` is $-p\log p$).

# %% tags=["solution"]
# answer_3: one number a picture, from 0 to 1
entropy = lambda p: torch.special.entr(p).sum(1)  # noqa: E731
answer_3 = (entropy((e + q) / 2) - (entropy(e) + entropy(q)) / 2) / np.log(2)
np.testing.assert_allclose(answer_3, noise.view_disagreement(e.numpy(), q.numpy()), atol=1e-9)
print(f"mean {answer_3.mean():.3f}, largest {answer_3.max():.3f}. Compare views that see different things, such as the vote (neighbours) and "
      "the query (one augmented picture): two views that both repeat the label agree on its errors too.")

# %% tags=["check"]
check(3, answer_3)

# %%
metrics = {"n_clusters": pseudo.n_clusters, "outlier_fraction": pseudo.outlier_fraction, "wrong_share": float(wrong.mean()), "eta": eta,
           "pair_precision": report.pair_precision, "pair_recall": report.pair_recall, "bcubed_f": report.bcubed_f}
for head, table_of in (("auroc", aurocs), ("ece", ece), ("accuracy", {name: row[0] for name, row in scores.items()})):
    metrics |= {f"{head}_{name.replace(' ', '_')}": number for name, number in table_of.items()}
stage.write_metrics(metrics)
