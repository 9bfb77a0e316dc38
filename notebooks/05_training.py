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
# # 05 · Training: the whole loop, and what to believe about its result
#
# **What you will learn**
#
# - One epoch of DKD-MPL, line by line, and that the kit's trainer does exactly this.
# - How pseudo labels and retrieval change together, beside untrained features and a
#   short run on the true identities.
# - Why one short run with one seed proves little, and how to read a comparison with
#   several paired seeds.
#
# **Time** on 2 CPU cores: under a minute with `preset="smoke"`, several minutes with
# `"demo"`: three training runs. Finished runs are read, not repeated; an interrupted
# one goes on where it stopped.
#
# **Reads and writes** in `out_dir`: reads the data set (rendered if missing); writes
# `runs/` (one folder a run; `live-seed…` only if you press *Start* below),
# `untrained.json`, `figures/05_*.png` and `metrics/05_training/metrics.json`. It also
# reads `figures/reproduce/records.json` of this checkout, if it is there: longer runs
# with several seeds, made by `make reproduce`.
#
# Only the abstract of the DKD-MPL paper (Zhu, Peng, Yan, IEEE Trans. Multimedia, 2024)
# is available to us. The loop below is **this kit's reading**, built on the recipe of
# Cluster Contrast. No number here is the paper's.

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
from pathlib import Path

import numpy as np
import torch
from IPython.display import HTML, Markdown, display
from scipy import stats

import dkdmpl_kit
from dkdmpl_kit import viz
from dkdmpl_kit.data import augment, pk_batches
from dkdmpl_kit.experiment import METHOD_LABELS, pick_device, read_json, write_json
from dkdmpl_kit.lessons.replay import RunReplay, hardest
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.losses import anchor_features, dkdmpl_loss, teacher_logits
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.noise import error_kinds, gallery_rows
from dkdmpl_kit.studies.results import by_method, collect_runs, markdown_table, paired_differences, spread, summary
from dkdmpl_kit.training import Monitor, assess_untrained, extract, learning_rate, new_state
from dkdmpl_kit.training.probe import repeats_the_label
from dkdmpl_kit.training.seeds import generator_for, seed_everything

stage = Stage("05_training", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## What the trainer may see
#
# The training is [unsupervised](course/glossary.md#unsupervised): the trainer receives
# a `TrainingImages` with files and cameras, and without identities.
#
# Only the `Monitor` has the true identities. It measures
# ([ARI](course/glossary.md#adjusted-rand-index),
# [mAP](course/glossary.md#mean-average-precision), …), and nothing that it returns
# enters labels, [sampler](course/glossary.md#sampler) or loss. A test of the kit
# shuffles all identities and gets the identical training.

# %%
images = stage.dataset.unlabelled()
print("The trainer sees:", ", ".join(field.name for field in dataclasses.fields(images)))
monitor = Monitor(stage.config, stage.dataset)
print("The monitor alone knows the identities:", "yes" if stage.has_truth else "they are unknown for these pictures")

trainable = stage.cluster(stage.features()).n_clusters >= 2
if not trainable:
    print("The clustering of the untrained features finds fewer than 2 clusters, so nothing can be trained: "
          "raise eps or lower min_samples in `settings`.")

# %% [markdown]
# ## One epoch, line by line
#
# **Step 1: extract and cluster.** All pictures go through the
# [encoder](course/glossary.md#encoder) in eval mode: $v_i$. The clustering gives $y_i$,
# with $-1$ for [outliers](course/glossary.md#outlier).
#
# **Step 2: rebuild the [memory](course/glossary.md#memory).** $C$ and $M$ start as the
# normalised cluster means.
#
# **Step 3: train on batches.** For every batch the loss is
#
# $$L = L_{\mathrm{CC}} + \lambda_g\,L_{\mathrm{GKD}} + \lambda_s\,L_{\mathrm{SKD}}.$$
#
# After the optimiser's step the memory moves in a separate call:
# $M_k \leftarrow \mathrm{normalise}\left(m\,M_k + (1-m)\,z\right)$.

# %%
config = stage.config.replace(method="dkdmpl")
anchor = config.skd_anchor if config.skd_anchor in ("hardest", "random", "mean") else "hardest"
seed_everything(config.seed)
where = pick_device(config.device)
state, store = new_state(config, where), stage.pictures("train")          # encoder and optimiser; decoded pictures

features = extract(config, state.encoder, store)                          # step 1: v, eval mode
pseudo = stage.cluster(features)                                          #         y
print(f"{pseudo.n_clusters} clusters, {100 * pseudo.outlier_fraction:.0f} % outliers.")

# %% tags=["code"]
epoch, losses = 0, []
if trainable:
    v, labels = torch.from_numpy(features).to(where), torch.from_numpy(pseudo.labels).to(where)
    memory = ClusterMemory(v, labels, momentum=config.memory_momentum, update=config.memory_update)    # step 2: C, M
    lambda_g, lambda_s = config.loss_weights(epoch)
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(config, epoch)
    draws = generator_for(config.seed, epoch, "augmentation")
    batches = pk_batches(pseudo.labels, images.camids, clusters_per_batch=config.batch_clusters,
                         images_per_cluster=config.batch_images, iterations=config.iterations,
                         sampler=config.sampler, generator=generator_for(config.seed, epoch, "sampler"))
    state.encoder.train()
    for batch in batches:                                                                              # step 3
        view = augment(store.batch(batch), draws, flip=config.flip, padding=config.padding, erasing=config.erasing)
        z, y = state.encoder(view.to(where)).float(), labels[batch]                                    # z_i, y_i
        z_p = anchor_features(z, y, strategy=anchor, generator=draws)                                  # z_p(i)
        loss = dkdmpl_loss(memory.logits(z, config.temperature), y,                                    # l = M z / tau
                           teacher_logits=teacher_logits("sample", centroids=memory.centroids, features=v[batch], temperature=config.teacher_temperature),  # C v / tau_t
                           anchor_logits=memory.logits(z_p, config.temperature),                       # M z_p / tau
                           gkd_weight=lambda_g, skd_weight=lambda_s,
                           temperature=config.distillation_temperature, divergence=config.skd_divergence)
        state.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        state.optimiser.step()
        memory.update(z.detach(), y)                                      # M_k <- normalise(m M_k + (1 - m) z)
        losses.append(loss.total.item())
    print(f"{len(losses)} batches: loss {losses[0]:.3f} in the first, {losses[-1]:.3f} in the last, "
          f"{np.mean(losses):.4f} on average.")

# %% [markdown]
# That is the whole method. An outer loop repeats it for every
# [epoch](course/glossary.md#epoch), measures, and saves a checkpoint.
#
# ## The runs
#
# Now the kit's trainer, with the **same start**, the **same budget** and the same
# [seed](course/glossary.md#seed):
#
# - `cluster_contrast`: the [baseline](course/glossary.md#baseline),
#   [hard labels](course/glossary.md#hard-label) only;
# - `dkdmpl`: the same with both [distillation](course/glossary.md#distillation)s;
# - `supervised`, where identities are known: a *short* run on the true identities (half
#   the epochs), to compare with. Its record says that it used them.
#
# **Predict:** the untrained features are one end, the true identities the other. Where
# between them will the [pseudo labels](course/glossary.md#pseudo-label) end?

# %%
runs = {}
epochs = {"cluster_contrast": stage.config.epochs, "dkdmpl": stage.config.epochs}
if stage.has_truth:
    epochs["supervised"] = max(1, stage.config.epochs // 2)
else:
    print("True identities are unknown here: there is no supervised row.")
for method in epochs if trainable else ():
    runs[method] = stage.run(method, epochs=epochs[method], progress=False, on_epoch=lambda record: print(
        f"  epoch {record['epoch']:3d}  loss {record['loss']:.3f}  clusters {record['n_clusters']:4d}  "
        f"outliers {100 * record['outlier_fraction']:3.0f} %"
        + ("" if record["ari"] is None else f"  ARI {record['ari']:.2f}")
        + ("" if record["mAP"] is None else f"  mAP {100 * record['mAP']:.1f} %")))
    seconds = sum(sum(record["seconds"].values()) for record in runs[method].history)
    print(f"{method}: {len(runs[method].history)} epochs in {seconds:.0f} s.")

# %% [markdown]
# Does our loop do what the kit does? With the same seed and start, the mean loss of the
# first epoch must be the same.

# %%
if trainable:
    kit_loss, run_dir = runs["dkdmpl"].history[0]["loss"], runs["dkdmpl"].run_dir
    made_here = read_json(run_dir / "environment.json")["threads"] == torch.get_num_threads() and where == "cpu"
    default = config.gkd_teacher == "sample" and config.skd_anchor == anchor and config.precision == "fp32"
    print(f"Mean loss of the first epoch: our loop {np.mean(losses):.6f}, the kit's {kit_loss:.6f}.")
    if made_here and default:
        np.testing.assert_allclose(np.mean(losses), kit_loss, atol=1e-4)
        print("They agree to 1e-4.")
    else:
        print("They need not agree to the last digit here: "
              "other settings, device or number of threads than the loop's.")

# %% [markdown]
# ## The table

# %%
untrained = stage.out_dir / "untrained.json"
fingerprint = stage.dataset.fingerprint()
if not untrained.exists() or read_json(untrained)["data_fingerprint"] != fingerprint:
    print("Measuring the untrained features ...")
    write_json(untrained, {"run": "untrained", "settings": dataclasses.asdict(config), "history": [],
                           "data_fingerprint": fingerprint, "final": assess_untrained(config, stage.dataset)})
ours = {"untrained"} | {run.run_dir.name for run in runs.values()}         # not the warm run of notebooks 03 and 04
records = [record for record in collect_runs(stage.out_dir) if record["run"] in ours]
Markdown(markdown_table(records))

# %%
finals = {method: next(iter(found.values()))["final"] for method, found in by_method(records).items()}
if not stage.has_test:
    print("There is no query and gallery split with identities: retrieval (mAP, Rank-1, mINP) is not measured.")
elif finals["untrained"]["mAP"]:
    for method in runs:
        print(f"{METHOD_LABELS[method]}: {finals[method]['mAP'] / finals['untrained']['mAP']:.1f} times the mAP "
              "of the untrained features.")
    if len(runs) > 1:
        change = 100 * (finals["dkdmpl"]["mAP"] - finals["cluster_contrast"]["mAP"])
        print(f"DKD-MPL minus cluster contrast, this seed, this budget: {change:+.1f} points of mAP. "
              "One pair of runs: not a result.")

# %%
figures = []
if stage.has_test:
    fig = viz.result_bars({method: final["mAP"] for method, final in finals.items()},
                          title="mAP after the last epoch, one seed",
                          note="Live runs of this notebook: a demonstration, not evidence.")
    stage.save_figure(fig, "05_results")
    figures.append("05_results")
    display(fig)

# %% [markdown]
# Training never used identities of the test split. mAP and
# [Rank-1](course/glossary.md#cmc) measure retrieval; [mINP](course/glossary.md#minp)
# depends on the rank of the *last* right picture. ARI compares the clustering of the
# training pictures with the truth, without outliers: read it together with their share.
#
# ## Watching it learn
#
# **Predict:** does the number of clusters approach the number of identities from above
# or from below?

# %%
if trainable:
    histories = {method: run.history for method, run in runs.items() if method != "supervised"}
    identities = stage.dataset.statistics()["train"]["identities"]
    fig = viz.training_curves(histories, metrics=("mAP", "ari", "n_clusters", "outlier_fraction"),
                              references={"n_clusters": identities} if identities else None,
                              title="Retrieval and pseudo labels, epoch by epoch")
    stage.save_figure(fig, "05_curves")
    display(fig)
    losses_fig = viz.training_curves(histories, metrics=("loss", "loss_cc", "loss_gkd", "loss_skd"),
                                     title="The loss and its parts")
    stage.save_figure(losses_fig, "05_losses")
    display(losses_fig)
    figures += ["05_curves", "05_losses"]
    distilled = {method: history for method, history in histories.items() if method in ("gkd", "skd", "dkdmpl")}
    if distilled:
        added = viz.training_curves(distilled, metrics=viz.DISTILLATION, references=viz.ADDS_NOTHING,
                                    title="What the distillations add to cluster contrast")
        stage.save_figure(added, "05_distillation")
        display(added)
        figures.append("05_distillation")
        for method, history in distilled.items():
            cosines = [f"{term.upper()} {history[-1][f'{term}_cosine']:.3f}" for term in ("gkd", "skd")
                       if history[-1][f"{term}_cosine"] is not None]
            print(f"{METHOD_LABELS[method]}, last epoch, cosine with cluster contrast: {', '.join(cosines)}. "
                  f"{repeats_the_label(history[-1]) or ''}")

# %% [markdown]
# The dotted line is the true number of identities, where known. Compare losses *within*
# a method only: DKD-MPL adds two terms, and every epoch has its own clusters. (Where
# cluster contrast stays at 0, the term is not part of its loss.)
#
# The last figure asks what the two distillations *add*. Its upper panels compare
# gradients: at 1 a term pulls exactly where cluster contrast pulls already, and only
# makes the loss louder. The teacher of $L_{GKD}$ can add something only where it doubts
# the hard label (`settings="gkd_teacher=vote"` doubts more).
#
# How do the labels go wrong? There are four kinds: *right*; *merged* (the cluster is
# mainly somebody else's); *split* (the identity has another, larger cluster);
# *outlier*.

# %%
kinds = {}
if trainable and stage.has_truth:
    for method in histories:
        kinds[method] = [error_kinds(found, stage.pids) for found in stage.epoch_labels(runs[method].run_dir.name)]
        fig = viz.error_kinds_bars(kinds[method], title=f"How pseudo labels go wrong: {METHOD_LABELS[method]}")
        stage.save_figure(fig, f"05_errors_{method}")
        figures.append(f"05_errors_{method}")
        display(fig)
        first, last = ((kinds[method][k] == "right").mean() for k in (0, -1))
        print(f"{METHOD_LABELS[method]}: {100 * first:.0f} % of the labels right in the first epoch, "
              f"{100 * last:.0f} % in the last.")
elif trainable:
    print("True identities are not known for these pictures: the kinds of error cannot be told.")

# %% [markdown]
# With merged pictures, [cluster contrast](course/glossary.md#cluster-contrast) pulls
# two people together. With split pictures, it pushes one person apart. Outliers are
# left out until a later epoch.
#
# ## The clusters at the end

# %%
if trainable:
    final_features = stage.features(runs["dkdmpl"].run_dir.name)
    final_labels = stage.cluster(final_features).labels
    known_pids = stage.pids if stage.has_truth else None
    rows = gallery_rows(final_labels, known_pids, final_features)
    fig = viz.cluster_gallery(stage.pictures("train").pixels, rows, known_pids)
    stage.save_figure(fig, "05_gallery")
    figures.append("05_gallery")
    display(fig)

# %% [markdown]
# Look at the most mixed clusters. Same clothes? Same camera? Same background? Then look
# at the outliers: what makes them hard?
#
# ## Epoch by epoch: how clusters split, merge and die
#
# Every epoch clusters again, so cluster 5 of one epoch is not cluster 5 of the next. To
# *follow* a cluster we match the clusters of two epochs one to one, so that they
# overlap most in total (`noise.label_change`). A cluster without a partner, or with too
# little in common with it, *dies*; one that continues no other is *born*.
#
# In the picture a column is an epoch, a band is a cluster, and a ribbon shows where its
# pictures go. Two ribbons out of one band: a **split**. Two into one: a **merge**.
# Shown are the clusters that exchanged most pictures; the others are one grey band, and
# outliers have their own.
#
# These words have two uses. Here a split or a merge is an *event* between two epochs,
# seen without the truth. *Split* and *merged* pictures, in the bars above, are *kinds
# of error*, judged by the true identities.
#
# **Predict:** as the features get better, which is more frequent, a split or a merge?

# %%
if trainable:
    replay = RunReplay(runs["dkdmpl"].run_dir, pids=stage.pids, camids=stage.camids)
    replay.refresh()                                                        # reads the epochs that the run left
    fig = replay.flows()
    stage.save_figure(fig, "05_flows")
    figures.append("05_flows")
    display(fig, HTML(replay.table()))
    print("Clusters, in the whole run: " + ", ".join(
        f"{sum(replay.changes[name])} {name}" for name in ("born", "died", "split", "merged")) + ".")

# %% [markdown]
# *Moved pictures* of the table went to another cluster, which may be new. A split
# counts only where at least two new clusters each take a fifth of the old one or more,
# a merge only where at least two old ones each make up a fifth of the new one or more:
# a single picture seldom makes either. Do later epochs move fewer pictures?
#
# Next the same clusters, in the same colours, on [maps](course/glossary.md#umap) of the
# features. Each map starts from the one before and is turned to fit it, so that you can
# follow the islands. **A map is only a picture:** the clusters were found in feature
# space.

# %%
if trainable and replay.layout(0) is not None:
    fig = replay.strip()
    stage.save_figure(fig, "05_maps")
    figures.append("05_maps")
    display(fig)
elif trainable:
    print("These runs keep no features of their epochs (keep_features): there are no maps.")

# %% [markdown]
# In JupyterLab the run plays like a film: the map at the left, the flows at the right,
# in the same colours. The yellow column is the epoch of the map. Press play, or move
# `epoch`. `clusters` says how many of them have a letter and a colour, and `which`
# chooses them: those that changed most, or the largest. `colour by` paints the map by
# kind of error, identity or camera, where known. (*Refresh* and *go to the newest
# epoch* are for a run that still trains.)
#
# **Predict:** where do the pictures of a cluster go when it dies: into other clusters,
# or among the outliers?
#
# Three things to try:
#
# 1. Find a × in the flows and follow the ribbons of its cluster. Then look at both
#    epochs on the map.
# 2. Colour by kind of error: do *merged* pictures lie at the rims of the islands, or in
#    the middle?
# 3. Follow the largest clusters instead: do they change less?

# %%
if trainable and interactive:
    from dkdmpl_kit.lessons.lab import EpochPlayer

    display(EpochPlayer(runs["dkdmpl"].run_dir, pids=stage.pids, camids=stage.camids))

# %% [markdown]
# ## Watching it live
#
# Two pictures can be drawn while a run trains. The last panel of the first is the
# [break-even](course/glossary.md#break-even) of P2 (notebook 03): the teacher's mass on
# the true cluster, less the accuracy of the hard label. Where this margin is above 0,
# mixing the teacher in brings the labels nearer to the truth, on average.
#
# The second shows the *hardest* pictures: those for which the centre of another cluster
# is nearly as close as the own one. This needs no truth. The frames then show, where
# identities are known, whether the label is wrong.
#
# **Predict:** does the margin rise or fall from epoch to epoch? And how many of the
# twelve hardest pictures are labelled wrongly?

# %%
if trainable:
    fig = viz.live_curves(replay.records(config.teacher_temperature), identities=identities)
    stage.save_figure(fig, "05_live")
    figures.append("05_live")
    display(fig)
    last = replay.features(len(replay) - 1)
    if last is not None:
        worst, scores = hardest(replay.labels[-1], last, 12)
        fig = viz.hardest_pictures(stage.pictures("train").batch(worst).numpy(), replay.labels[-1][worst], scores,
                                   error_kinds(replay.labels[-1], stage.pids)[worst] if stage.has_truth else None)
        stage.save_figure(fig, "05_hardest")
        figures.append("05_hardest")
        display(fig)

# %% [markdown]
# In JupyterLab the panel below trains a short run of its own when you press **Start**.
# Meanwhile you can read on or run other cells. **Pause** waits before the next batch,
# and **Resume** goes on from there. **Stop** ends the run; then **Resume** goes on from
# the last whole epoch, with the same result as a run without a stop. (A finished run is
# shown, not trained again.) The player under it shows each epoch as soon as it is done.
#
# Three things to try: pause in the middle of an epoch, and read where the loop waits;
# stop in the middle of an epoch and resume, and see from which batch it goes on; and
# watch in the player which clusters are new or gone in the newest epoch.

# %%
if trainable and interactive:
    from functools import partial

    from dkdmpl_kit.lessons.lab import TrainingMonitor
    from dkdmpl_kit.training import fit

    live = stage.config.replace(method="dkdmpl", run_name=f"live-seed{seed}", epochs=min(3, stage.config.epochs))
    player = EpochPlayer(live.run_dir, pids=stage.pids, camids=stage.camids)
    player.newest.value = True                                            # go to each new epoch
    panel = TrainingMonitor(partial(fit, live, stage.dataset, progress=False), live, pids=stage.pids,
                            pictures=stage.pictures("train"), on_epoch=lambda record: player.refresh())
    display(panel, player)

# %% [markdown]
# ## What to believe: the plateau, with several seeds
#
# A short run with one seed can show that training works. It cannot show that A is
# better than B:
#
# 1. **Seeds differ.** Another seed draws other batches, and clusterings amplify small
#    differences. The spread between seeds can be as large as the effect that we look
#    for.
# 2. **Early is not late.** A softer target may be slower at the start and better at the
#    end, or the reverse. Compare on the *plateau*, where the curves are flat.
#
# So train long enough, take several seeds, and **pair** them: both methods use the same
# seed, and its effect on both cancels in the difference.
#
# `make reproduce` does this with the kit's embedded data. We read its records here
# (`figures/reproduce/`), whatever data set you chose above.
#
# **Predict:** how large is the spread between seeds, compared with the differences
# between methods?

# %%
published = Path(dkdmpl_kit.__file__).resolve().parent.parent / "figures" / "reproduce" / "records.json"
plateau = read_json(published) if published.exists() else []
if plateau:
    setting = next(record["settings"] for record in plateau if record["run"] != "untrained")
    print(f"{len(plateau)} records: {setting['data']}, {setting['n_train_ids']} identities, "
          f"{setting['epochs']} epochs of {setting['iterations']} batches.")
    display(Markdown(markdown_table(plateau)))
else:
    print("There are no records of longer runs in this checkout (figures/reproduce/records.json): "
          "`make reproduce` makes them.")

# %%
if plateau:
    table = by_method(plateau)
    trained = {m: found for m, found in table.items() if m not in ("untrained", "supervised")}
    fig = viz.training_curves({m: [r["history"] for r in found.values()] for m, found in trained.items()},
                              metrics=("mAP", "ari", "n_clusters", "outlier_fraction"),
                              title="To the plateau: mean and range over the seeds")
    stage.save_figure(fig, "05_plateau_curves")
    display(fig)
    bars = viz.result_bars({m: [r["final"]["mAP"] for r in found.values()] for m, found in table.items()},
                           title="mAP of the last epoch, one dot a seed")
    stage.save_figure(bars, "05_plateau_results")
    display(bars)
    figures += ["05_plateau_curves", "05_plateau_results"]

# %%
differences = {m: [100 * d for d in found.values()] for m, found in paired_differences(plateau).items() if found}
if differences:
    fig = viz.paired_differences(differences, {m: spread(points).interval for m, points in differences.items()})
    stage.save_figure(fig, "05_plateau_pairs")
    figures.append("05_plateau_pairs")
    display(fig)
    base = summary(plateau)["cluster_contrast"]["mAP"]
    if base.deviation is not None:
        print(f"Spread of cluster contrast between its {len(base.values)} seeds: standard deviation "
              f"{100 * base.deviation:.1f} points of mAP.")
    for m, points in differences.items():
        n, mean, ahead = len(points), np.mean(points), sum(d > 0 for d in points)
        sentence = f"{METHOD_LABELS[m]} against cluster contrast: {mean:+.1f} points on average, "
        sentence += f"ahead in {ahead} of {n} seeds"
        if n >= 3:
            half = stats.t.ppf(0.975, n - 1) * np.std(points, ddof=1) / np.sqrt(n)
            sentence += f"; 95 % interval {mean - half:+.1f} to {mean + half:+.1f}, so " + (
                "the sign is undecided" if abs(mean) <= half else "it helps here" if mean > 0 else "it harms here")
        print(sentence + ".")

# %% [markdown]
# The *95 % interval* is Student's: the mean of $n$ differences, plus and minus
# $t\,s/\sqrt n$, with $s$ their standard deviation and a factor $t$ that is large for
# few seeds (4.3 for three). If it includes 0, the data allow both signs.
#
# The sentences above are computed from the records. "Undecided" means that more seeds
# or longer runs are needed, not that there is no effect. "Here" means: these rendered
# people, this encoder, these settings. With several methods against one baseline, one
# may look better by chance. Settings should be chosen on *other* seeds or identities
# than those reported; the README says how the kit's were.
#
# ## Exercises
#
# Put each answer into the named variable; the cell below it says whether it is right,
# or why not. (The folded cells prepare the checks: they contain the answers.)

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.exercises import exercises, value

tests = {1: None, 2: None}
if trainable:
    history = runs["cluster_contrast"].history
    cost, found = (np.array([record[key] for record in history]) for key in ("loss_cc", "n_clusters"))
    tests[1] = value(cost / np.log(found), mistakes={
        "divide by the natural logarithm: losses are in nats.": cost / np.log2(found),
        "divide by log K, not by K.": cost / found, "divide by the natural logarithm, not by log10.": cost / np.log10(found)})
if trainable and stage.has_cameras and final_labels.max() >= 1 and config.batch_images > 1:
    expected, error = [], []
    for sampler in ("camera", "random"):
        drawn = pk_batches(final_labels, stage.camids, clusters_per_batch=config.batch_clusters,
                           images_per_cluster=config.batch_images, iterations=50, sampler=sampler,
                           generator=generator_for(seed, 1, "check"))
        rows = np.concatenate([stage.camids[b].reshape(-1, config.batch_images) for b in drawn])
        others = (rows[:, 1:] != rows[:, :1]).mean(axis=1)                # of each drawn cluster
        expected.append(others.mean())
        error.append(others.std() / np.sqrt(len(others)))
    expected, error = np.array(expected), np.array(error)

    def sampler_test(answer):
        given = np.asarray(answer, dtype=float)
        if given.shape != (2,):
            return "two shares are asked for, first of the camera sampler, then of the random one."
        near = 0.01 + 6 * error                                           # both of us drew batches at random
        inside = (config.batch_images - 1) / config.batch_images
        hints = {"": expected, "the right two, in the opposite order.": expected[::-1],
                 "it is in per cent; give shares from 0 to 1.": 100 * expected,
                 "the first picture itself was counted as well; only its batch mates count.": inside * expected,
                 "those share the camera of the first picture; count the others.": 1 - expected}
        return next((h for h, wanted in hints.items() if (abs(given - wanted) <= near).all()), "that is not what batches show.")

    tests[2] = sampler_test

# %% jupyter={"source_hidden": true} tags=["check"]
pairs_needed = next(n for n in range(1, 1000) if stats.norm.cdf(-2 * np.sqrt(n) / 3) < 0.05)
one_wrong = stats.norm.cdf(-2 / 3)


def seeds_test(answer):
    share, n = (float(x) for x in answer)
    if abs(share - one_wrong) > 0.015:
        return "the share of single pairs with the wrong sign is off: how often is a normal number of mean 2 and deviation 3 below 0?"
    if n == next(k for k in range(1, 1000) if stats.norm.cdf(-2 * np.sqrt(k) / 3) < 0.025):
        return "that many are needed for 2.5 %; only one of the two signs is wrong."
    return "" if n == pairs_needed else f"{n:g} pairs are too {'few' if n < pairs_needed else 'many'}: the mean of n scatters with 3 / sqrt(n)."


tests[3] = seeds_test
check = exercises(tests)

# %% [markdown]
# **1. Why is the loss not the goal?** With $K$ clusters, guessing evenly costs $\log K$
# nats. (Being sure and wrong costs more.) Compute $L_{\mathrm{CC}}/\log K$ for every
# epoch of the run `cluster_contrast`, and print it beside the ARI of its labels. Can
# the loss fall while the labels stay bad? (`runs["cluster_contrast"].history` holds one
# record an epoch, with `loss_cc`, `n_clusters` and `ari`.)

# %% tags=["solution"]
# answer_1: a list of one number an epoch
answer_1 = None
if trainable:
    answer_1 = []
    for record in runs["cluster_contrast"].history:
        share = record["loss_cc"] / np.log(record["n_clusters"])
        answer_1.append(share)
        print(f"epoch {record['epoch']:3d}: L_CC is {100 * share:4.0f} % of guessing; "
              + ("ARI unknown" if record["ari"] is None else f"ARI {record['ari']:.2f}"))
    print("The loss measures how well the labels are learnt, not how true they are: wrong labels can be learnt too.")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2. What does the camera sampler do?** Draw 50 batches with `sampler="camera"` and 50
# with `"random"` from `final_labels`. Take the first picture of each cluster in a
# batch, which is drawn at random, and its batch mates, the other pictures of its
# cluster in that batch. What share of the batch mates comes from another camera than
# the first picture? (`pk_batches` is called as in *One epoch, line by line*. A batch
# holds indices of pictures, one cluster after the other, `config.batch_images` of each;
# `stage.camids` holds their cameras.)

# %% tags=["solution"]
# answer_2: two shares from 0 to 1, for the camera sampler and for the random one
answer_2 = None
if trainable and stage.has_cameras and final_labels.max() >= 1 and config.batch_images > 1:
    answer_2 = []
    for sampler in ("camera", "random"):
        shares = []
        for b in pk_batches(final_labels, stage.camids, clusters_per_batch=config.batch_clusters,
                            images_per_cluster=config.batch_images, iterations=50, sampler=sampler,
                            generator=generator_for(seed, 0, "exercise")):
            cameras = stage.camids[b].reshape(-1, config.batch_images)  # one row a cluster, its first picture in front
            shares.append((cameras[:, 1:] != cameras[:, :1]).mean())
        answer_2.append(np.mean(shares))
        print(f"{sampler:6s} sampler: {100 * np.mean(shares):.0f} % of the batch mates come from another camera "
              "than the first picture.")
else:
    print("This needs known cameras and a clustering with at least two clusters.")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3. How many seeds?** Suppose a method truly gains 2 points of mAP, and the
# [paired differences](course/glossary.md#paired-differences) are normal with a standard
# deviation of 3. How often does *one* pair of runs show the wrong sign? What is the
# smallest number of pairs whose mean shows it in fewer than 5 % of the cases? If the
# records are there: in what share of the seeds does the sign differ from that of the
# mean?

# %% tags=["solution"]
# answer_3: (share of single pairs with the wrong sign, from 0 to 1; smallest number of pairs)
wrong_sign = lambda n: stats.norm.cdf(-2 * np.sqrt(n) / 3)  # noqa: E731   the mean of n scatters with 3 / sqrt(n)
answer_3 = (wrong_sign(1), next(n for n in range(1, 100) if wrong_sign(n) < 0.05))
rng = np.random.default_rng(seed)
for n in (1, 3, 5, answer_3[1], 10):
    thrown = (rng.normal(2.0, 3.0, size=(20000, n)).mean(axis=1) < 0).mean()
    print(f"{n:2d} pair(s): the wrong sign in {100 * wrong_sign(n):.1f} % of the cases; by throwing dice {100 * thrown:.1f} %")
for m, points in differences.items():
    against = np.mean(np.sign(points) != np.sign(np.mean(points)))
    print(f"Records, {METHOD_LABELS[m]}: {100 * against:.0f} % of the seeds contradict the sign of the mean.")

# %% tags=["check"]
check(3, answer_3)

# %%
columns = ("mAP", "rank1", "mINP", "ari", "n_clusters", "outlier_fraction")
metrics = {f"{method}_{name}": final.get(name) for method, final in finals.items() for name in columns}
metrics |= {f"plateau_{m}_minus_cluster_contrast": float(np.mean(points)) for m, points in differences.items()}
stage.write_metrics(metrics, figures=figures, table={
    "columns": ["method", *columns],
    "rows": [[METHOD_LABELS[method], *(final.get(name) for name in columns)] for method, final in finals.items()]})
