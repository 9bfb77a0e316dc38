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
# # 05 · Training: the whole loop
#
# **You will learn** one epoch of DKD-MPL, line by line, and that the kit's trainer does
# the same; how the clusters of a run split, merge and die; how to watch a run.
#
# **Time** on 2 CPU cores: under a minute with `preset="smoke"`, some minutes with
# `"demo"`. **Reads** the data set. **Writes** to `out_dir`: `runs/`,
# `figures/05_*.png`, `metrics/05_training`. Notebook 05b reads the results.
#
# This loop is **the kit's reading** of the paper's abstract (Zhu, Peng, Yan, 2024), on
# the recipe of Cluster Contrast.

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
import torch
from IPython.display import HTML, display

from dkdmpl_kit import viz
from dkdmpl_kit.data import augment, pk_batches
from dkdmpl_kit.experiment import pick_device, read_json
from dkdmpl_kit.lessons.replay import RunReplay, hardest
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.losses import anchor_features, dkdmpl_loss, teacher_logits
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.noise import error_kinds
from dkdmpl_kit.training import Monitor, extract, learning_rate, new_state
from dkdmpl_kit.training.outcome import one_line
from dkdmpl_kit.training.seeds import generator_for, seed_everything

# %%
stage = Stage("05_training", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## What the trainer may see
#
# In [unsupervised](course/glossary.md#unsupervised) training the trainer receives files
# and cameras. Only the `Monitor` has the true
# [identities](course/glossary.md#identity), and nothing that it returns enters labels,
# [sampler](course/glossary.md#sampler) or loss.

# %%
images = stage.dataset.unlabelled()
print("The trainer sees:", ", ".join(field.name for field in dataclasses.fields(images)))
monitor = Monitor(stage.config, stage.dataset)
print("The monitor knows the identities:", "yes" if stage.has_truth else "no, they are unknown for these pictures")

# %%
stage.require("clusters")

# %% [markdown]
# ## One epoch, line by line
#
# **Step 1: extract and cluster.** The [encoder](course/glossary.md#encoder), in eval
# mode, gives the features $v_i$. The clustering gives the labels $y_i$, with $-1$ for
# [outliers](course/glossary.md#outlier).

# %%
config = stage.config.replace(method="dkdmpl")
anchor = config.skd_anchor if config.skd_anchor in ("hardest", "random", "mean") else "hardest"
seed_everything(config.seed)
where = pick_device(config.device)
state, store = new_state(config, where), stage.pictures("train")  # encoder and optimiser; decoded pictures
features = extract(config, state.encoder, store)  # v
pseudo = stage.cluster(features)  # y
print(f"{pseudo.n_clusters} clusters, {100 * pseudo.outlier_fraction:.0f} % outliers.")

# %% [markdown]
# **Step 2: rebuild the [memory](course/glossary.md#memory).** The centroids $C$, the
# cluster means of length 1, are frozen for the epoch. The memory $M$ starts as $C$ and
# moves.

# %% tags=["code"]
epoch = 0
v, labels = torch.from_numpy(features).to(where), torch.from_numpy(pseudo.labels).to(where)
memory = ClusterMemory(v, labels, momentum=config.memory_momentum, update=config.memory_update)  # C, M
lambda_g, lambda_s = config.loss_weights(epoch)
for group in state.optimiser.param_groups:
    group["lr"] = learning_rate(config, epoch)
draws = generator_for(config.seed, epoch, "augmentation")
batches = pk_batches(pseudo.labels, images.camids, clusters_per_batch=config.batch_clusters,
                     images_per_cluster=config.batch_images, iterations=config.iterations,
                     sampler=config.sampler, generator=generator_for(config.seed, epoch, "sampler"))

# %% [markdown]
# **Step 3: train on batches.** For every batch the loss is
#
# $$L = L_{\mathrm{CC}} + \lambda_g\,L_{\mathrm{GKD}} + \lambda_s\,L_{\mathrm{SKD}},$$
#
# of the student's logits $M z_i/\tau$, the teacher's $C v_i/\tau_t$ and the anchor's
# $M z_{p(i)}/\tau$. Then the memory moves:
# $M_k \leftarrow \mathrm{normalise}(m\,M_k + (1-m)\,z)$. With $m = 0.1$, $M_k = (1, 0)$
# and $z = (0.6, 0.8)$ the sum is $(0.64, 0.72)$, of length 0.96; the new row is
# $(0.66, 0.75)$.
#
# **Predict:** guessing evenly among $K$ clusters costs $L_{\mathrm{CC}} = \log K$. Does
# the first batch cost less? Does the loss fall within the epoch?

# %% tags=["code"]
def batch_loss(batch):
    """(loss, z): the three terms of one batch, and its features z (B, d)."""
    view = augment(store.batch(batch), draws, flip=config.flip, padding=config.padding, erasing=config.erasing)
    z, y = state.encoder(view.to(where)).float(), labels[batch]  # z_i, y_i
    z_p = anchor_features(z, y, strategy=anchor, generator=draws)  # z_p(i)
    teacher = teacher_logits("sample", centroids=memory.centroids, features=v[batch],
                             temperature=config.teacher_temperature)  # C v / tau_t
    loss = dkdmpl_loss(memory.logits(z, config.temperature), y, teacher_logits=teacher,  # M z / tau
                       anchor_logits=memory.logits(z_p, config.temperature),  # M z_p / tau
                       gkd_weight=lambda_g, skd_weight=lambda_s,
                       temperature=config.distillation_temperature, divergence=config.skd_divergence)
    return loss, z


# %% tags=["code"]
totals, contrast = [], []
state.encoder.train()
for batch in batches:
    loss, z = batch_loss(batch)
    state.optimiser.zero_grad(set_to_none=True)
    loss.total.backward()
    state.optimiser.step()
    memory.update(z.detach(), labels[batch])  # M_k <- normalise(m M_k + (1 - m) z)
    totals.append(loss.total.item())
    contrast.append(loss.cluster_contrast.item())

# %%
guess, first, last = float(np.log(pseudo.n_clusters)), contrast[0], contrast[-1]
stage.say("first_epoch", f"Guessing evenly among {pseudo.n_clusters} clusters costs {guess:.2f} nats. The first of "
          f"{len(contrast)} batches costs {first:.2f}, which is {'less' if first < guess else 'not less'}; the last one "
          f"{last:.2f}, so the loss {'fell' if last < first else 'did not fall'} within the epoch.",
          clusters=pseudo.n_clusters, first=first, last=last)

# %% [markdown]
# That is the method. An outer loop repeats it for every
# [epoch](course/glossary.md#epoch), measures, and saves a checkpoint.
#
# ## The runs
#
# Now the kit's trainer, with the same start and [seed](course/glossary.md#seed):
#
# - `cluster_contrast`: the [baseline](course/glossary.md#baseline), with
#   [hard labels](course/glossary.md#hard-label) only;
# - `dkdmpl`: the same with both [distillations](course/glossary.md#distillation), whose
#   weights grow at first (so its loss may rise);
# - `supervised`, where identities are known: trained *on* them, for **half the epochs**.

# %%
epochs = {"cluster_contrast": stage.config.epochs, "dkdmpl": stage.config.epochs}
if stage.has_truth:
    epochs["supervised"] = max(1, stage.config.epochs // 2)
runs = {}
for method, count in epochs.items():
    runs[method] = stage.run(method, epochs=count, progress=False,
                             on_epoch=lambda record: print(f"  epoch {record['epoch']:3d}: {one_line(record)}"))
    seconds = sum(sum(record["seconds"].values()) for record in runs[method].history)
    print(f"{method}: {len(runs[method].history)} epochs in {seconds:.0f} s.")

# %% [markdown]
# Does our loop do the same? The mean loss of the first epoch must be equal.

# %%
ours, kit = float(np.mean(totals)), float(runs["dkdmpl"].history[0]["loss"])
threads = read_json(runs["dkdmpl"].run_dir / "environment.json")["threads"]
alike = config.gkd_teacher == "sample" and config.skd_anchor == anchor and config.precision == "fp32"
if where == "cpu" and threads == torch.get_num_threads() and alike:
    np.testing.assert_allclose(ours, kit, atol=1e-4)
verdict = "they agree to 1e-4" if abs(ours - kit) <= 1e-4 else (
    "they differ, because settings, device or number of threads are not those of the loop above")
stage.say("same_loss", f"Mean loss of the first epoch: {ours:.5f} by our loop, {kit:.5f} by the kit; {verdict}.",
          ours=ours, kit=kit)

# %% [markdown]
# ## How clusters split, merge and die
#
# Every epoch clusters again: cluster 5 of one epoch is not cluster 5 of the next. So
# the kit matches the clusters of two epochs one to one by their overlap, a fifth at
# least. A cluster without a partner *dies*; one that continues no other is *born*.
#
# A column is an epoch, a band is a cluster, a ribbon shows where its pictures go. Two
# ribbons out of a band, each at least a fifth of it, are a **split**; two into one are
# a **merge**. (Notebook 02's kinds of error have the same names.)
#
# **Predict:** are splits or merges more frequent? Do later epochs move fewer pictures?

# %%
replay = RunReplay(runs["dkdmpl"].run_dir, pids=stage.pids, camids=stage.camids)
replay.refresh()  # reads the epochs that the run left
first, last = (set(tracks[tracks >= 0].tolist()) for tracks in replay.tracks[[0, -1]])
stage.show(replay.flows(), "05_flows", f"Of the {len(first)} clusters of the first epoch, {len(first & last)} "
           f"still live in the last, which has {len(last)}. Shown are the {replay.n_chosen} that exchanged most.")
display(HTML(replay.table()))

# %%
events = {name: int(sum(steps)) for name, steps in replay.changes.items()}
moved = [int(x) for x in replay.changes["moved"]]
more = np.sign(events["split"] - events["merged"])
text = {1: "Splits are more frequent than merges", -1: "Merges are more frequent than splits",
        0: "Splits and merges are equally frequent"}[int(more)]
text += f" ({events['split']} splits, {events['merged']} merges in the whole run)."
if len(moved) > 1:
    text += (f" The last step moved {moved[-1]} pictures to another cluster, the first step {moved[0]}: "
             + ("fewer." if moved[-1] < moved[0] else "not fewer."))
stage.say("events", text, moved=moved, **{k: events[k] for k in ("born", "died", "split", "merged")})

# %% [markdown]
# The same clusters on [maps](course/glossary.md#umap), each started from the one
# before. **A map is only a picture:** the clusters were found in feature space.

# %%
shares = [100 * float((found < 0).mean()) for found in replay.labels]
if replay.layout(0) is None:
    print("These runs keep no features of their epochs (keep_features): there are no maps.")
else:
    stage.show(replay.strip(), "05_maps", f"From the first epoch to the last the share of outliers went from "
               f"{shares[0]:.0f} to {shares[-1]:.0f} %: pictures without a label do not train.")

# %% [markdown]
# In JupyterLab the run plays like a film. **Predict:** where do the pictures of a cluster
# go when it dies: into other clusters, or among the outliers? Find a × in the flows and
# follow its ribbons.

# %%
if interactive:
    from dkdmpl_kit.lessons.lab import EpochPlayer

    display(EpochPlayer(runs["dkdmpl"].run_dir, pids=stage.pids, camids=stage.camids))

# %% [markdown]
# ## Watching it live
#
# The last panel is P2's [break-even](course/glossary.md#break-even) (notebook 03): the
# teacher's mass on the true cluster, less the hard label's accuracy. A [proper
# score](course/glossary.md#proper-score) can disagree. The second picture shows the
# *hardest* pictures: another cluster's centre is nearly as close as their own (no truth
# needed).
#
# **Predict:** does the margin rise? How many of the twelve are labelled wrongly?

# %%
records = replay.records(config.teacher_temperature)
identities = stage.dataset.statistics()["train"]["identities"]
stage.show(viz.live_curves(records, identities=identities), "05_live",
           f"The loss went from {records[0]['loss']:.2f} to {records[-1]['loss']:.2f} nats, and the number of clusters "
           f"from {records[0]['n_clusters']} to {records[-1]['n_clusters']}"
           + (f" ({identities} identities)." if identities else "."))
margins = [record["teacher_mass"] - record["hard_accuracy"] for record in records if "teacher_mass" in record]
if margins:
    brier = records[-1].get("brier_gain")
    rises = "rises" if margins[-1] > margins[0] else "does not rise"
    text = f"The margin of P2 {rises}, from {margins[0]:+.4f} to {margins[-1]:+.4f} (of a teacher that repeats the label it is 0)."
    if brier is not None:
        text += f" In the last epoch the Brier score {'gains' if brier > 0 else 'gains nothing'} ({brier:+.4f})."
    stage.say("margin", text, first=float(margins[0]), last=float(margins[-1]), brier=brier)

# %%
latest, y = replay.features(len(replay) - 1), replay.labels[-1]
if latest is not None:
    worst, scores = hardest(y, latest, 12)
    kinds = error_kinds(y, stage.pids) if stage.has_truth else None
    stage.show(viz.hardest_pictures(stage.pictures("train").batch(worst).numpy(), y[worst], scores,
                                    None if kinds is None else kinds[worst]), "05_hardest",
               f"{int((scores < 0).sum())} of these {len(worst)} pictures lie nearer to another cluster than to their own.")
    if kinds is not None:
        wrong, all_wrong = int((kinds[worst] != "right").sum()), float((kinds[y >= 0] != "right").mean())
        stage.say("hardest", f"{wrong} of the {len(worst)} hardest pictures have a wrong label; "
                  f"of all clustered pictures {100 * all_wrong:.0f} %. So this score finds wrong labels "
                  f"{'better than chance' if wrong / len(worst) > all_wrong else 'no better than chance'} here.",
                  wrong=wrong, shown=len(worst), share=all_wrong)

# %% [markdown]
# In JupyterLab **Start** trains a short run here. **Pause** waits before the next
# batch; **Stop** ends the run; **Resume** goes on from the last whole epoch, with the
# same result.

# %%
if interactive:
    from functools import partial

    from dkdmpl_kit.lessons.lab import TrainingMonitor
    from dkdmpl_kit.training import fit

    live = stage.config.replace(method="dkdmpl", run_name=f"live-seed{seed}", epochs=min(3, stage.config.epochs))
    player = EpochPlayer(live.run_dir, pids=stage.pids, camids=stage.camids)
    player.newest.value = True  # go to each new epoch
    panel = TrainingMonitor(partial(fit, live, stage.dataset, progress=False), live, pids=stage.pids,
                            pictures=stage.pictures("train"), on_epoch=lambda record: player.refresh())
    display(panel, player)

# %% [markdown]
# ## Take home
#
# 1. An epoch is: extract, cluster, rebuild the memory, train on batches.
# 2. The teacher comes from frozen features and centroids, the student from the memory.
# 3. The trainer receives no identity. Only the monitor does, and it only measures.
# 4. Labels are made anew in each epoch: whoever follows a cluster has matched it.
# 5. The pictures nearest to another cluster are worth a look; no truth is needed.
#
# ## Exercises

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.checks import training as training_checks

check = training_checks.checks(stage.camids if stage.has_cameras else None, config.batch_images, memory)

# %% [markdown]
# **1. What does the camera sampler do?** A batch holds picture indices, one cluster
# after the other, `config.batch_images` of each. Write a function of it: the share of
# batch mates (all of a cluster but its first) from another camera (`stage.camids`) than
# the first. Then compare `pk_batches` with `sampler="camera"` and `"random"`.

# %% tags=["solution"]
# answer_1: a function (batch) -> share from 0 to 1
def other_camera(batch):
    cameras = stage.camids[batch].reshape(-1, config.batch_images)  # one row a cluster, its first picture in front
    return (cameras[:, 1:] != cameras[:, :1]).mean()


answer_1 = other_camera
for sampler in ("camera", "random") if stage.has_cameras else ():
    drawn = pk_batches(pseudo.labels, stage.camids, clusters_per_batch=config.batch_clusters, iterations=50,
                       images_per_cluster=config.batch_images, sampler=sampler, generator=generator_for(seed, 0, "exercise"))
    print(f"{sampler:6s} sampler: {100 * np.mean([other_camera(b) for b in drawn]):.0f} % of the batch mates.")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2. Move a memory row.** Write a function of a row $M_k$ (d,), the features $z$ (n, d)
# of its cluster in one batch, and $m$: the row after the update with *each* feature in
# turn.

# %% tags=["solution"]
# answer_2: a function (row, z, m) -> the new row (d,)
def moved_row(row, z, m):
    for one in z:
        row = m * row + (1 - m) * one
        row = row / (row**2).sum() ** 0.5
    return row


answer_2 = moved_row

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3. How far did the memory move in our epoch?** Compute the cosine of each row of
# `memory.features` with the same row of `memory.centroids`. Which rows have exactly 1?

# %% tags=["solution"]
# answer_3: one number a cluster
answer_3 = (memory.features * memory.centroids).sum(dim=1)  # rows of length 1
still = int((answer_3 > 1 - 1e-6).sum())
print(f"From {answer_3.min():.2f} to {answer_3.max():.2f}; {still} of {len(answer_3)} rows did not move.")
# A row stays where no batch of the epoch held its cluster. The others moved to features of augmented pictures,
# in train mode, of an encoder that trained meanwhile: another place than the features of the clustering.

# %% tags=["check"]
check(3, answer_3)

# %%
metrics = {f"{method}_{name}": run.final.get(name) for method, run in runs.items() for name in ("mAP", "rank1", "ari")}
stage.write_metrics(metrics | {f"clusters_{name}": count for name, count in events.items()})
