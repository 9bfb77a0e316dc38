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
# # 05b · Results: what to believe
#
# **You will learn** to read a table of results and the curves behind it; why a flat curve
# is not a plateau by itself; how paired seeds answer which of two methods is better, and
# when they do not.
#
# **Time** on 2 CPU cores: under a minute where notebook 05 has run; else as long as 05,
# because its runs are trained here. **Reads** these runs, and records that come with
# the kit (`figures/ablation`, `figures/reproduce`). **Writes** to `out_dir`:
# `untrained.json`, `figures/05_*.png`, `metrics/05b_results`. No number here is the
# paper's.

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
import dataclasses

import numpy as np
from IPython.display import Markdown, display
from scipy import stats

from dkdmpl_kit import viz
from dkdmpl_kit.experiment import METHOD_LABELS, read_json, write_json
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.noise import error_kinds
from dkdmpl_kit.studies.results import by_method, collect_runs, markdown_table, paired_differences, published, spread, summary
from dkdmpl_kit.training import assess_untrained

stage = Stage("05b_results", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %%
stage.require("clusters")

# %% [markdown]
# ## 1. One run of each
#
# The runs of notebook 05, one [seed](course/glossary.md#seed): the
# [baseline](course/glossary.md#baseline), DKD-MPL and, where identities are known, a run
# on them for half the epochs.
#
# **Predict:** where between the untrained features and the identities will the
# [pseudo labels](course/glossary.md#pseudo-label) end?

# %%
epochs = {"cluster_contrast": stage.config.epochs, "dkdmpl": stage.config.epochs}
if stage.has_truth:
    epochs["supervised"] = max(1, stage.config.epochs // 2)
runs = {method: stage.run(method, epochs=count, progress=False) for method, count in epochs.items()}
histories = {method: run.history for method, run in runs.items() if method != "supervised"}

# %%
untrained, fingerprint = stage.out_dir / "untrained.json", stage.dataset.fingerprint()
if not untrained.exists() or read_json(untrained)["data_fingerprint"] != fingerprint:
    print("Measuring the untrained features ...")
    write_json(untrained, {"run": "untrained", "settings": dataclasses.asdict(stage.config), "history": [],
                           "data_fingerprint": fingerprint, "final": assess_untrained(stage.config, stage.dataset)})
ours = {"untrained", *(run.run_dir.name for run in runs.values())}
records = [record for record in collect_runs(stage.out_dir) if record["run"] in ours]
finals = {method: next(iter(found.values()))["final"] for method, found in by_method(records).items()}
Markdown(markdown_table(records))

# %% [markdown]
# [mAP](course/glossary.md#mean-average-precision), Rank-1 and
# [mINP](course/glossary.md#minp) measure retrieval of people who were not in the
# training (notebook 06).

# %%
score = {method: final["mAP"] for method, final in finals.items() if final["mAP"] is not None}
if {"untrained", "dkdmpl", "cluster_contrast"} <= set(score):
    change = 100 * (score["dkdmpl"] - score["cluster_contrast"])
    fig = viz.result_bars(score, title="mAP after the last epoch, one seed",
                          note="One run each: a demonstration, not evidence. True identities: half the epochs.")
    stage.show(fig, "05_results",
               f"DKD-MPL minus cluster contrast: {change:+.1f} points of mAP. One pair of runs is not a result: section 5.")
    low, reached, top = score["untrained"], score["dkdmpl"], score.get("supervised")
    text = f"DKD-MPL reaches an mAP of {100 * reached:.1f} %, the untrained features {100 * low:.1f} %"
    text += "" if top is None else f", the run on identities {100 * top:.1f} % (half the epochs)"
    place = ("not above its start" if reached <= low else "above its start" if top is None
             else "between the two" if reached <= top else "above both")
    stage.say("place", f"{text}. DKD-MPL ends {place}.", untrained=low, dkdmpl=reached, supervised=top)

# %% [markdown]
# ## 2. How good are the labels?
#
# The [ARI](course/glossary.md#adjusted-rand-index) compares clusters with identities,
# and **leaves the [outliers](course/glossary.md#outlier) out**. If 60 of 100 pictures
# are outliers and the other 40 are all right, the ARI is 1, and 0.4 of *all* labels are
# right. So read the two together. (An epoch's row shows the labels that it *trained
# on*; the table above is measured after the last one.)
#
# **Predict:** which is larger in the first epoch? Will they come together?

# %%
kinds = {}
for method in histories if stage.has_truth else ():
    kinds[method] = [error_kinds(found, stage.pids) for found in stage.epoch_labels(runs[method].run_dir.name)]
    right = [float((kind == "right").mean()) for kind in kinds[method]]
    histories[method] = [r | {"right_labels": share} for r, share in zip(histories[method], right)]
identities = stage.dataset.statistics()["train"]["identities"]
fig = viz.training_curves(histories, metrics=("ari", "right_labels", "outlier_fraction", "n_clusters", "mAP", "loss_cc"),
                          references={"n_clusters": identities} if identities else None,
                          title="Labels, retrieval and loss, epoch by epoch")
first, last = histories["dkdmpl"][0], histories["dkdmpl"][-1]
stage.show(fig, "05_curves", f"DKD-MPL begins with {first['n_clusters']} clusters and "
           f"{100 * first['outlier_fraction']:.0f} % outliers, and ends with {last['n_clusters']} and {100 * last['outlier_fraction']:.0f} %. "
           "Compare losses within a method only: every epoch has its own clusters.")

# %%
if first["ari"] is not None and last["ari"] is not None:
    larger = "The ARI is larger" if first["ari"] > first["right_labels"] else "The ARI is not larger"
    near = abs(last["ari"] - last["right_labels"]) < abs(first["ari"] - first["right_labels"])
    stage.say("two_measures", f"{larger} in the first epoch: {first['ari']:.2f}, and {first['right_labels']:.2f} of all "
              f"labels are right. In the last epoch: {last['ari']:.2f} and {last['right_labels']:.2f}. The two "
              f"{'came together' if near else 'did not come together'}.",
              ari=[first["ari"], last["ari"]], right=[first["right_labels"], last["right_labels"]])

# %% [markdown]
# A label goes wrong in one of three ways: [merged](course/glossary.md#merged) with
# somebody else, [split](course/glossary.md#split) from the identity's largest cluster, or
# outlier.

# %%
if kinds:
    shares = {name: float((kinds["dkdmpl"][-1] == name).mean()) for name in ("merged", "split", "outlier")}
    worst = max(shares, key=shares.get)
    stage.show(viz.error_kinds_bars(kinds["dkdmpl"], title="How pseudo labels go wrong: DKD-MPL"), "05_errors",
               "In the last epoch: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items()) + ".")
    stage.say("kinds", f"Most of the labels that are not right in the last epoch are of the kind *{worst}*."
              if shares[worst] > 0 else "All labels of the last epoch are right.", **shares)

# %% [markdown]
# ## 3. Do the distillations add something?
#
# The upper panels compare gradients, of whole batches: at 1 a term pulls exactly where
# cluster contrast pulls already. GKD adds something only where its teacher doubts the
# hard label (`settings="gkd_teacher=vote"` doubts more).

# %%
end = histories["dkdmpl"][-1]
cosines = {term: end[f"{term}_cosine"] for term in ("gkd", "skd") if end[f"{term}_cosine"] is not None}
stage.show(viz.training_curves({"dkdmpl": histories["dkdmpl"]}, metrics=viz.DISTILLATION, references=viz.ADDS_NOTHING,
                               title="What the distillations add to cluster contrast"), "05_distillation",
           "Cosine with cluster contrast in the last epoch: "
           + (", ".join(f"{term.upper()} {cosine:.3f}" for term, cosine in cosines.items()) or "not measured") + ".")
if cosines:
    same = [term.upper() for term, cosine in cosines.items() if cosine > 0.95]
    stage.say("adds", f"{' and '.join(same)}: a cosine above 0.95, so hardly a new direction." if same else
              "Neither cosine is above 0.95, so both terms pull in a direction of their own.", **cosines)

# %% [markdown]
# ## 4. Flat is not a plateau
#
# A comparison is fair on the [plateau](course/glossary.md#plateau), where more training
# changes nothing. But the learning rate falls to zero, so **every curve ends flat,
# whatever happens**. Only a longer run shows a plateau. We read two studies of the same
# rendered people: three seeds for 10 epochs, three for 20.
#
# **Predict:** how far is the end of the 10 epochs from that of the 20?

# %%
short, long = published("ablation"), published("reproduce")
both = {f"{len(next(iter(found.values()))['history'])} epochs": [record["history"] for record in found.values()]
        for found in (by_method(study).get("cluster_contrast") for study in (short, long)) if found}
if len(both) == 2:
    moved = [np.mean([run[-1]["ari"] - run[-3]["ari"] for run in found]) for found in both.values()]
    fig = viz.training_curves(both, metrics=("ari", "learning_rate", "mAP", "outlier_fraction"),
                              title="Cluster contrast, trained for 10 and for 20 epochs")
    stage.show(fig, "05_plateau", "In the last two epochs the ARI moved by "
               + " and ".join(f"{step:+.3f} in the runs of {name}" for name, step in zip(both, moved))
               + ". (The mAP of the short runs was measured twice only.)")

# %%
if len(both) == 2:
    rate = [run[-1]["learning_rate"] / run[0]["learning_rate"] for run in (found[0] for found in both.values())]
    ends = [float(np.mean([run[-1]["mAP"] for run in found])) for found in both.values()]
    flat = "was not a plateau" if abs(ends[1] - ends[0]) > 0.01 else "was a plateau"
    stage.say("plateau", f"The short runs ended with a learning rate of {100 * rate[0]:.1f} % of the first, at an mAP of "
              f"{100 * ends[0]:.1f} %. Twice as many epochs end at {100 * ends[1]:.1f} %. So the flat end of the short "
              f"runs {flat}. Whether the long runs reached one, only 40 epochs could show.", ends=ends, rate=float(rate[0]))

# %% [markdown]
# ## 5. Several seeds, in pairs
#
# Clusterings amplify small differences. So **pair** the seeds: what a seed brings to
# both methods cancels.
#
# The 95 % [confidence interval](course/glossary.md#confidence-interval) of the mean of
# $n$ differences is $\bar d \pm t\,s/\sqrt n$: $s$ is their standard deviation (with
# $n-1$), $t$ is 4.30 for three. For 0, 2 and 4: $\bar d = 2$, $s = 2$, and
# $4.30 \cdot 2/\sqrt 3 = 5.0$, so −3.0 to 7.0. It includes 0: both signs are possible.
#
# **Predict:** is the spread between seeds larger than the differences between methods?

# %%
if long:
    display(Markdown(markdown_table(long)))

# %%
differences = {m: [100 * d for d in found.values()] for m, found in paired_differences(long).items() if found}
half = {m: spread(points).interval for m, points in differences.items()}
if differences:
    open_signs = sum(h is None or abs(np.mean(differences[m])) <= h for m, h in half.items())
    stage.show(viz.paired_differences(differences, half), "05_pairs",
               f"{open_signs} of {len(half)} intervals include 0: there the sign is undecided.")
    base = summary(long)["cluster_contrast"]["mAP"]
    largest = max(abs(np.mean(points)) for points in differences.values())
    stage.say("spread", f"The seeds of cluster contrast have a standard deviation of {100 * base.deviation:.1f} points; "
              f"the largest mean difference between methods is {largest:.1f}, which is "
              f"{'smaller' if largest < 100 * base.deviation else 'not smaller'}.",
              deviation=100 * base.deviation, differences=differences)

# %%
lines, verdicts = [], {}
for m, points in differences.items():
    mean, width = float(np.mean(points)), half[m]
    sure = width is not None and abs(mean) > width
    verdicts[m] = ("helps here" if mean > 0 else "harms here") if sure else "undecided"
    lines.append(f"- **{METHOD_LABELS[m]}**: {mean:+.1f} points on average, ahead in {sum(d > 0 for d in points)} "
                 f"of {len(points)} seeds: **{verdicts[m]}**.")

# %%
early = [100 * d for d in paired_differences(short).get("dkdmpl", {}).values()]
if early and "dkdmpl" in differences:
    turned = np.mean(early) * np.mean(differences["dkdmpl"]) < 0
    lines.append(f"- The 10-epoch runs give DKD-MPL {np.mean(early):+.1f} points: "
                 f"{'the opposite sign' if turned else 'the same sign'}.")
loud = sum(record["settings"].get("loss_scale", 1) != 1 for record in long)
if differences:
    lines.append(f"- Runs of the control, a louder loss (`loss_scale`): {loud}"
                 f"{'' if loud else ', so a gain by loudness could not be told from a better label'}.")
    stage.say("verdicts", "\n".join(lines), verdicts=verdicts, differences=differences, early=early, loud=loud)

# %% [markdown]
# *Undecided* does not mean "no effect". *Here*: these people, this encoder, these
# settings. Of several methods one may look better by chance. Choose settings on *other*
# seeds or identities than those reported.
#
# ## Take home
#
# 1. One run of each method does not rank methods.
# 2. Read ARI beside the share of right labels over all pictures.
# 3. A schedule that ends at zero ends flat. Compare with a run twice as long.
# 4. Pair the seeds, and give an interval; if it includes 0, say *undecided*.
# 5. A loss is comparable within one method only, and it is not the goal.
#
# ## Exercises

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.checks import results as results_checks

check = results_checks.checks(runs["cluster_contrast"].history)

# %% [markdown]
# **1. Why is the loss not the goal?** With $K$ clusters, guessing evenly costs $\log K$
# nats. Compute $L_{\mathrm{CC}}/\log K$ for every record of
# `runs["cluster_contrast"].history` (`loss_cc`, `n_clusters`).

# %% tags=["solution"]
# answer_1: a list of one number an epoch
answer_1 = [record["loss_cc"] / np.log(record["n_clusters"]) for record in runs["cluster_contrast"].history]
for record, share in zip(histories["cluster_contrast"], answer_1):
    known = f"right labels {record['right_labels']:.2f}" if "right_labels" in record else "identities unknown"
    print(f"epoch {record['epoch']:3d}: L_CC is {100 * share:4.0f} % of guessing; {known}")
# The loss asks how well the labels are learnt, whatever they are. A wrong label can be
# learnt, too: then the loss falls and the label stays wrong.

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2. An interval.** Write a function of a list of at least three
# [paired differences](course/glossary.md#paired-differences) that returns the two ends
# of the 95 % interval of their mean. (`stats.t.ppf(0.975, n - 1)` is the factor $t$.)

# %% tags=["solution"]
# answer_2: a function (differences) -> (lower end, upper end)
def interval(values):
    n, mean = len(values), np.mean(values)
    width = stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)
    return mean - width, mean + width


answer_2 = interval
print(f"0, 2 and 4: {interval([0, 2, 4])[0]:.1f} to {interval([0, 2, 4])[1]:.1f}")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3. How many seeds?** A method truly gains 2 points of mAP, and the paired differences
# are normal with a standard deviation of 3. How often does *one* pair show the wrong
# sign? What is the smallest number of pairs whose mean shows it in fewer than 5 % of the
# cases?

# %% tags=["solution"]
# answer_3: (share of single pairs with the wrong sign, from 0 to 1; smallest number of pairs)
def wrong_sign(n):
    return stats.norm.cdf(-2 * np.sqrt(n) / 3)  # the mean of n scatters with 3 / sqrt(n)


answer_3 = (wrong_sign(1), next(n for n in range(1, 100) if wrong_sign(n) < 0.05))
for n in (1, 3, 5, answer_3[1], 10):
    print(f"{n:2d} pair(s): the wrong sign in {100 * wrong_sign(n):.1f} % of the cases")

# %% tags=["check"]
check(3, answer_3)

# %%
columns = ("mAP", "rank1", "mINP", "ari", "n_clusters", "outlier_fraction")
metrics = {f"{method}_{name}": final.get(name) for method, final in finals.items() for name in columns}
metrics |= {f"plateau_{m}_minus_cluster_contrast": float(np.mean(points)) for m, points in differences.items()}
rows = [[METHOD_LABELS[method], *(final.get(name) for name in columns)] for method, final in finals.items()]
stage.write_metrics(metrics, table={"columns": ["method", *columns], "rows": rows})
