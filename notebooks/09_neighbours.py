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
# # 09 · The rivals, in one frame
#
# **What you will learn**
#
# - Six published answers to noisy [pseudo labels](course/glossary.md#pseudo-label),
#   each as one short function of the same tensors: what it trains on, what it adds to
#   the gradient, and what it needs.
# - Which of these ideas are equal. (Consensus with an even carried label *is* label
#   smoothing; you will prove it.)
# - To read a comparison with equal budgets: its costs, its intervals, and what it does
#   **not** say.
#
# **Time** on 2 CPU cores: under a minute with `preset="smoke"`, a few minutes with
# `"demo"` (two short training runs; one of them is shared with notebooks 03, 04, 07 and
# 08).
#
# **Reads and writes** in `out_dir`: reads the data set and the run `warm-seed…` (both
# made if missing); writes `runs/warm-…` of one other method, `figures/09_*.png` and
# `metrics/09_neighbours/metrics.json`. It also reads `figures/rivals/records.json` of
# this checkout, if it is there: the comparison with several seeds, made earlier.
#
# **Whose work is this?** The paper of each idea is named below. The functions are the
# kit's, written from the papers' formulas and their authors' published code: *ideas in
# this kit's frame*, not the published systems. Only the abstract of DKD-MPL (Zhu, Peng,
# Yan, IEEE Trans. Multimedia, 2024) is available to us: its formulas are this kit's
# reading.

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
import torch.nn.functional as F
from IPython.display import Markdown, display
from scipy import stats

import dkdmpl_kit
from dkdmpl_kit import viz
from dkdmpl_kit.data import pk_batches, to_float
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import METHOD_LABELS, read_json
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.losses import (
    carry_posterior, cluster_contrast_loss, dkdmpl_loss, mixed_target, positive_anchors, teacher_logits,
)
from dkdmpl_kit.losses import rivals as objectives
from dkdmpl_kit.losses.rivals import NEEDS, label_smoothing_loss, refined_labels, rival_loss, rlcc_loss
from dkdmpl_kit.memory import ClusterMemory, HybridMemory
from dkdmpl_kit.noise import true_clusters
from dkdmpl_kit.studies.results import by_method, markdown_table, paired_differences, spread, summary
from dkdmpl_kit.training.batches import augmented
from dkdmpl_kit.training.checkpoint import TrainingState
from dkdmpl_kit.training.optimisation import needs_ema, update_ema
from dkdmpl_kit.training.run import Run
from dkdmpl_kit.training.seeds import generator_for

stage = Stage("09_neighbours", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root,
              table=table, pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## One frame
#
# Each of these papers has its own code, with another
# [encoder](course/glossary.md#encoder), clustering and
# [batches](course/glossary.md#batch), so two published results differ in many things at
# once. Here start, pictures, clustering, batches and number of steps are the same. Only
# the **objective** changes (and, for SpCL, the [memory](course/glossary.md#memory)).
#
# | name in `method` | the idea, in one sentence |
# |---|---|
# | `cluster_contrast` | train on the [hard label](course/glossary.md#hard-label); one memory row a [cluster](course/glossary.md#cluster) |
# | `label_smoothing` | give a little to *every* other cluster ([label smoothing](course/glossary.md#label-smoothing)) |
# | `rlcc` | give a little to where the picture stood in the *last* clustering ([clustering consensus](course/glossary.md#clustering-consensus)) |
# | `mmt` | take a soft label, and soft distances, from a slow copy of the encoder ([mean teacher](course/glossary.md#mean-teacher)) |
# | `hdcpd` | two augmentations of a picture should get the same probabilities |
# | `ice` | two augmentations should rank the other pictures of the batch alike |
# | `spcl` | let the [outliers](course/glossary.md#outlier) take part: each is a class of its own ([hybrid memory](course/glossary.md#hybrid-memory)) |
# | `dkdmpl` | take soft labels from the clustering of the whole epoch *and* from a batch mate |
#
# To choose one: `dkdmpl train --method mmt`, or `settings="method=mmt"` above.
#
# ## One batch for all
#
# We start where notebooks 03 and 04 start: after a few epochs of
# [cluster contrast](course/glossary.md#cluster-contrast), with one clustering of the
# features. From here on we compute in 64-bit numbers.

# %%
encoder, features, pseudo = stage.warm_start()
encoder = encoder.cpu()
config, store = stage.config, stage.pictures("train")
tau, tau_t = config.temperature, config.teacher_temperature
lam_g, lam_s = config.gkd_weight or 0.5, config.skd_weight or 0.5         # lambda_g, lambda_s
v, labels = F.normalize(torch.from_numpy(features).double(), dim=1), torch.from_numpy(pseudo.labels)
memory = ClusterMemory(v, labels, momentum=config.memory_momentum)        # M, which is still C
K = memory.n_clusters
draws = generator_for(seed, 0, "neighbours")
sampler = config.sampler if stage.has_cameras else "random"
batch = next(pk_batches(pseudo.labels, stage.camids, clusters_per_batch=config.batch_clusters,
                        images_per_cluster=config.batch_images, iterations=1, sampler=sampler, generator=draws))
y = labels[batch]
print(f"{len(v)} pictures, {K} clusters, {100 * pseudo.outlier_fraction:.0f} % outliers; a batch of {len(batch)} pictures "
      f"from {len(y.unique())} clusters.")
if not stage.has_cameras:
    print("Cameras are unknown for these pictures: the batch is drawn without them. None of these objectives reads cameras.")

# %% [markdown]
# **The slow copy.** MMT, HDCPD and ICE keep a second encoder, the
# [mean teacher](course/glossary.md#mean-teacher). It is never trained. After each step
# it moves a little towards the encoder:
#
# $$\theta_{\mathrm{slow}} \leftarrow \mu\,\theta_{\mathrm{slow}} + (1-\mu)\,\theta, \qquad\text{so after } n \text{ steps it still holds the share } \mu^n \text{ of its start.}$$
#
# Here we mix the untrained encoder and the present one with that share: a shortcut for
# this lesson. (The trainer does it step by step.)
#
# **Predict:** $\mu=0.999$ is the published value, for trainings of many thousand steps.
# How much of its start does the copy hold after ours?

# %%
def normalised(x):
    """Features (B, d) of an encoder as 64-bit rows of length 1."""
    return F.normalize(x.double(), dim=1)


steps = min(4, config.epochs) * config.iterations                         # of the warm run
state = TrainingState(encoder, None, ema=stage.encoder().cpu())           # the copy starts as the untrained encoder
update_ema(state, config.ema_momentum ** steps)                               # mu^n of the start, the rest of the present
slow = state.ema.eval()
encoder.train()
run = Run(config.replace(device="cpu"), None, stage.dataset.unlabelled(), store)
with torch.no_grad():
    z = normalised(encoder(augmented(run, batch, draws)))                     # z_i: what is trained
    ema_z = normalised(slow(augmented(run, batch, draws)))                    # another augmentation, slow copy
    plain_z = normalised(slow(to_float(store.batch(batch))))                  # no augmentation, slow copy
print(f"After the warm run's {steps} steps the copy holds {100 * config.ema_momentum ** steps:.0f} % of the untrained encoder; "
      f"after all {config.epochs * config.iterations} steps of this preset it would hold "
      f"{100 * config.ema_momentum ** (config.epochs * config.iterations):.0f} %.")

# %% [markdown]
# **The carried label.** RLCC takes the soft labels of an earlier clustering. What a
# picture gave to an old cluster goes to the new clusters that hold the same pictures,
# in proportion to their overlap (intersection over union). Here the earlier clustering
# is the one of the untrained features.

# %%
v_old = stage.features()
old = stage.cluster(v_old)
carried_all = torch.full((len(v), K), 1 / K, dtype=torch.float64)
if old.n_clusters >= 2:
    v_old = torch.from_numpy(v_old).double()
    posterior = teacher_logits("sample", centroids=ClusterMemory(v_old, torch.from_numpy(old.labels)).centroids, features=v_old, temperature=tau_t).softmax(1)
    carried_all = carry_posterior(refined_labels(torch.from_numpy(old.labels), posterior), old.labels, pseudo.labels)
else:
    print("The earlier clustering has fewer than 2 clusters: nothing can be carried over, and an even label stands in.")
carried = carried_all[batch]                                              # (B, K)

logits = memory.logits(z, tau)                                            # l = M z / tau
ema_logits = memory.logits(ema_z, tau)                                    # the slow copy's logits
teacher = teacher_logits("sample", centroids=memory.centroids, features=v[batch], temperature=tau_t)                          # C v / tau_t
anchor = positive_anchors(z, y, strategy="hardest")                       # p(i)
q, p, e, a = (x.softmax(1) for x in (logits, ema_logits, teacher, logits[anchor]))
hybrid = HybridMemory(v, labels)                                          # SpCL's
print(f"Old clusters: {old.n_clusters}, new: {K}. Mean entropy in nats: carried label "
      f"{torch.special.entr(carried).sum(1).mean():.2f}, slow copy {torch.special.entr(p).sum(1).mean():.2f}, "
      f"epoch view {torch.special.entr(e).sum(1).mean():.2f}; an even label would have {np.log(K):.2f}.")

# %% [markdown]
# ## What does each train on?
#
# Where a loss is a cross entropy, it trains on one label $t$, and its gradient by the
# logits is $q-t$ (notebook 08, tool 1). The labels:
#
# $$\begin{aligned}
# \text{cluster contrast} &: \mathbb{1}_y & \text{label smoothing} &: (1-\epsilon)\,\mathbb{1}_y + \tfrac{\epsilon}{K}\mathbf{1}\\
# \text{RLCC} &: \alpha\,\mathbb{1}_y + (1-\alpha)\,\hat p & \text{MMT, its class part} &: (1-\lambda)\,\mathbb{1}_y + \lambda\, p\\
# \text{HDCPD, its second term} &: p & \text{DKD-MPL (P4)} &: r_3
# \end{aligned}$$
#
# with $\hat p$ the carried label and $p$ the slow copy's prediction, the softmax of
# `ema_logits` (not to be confused with $p(i)$, the anchor's index). HDCPD's first term
# is cluster contrast; its second pulls towards $p$ by a squared distance, not by a
# cross entropy; we come to that. $r_3$ is the label of proposition P4, so of the
# one-sided `kl` form. SpCL's label is hard, among more classes. ICE's label does not
# name clusters at all: it is over the *pictures of the batch*. Neither does the other
# part of MMT, its [triplets](course/glossary.md#triplet): for each picture the furthest
# one of its cluster in the batch and the nearest one of another. The first should be
# near and the second far; the slow copy's two distances say how much so.
#
# We look at a contested picture: the one of the batch whose soft labels give its own
# cluster the least.
#
# **Predict:** which of the six labels will be nearest to the hard one? Which may name
# another cluster?

# %%
one_hot = F.one_hot(y, K).double()
targets = {
    "cluster contrast: hard label": one_hot,
    "label smoothing": 0.9 * one_hot + 0.1 / K,                           # epsilon = 0.1
    "RLCC: refined by the past": refined_labels(y, carried),              # alpha = 0.9
    "MMT: half hard, half slow copy": 0.5 * one_hot + 0.5 * p,            # lambda = 0.5
    "HDCPD, 2nd term: slow copy": p,
    "DKD-MPL: r3": mixed_target(y, e, a, lam_g, lam_s),
}
own = torch.stack([target.gather(1, y[:, None])[:, 0] for target in targets.values()])
contested = int(own.mean(0).argmin())

y_star, judged = None, None                                               # as in notebook 08: P2's assumption (a)
if stage.has_truth:
    y_star = torch.from_numpy(true_clusters(pseudo.labels, stage.pids)[batch])
    judged = y_star >= 0
truth = int(y_star[contested]) if stage.has_truth and judged[contested] else None
fig = viz.label_targets({name: t[contested] for name, t in targets.items()}, int(y[contested]), truth=truth,
                        picture=store.pixels[batch[contested]], title="One picture, six labels to train on")
stage.save_figure(fig, "09_targets")
fig

# %%
lines = ["| label | entropy (nats) | on the hard label | on the truth, label right | on the truth, label wrong |", "|---|---|---|---|---|"]
groups = [None, None] if y_star is None else [judged & (y == y_star), judged & (y != y_star)]
for name, t in targets.items():
    cells = [torch.special.entr(t).sum(1).mean(), t.gather(1, y[:, None]).mean()]
    cells += [t[g, y_star[g]].mean() if g is not None and g.any() else None for g in groups]
    lines.append(f"| {name} | " + " | ".join("–" if c is None else f"{c:.2f}" for c in cells) + " |")
display(Markdown("\n".join(lines)))
if y_star is None:
    print("True identities are not known for these pictures: the last two columns stay empty.")
else:
    print(f"In this batch {int(groups[0].sum())} labels are right and {int(groups[1].sum())} are wrong; "
          f"pictures of an identity that owns no cluster: {int((~judged).sum())}.")

# %% [markdown]
# The last two columns are those of the break-even in notebook 03: what a softer label
# *spoils* where the hard one was right, and what it *repairs* where it was wrong. (This
# is one batch, not a statistic.)
#
# The last column is large where the soft label *differs* from the hard one exactly
# where the hard one is wrong. Label smoothing cannot do this: it gives every other
# cluster the same. The others can, if their source is nearer the truth.
#
# ## A label from the past, by hand (RLCC)
#
# Zhang, Ge, Qiao and Li, *Refining Pseudo Labels with Clustering Consensus over
# Generations*, CVPR 2021:
#
# $$\tilde y_i = \alpha\,\mathbb{1}_{y_i} + (1-\alpha)\,\hat p_i, \qquad L_{\mathrm{RLCC}} = -\frac1B\sum_i\sum_k \tilde y_{ik}\,\log q_{ik}.$$

# %% tags=["code"]
def consensus(logits, y, carried, alpha=0.9):
    """RLCC: cross entropy with a label that remembers the last clustering. (B, K), (B,), (B, K)."""
    refined = alpha * F.one_hot(y, logits.shape[1]) + (1 - alpha) * carried   # alpha 1_y + (1 - alpha) p_hat
    return -(refined * logits.log_softmax(1)).sum(1).mean()                   # -mean_i sum_k y~ log q


torch.testing.assert_close(consensus(logits, y, carried), rlcc_loss(logits, y, carried))
print(f"Ours and the kit's agree: L_RLCC = {consensus(logits, y, carried):.6f}.")

# %% [markdown]
# **A special case.** Suppose that the carried label is even,
# $\hat p = \frac1K\mathbf 1$. (In the kit this happens to a picture whose old clusters
# have all dissolved.) Then
#
# $$\alpha\,\mathbb{1}_y + (1-\alpha)\tfrac1K\mathbf 1 = (1-\epsilon)\,\mathbb{1}_y+\tfrac{\epsilon}{K}\mathbf 1 \quad\text{with}\quad \epsilon=1-\alpha:$$
#
# **RLCC with an even carried label is label smoothing.** Same label, so same loss and
# same gradient. And if the carried label equals the present one, $\hat p=\mathbb{1}_y$,
# RLCC is cluster contrast. So RLCC lies between the two, for each picture.
#
# **Predict:** which of the two will RLCC resemble early in training, and which late?

# %%
even = torch.full_like(carried, 1 / K)
for alpha in (0.99, 0.9, 0.5, 0.0):
    leaf_1, leaf_2 = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    one, two = rlcc_loss(leaf_1, y, even, alpha=alpha), label_smoothing_loss(leaf_2, y, epsilon=1 - alpha)
    one.backward()
    two.backward()
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(leaf_1.grad, leaf_2.grad)
    print(f"alpha = {alpha:4.2f}: RLCC with an even past {one.item():.6f}, "
          f"label smoothing with epsilon = {1 - alpha:4.2f}: {two.item():.6f}")
torch.testing.assert_close(rlcc_loss(logits, y, one_hot), cluster_contrast_loss(logits, y))
agrees = (carried.argmax(1) == y).double().mean()
print(f"In this batch the past names the present cluster for {100 * agrees:.0f} % of the pictures.")

# %% [markdown]
# So it depends on the picture: where two clusterings disagree widely, the carried label
# is nearly even and RLCC acts much like label smoothing; where they agree, much like
# cluster contrast.
#
# ## A label over pictures, by hand (ICE)
#
# Chen, Lagadec and Bremond, *ICE: Inter-instance Contrastive Encoding*, ICCV 2021. Its
# soft part uses the similarities of each picture to *every picture of this batch*.
# Before augmentation they give the label $Q_i$; after it they give $P_i$, which is
# trained:
#
# $$P_i = \mathrm{softmax}_j\!\left(\tfrac{z_i^\top z^{\mathrm{slow}}_j}{\tau_s}\right),\quad Q_i = \mathrm{softmax}_j\!\left(\tfrac{g_i^\top g_j}{\tau_s}\right),\quad L_{\mathrm{soft}}=\frac1B\sum_i\mathrm{KL}(Q_i\Vert P_i),$$
#
# with $z^{\mathrm{slow}}$ from the slow copy on another augmentation, and $g$ from the
# slow copy on the plain pictures. Where is $y$ in these formulas?

# %% tags=["code"]
def ranks_alike(z, ema_z, plain_z, temperature=0.4):
    """ICE's soft part: an augmented picture should rank the batch as the plain one does. Each (B, d)."""
    log_P = (z @ ema_z.T / temperature).log_softmax(1)                    # P_i = softmax_j <z_i, z_slow_j> / tau_s
    log_Q = (plain_z @ plain_z.T / temperature).log_softmax(1)            # Q_i = softmax_j <g_i, g_j> / tau_s
    return (log_Q.exp() * (log_Q - log_P)).sum(1).mean()                  # KL(Q || P)


torch.testing.assert_close(ranks_alike(z, ema_z, plain_z), objectives.instance_consistency_loss(z, ema_z, plain_z))
print(f"Ours and the kit's agree: L_soft = {ranks_alike(z, ema_z, plain_z):.6f}.")

# %% [markdown]
# There is no $y$. So a wrong pseudo label does not change this part of ICE, and a right
# one cannot correct it: it only rewards consistency. (The other parts of ICE, cluster
# contrast and a contrast with the hardest positive, use $y$.) DKD-MPL's SKD is in
# between: its views are over clusters, and the cluster decides which picture can be the
# [anchor](course/glossary.md#anchor).
#
# ## What does each add to the gradient?
#
# All eight contain, or replace, cluster contrast. Call its gradient $g_{\mathrm{CC}}$.
# A method's gradient is $g_{\mathrm{CC}}$ plus something. How long is that addition,
# and where does it point? A positive cosine means the same direction, a negative one
# the opposite.
#
# We compute it twice:
#
# - by the **logits** $l$: only what passes through the label over clusters;
# - by the **features** $z$: everything. We keep the part orthogonal to $z$; the part
#   along $z$ changes only its length, which normalisation removes.
#
# For label smoothing the answer can be derived. It adds
# $\epsilon\,(\mathbb{1}_y-\frac1K\mathbf 1)$, and its inner product with
# $q-\mathbb{1}_y$ is $\epsilon\,(q_y-1)\le 0$: it *always* opposes $g_{\mathrm{CC}}$,
# or is orthogonal to it.
#
# **Predict:** for which method will the column "by logits" say 0, although it trains on
# much more than cluster contrast?

# %%
methods = ["cluster_contrast", *NEEDS, "dkdmpl"]


def loss_of(method, z, logits):
    """The total of any method on this batch, as a function of features (B, d) and logits (B, K)."""
    if method == "cluster_contrast":
        return cluster_contrast_loss(logits, y)
    if method == "dkdmpl":
        return dkdmpl_loss(logits, y, teacher_logits=teacher, anchor_logits=logits[anchor], gkd_weight=lam_g,
                           skd_weight=lam_s, temperature=config.distillation_temperature,
                           divergence=config.skd_divergence).total
    if method == "spcl":                                                  # another memory: other logits, more classes
        return cluster_contrast_loss(hybrid.logits(z, tau), hybrid.classes[batch])
    views = {"z": z, "ema_z": ema_z, "ema_logits": ema_logits, "plain_z": plain_z, "carried": carried}
    return rival_loss(method, logits, y, views).total


def cosine(one, two):
    """Cosine of two gradients, NaN where one of them is nothing."""
    return float((one * two).sum() / (one.norm() * two.norm())) if min(one.norm(), two.norm()) > 1e-12 else float("nan")


by_logits, by_features = {}, {}
for method in methods:
    if method != "spcl":
        leaf = logits.clone().requires_grad_()
        by_logits[method], = torch.autograd.grad(loss_of(method, z, leaf), leaf)
    leaf = z.clone().requires_grad_()
    grad, = torch.autograd.grad(loss_of(method, leaf, memory.logits(leaf, tau)), leaf)
    by_features[method] = grad - (grad * z).sum(1, keepdim=True) * z      # only what turns z
added = {m: g - by_features["cluster_contrast"] for m, g in by_features.items() if m != "cluster_contrast"}

smoothing = by_logits["label_smoothing"] - by_logits["cluster_contrast"]
torch.testing.assert_close(smoothing, 0.1 * (one_hot - 1 / K) / len(y))   # epsilon (1_y - 1/K), the mean over the batch
assert ((smoothing * by_logits["cluster_contrast"]).sum(1) <= 1e-12).all()  # it holds back, in every row

# %%
lines = ["| method | added by logits (of cluster contrast's length) | its cosine to cluster contrast | added by features | its cosine |",
         "|---|---|---|---|---|"]
gradient_rows = {}
for method in methods[1:]:
    cells = []
    for grads in (by_logits, by_features):
        base, more = grads["cluster_contrast"], grads.get(method)
        more = None if more is None else more - base
        cells += [None, None] if more is None else [float(more.norm() / base.norm()), cosine(more, base)]
    gradient_rows[method] = cells
    lines.append(f"| {METHOD_LABELS[method]} | "
                 + " | ".join("–" if c is None or np.isnan(c) else f"{c:+.2f}" if i % 2 else f"{100 * c:.0f} %"
                              for i, c in enumerate(cells)) + " |")
Markdown("\n".join(lines))

# %% [markdown]
# ICE's soft part (instance consistency) adds nothing by the logits: it uses only
# similarities of pictures. MMT (mean teacher) adds only its class part there: its
# triplets use the features. SpCL has other logits, so the column does not apply to it.
#
# Lengths are those of *this* batch, with the published weights. A long addition is not
# a better one; Adam mostly removes a common length.
#
# Now compare the additions with one another. On this batch, two methods that add the
# *same direction* do the same.
#
# **Predict:** which two will be the most alike?

# %%
names = [m for m in added if added[m].norm() > 1e-12]
alike = [[cosine(added[m], added[n]) for n in names] for m in names]
fig = viz.cosine_table(alike, [METHOD_LABELS[m] for m in names], [METHOD_LABELS[m] for m in names],
                       title="Which additions point the same way? (gradients by the features, one batch)")
stage.save_figure(fig, "09_additions")
fig

# %%
pairs = sorted(((alike[i][j], names[i], names[j]) for i in range(len(names)) for j in range(i)), key=lambda pair: pair[0])
if pairs:
    for text, (value_, one, two) in (("Most alike", pairs[-1]), ("Least alike", pairs[0])):
        print(f"{text}: {METHOD_LABELS[one]} and {METHOD_LABELS[two]}, cosine {value_:+.2f}.")

# %% [markdown]
# **The same label, another distance.** MMT's class part and HDCPD's second term pull
# towards the same $p$. MMT measures by cross entropy, with gradient $q-p$ by the
# logits. HDCPD measures $\lVert q-p\rVert_2^2$. Its gradient carries a factor $q$
# (exercise 2): where the student is already certain, right *or wrong*, it hardly moves.
# So mistakes of the teacher do less harm there, and mistakes of the student are
# corrected slowly.
#
# ## What does each remember?
#
# Cluster contrast (Dai et al., 2021) keeps one row a cluster and offers three ways to
# move it with the members $z$ of a batch,
# $M_k\leftarrow\mathrm{normalise}(m\,M_k+(1-m)\,\cdot\,)$:
#
# - **instance**: every member in turn, in the order of the batch;
# - **mean**: the members' plain mean, once;
# - **hardest**: the member least similar to $M_k$, once.
#
# SpCL (Ge et al., NeurIPS 2020) keeps a row for *every picture*. A cluster's row is the
# mean of its members, an outlier's row is the outlier itself.
#
# Follow one cluster through one batch, by hand. **Predict:** after each update, which
# member is the memory's row nearest to?

# %% tags=["code"]
def unit(x):
    return x / x.norm()


def moved(M, members, m, update):
    """One memory row (d,) after a batch's members (n, d): the three updates of Cluster Contrast."""
    if update == "mean":
        return unit(m * M + (1 - m) * members.mean(0))
    if update == "hardest":
        return unit(m * M + (1 - m) * members[(members @ M).argmin()])
    for z_i in members:                                                   # instance: one after the other
        M = unit(m * M + (1 - m) * z_i)
    return M


# %%
def disagreement(k):
    """How many members cluster k has in the batch, and how little they agree."""
    members = z[y == k]
    return len(members), -float((members @ members.T).mean())


k = max(y.unique().tolist(), key=disagreement)
members, start, rows = z[y == k], memory.centroids[k], {"before": memory.centroids[k]}
for update in ("instance", "mean", "hardest"):
    theirs = ClusterMemory(v, labels, momentum=config.memory_momentum, update=update)
    theirs.update(z, y)
    rows[f"{update} update"] = moved(start, members, config.memory_momentum, update)
    torch.testing.assert_close(rows[f"{update} update"], theirs.features[k])  # ours and the kit's agree
after = HybridMemory(v, labels)
after.update(z, torch.from_numpy(batch))                                  # each picture's own row moves
rows["hybrid memory"] = unit(after.features[labels == k].mean(0))
table = torch.stack(list(rows.values()))
fig = viz.cosine_table(table @ torch.cat([start[None], members]).T, list(rows),
                       ["row before", *(f"member {i + 1}" for i in range(len(members)))],
                       title=f"Cluster {k}: the memory's row before and after one batch",
                       note="Each cell: cosine of a row of the memory with a member of the batch, in the batch's order.")
stage.save_figure(fig, "09_memory")
fig

# %%
hardest = int((members @ start).argmin()) + 1
print(f"m = {config.memory_momentum:g}. The hardest member is number {hardest}, the last one number {len(members)}.")
turned = {}
for name, row in list(rows.items())[1:]:
    turned[name] = float(torch.rad2deg(torch.arccos((row @ start).clamp(-1, 1))))
    print(f"{name:16s} turns the row by {turned[name]:4.1f} degrees; it is now nearest to member "
          f"{int((members @ row).argmax()) + 1}.")

# %% [markdown]
# With a small $m$ each single step nearly *replaces* the row. Then `instance` ends
# close to the last member, whoever that is, and `hardest` close to the strangest. The
# mean stays in the middle. The hybrid memory moves least when the cluster has many
# pictures outside the batch, which stay in its mean. (It has its own momentum.)
#
# **Outliers as classes.** DBSCAN gives some pictures no cluster. Cluster contrast
# leaves them out of the epoch. SpCL gives each a class of its own, so that they are
# also trained on.

# %%
wide = hybrid.logits(z, tau)
n_outliers = len(hybrid.counts) - K
by_hand = torch.stack([v[labels == c].mean(0) for c in range(K)] + list(v[labels < 0]))  # means, then outliers
torch.testing.assert_close(wide, z @ by_hand.T / tau)                     # <z, c_k> / tau, <z, v_i> / tau
lengths = by_hand[:K].norm(dim=1)
print(f"Cluster memory: {tuple(memory.features.shape)}, logits {tuple(logits.shape)}; takes part: "
      f"{int((labels >= 0).sum())} of {len(v)} pictures.")
print(f"Hybrid memory: {tuple(hybrid.features.shape)}, logits {tuple(wide.shape)}; all {len(v)} pictures take part, "
      f"{n_outliers} of them as a class of their own.")
print(f"The outliers' classes get {100 * wide.softmax(1)[:, K:].sum(1).mean():.1f} % of the student's probability in this batch.")
print(f"The clusters' means have lengths from {lengths.min():.2f} to {lengths.max():.2f}: they are not brought back to 1.")

# %% [markdown]
# Note the last line. A loose cluster has a short mean, so its logits are smaller in
# SpCL. Cluster contrast's rows all have length 1.
#
# ## What does each need?
#
# The columns in the middle are read from the kit's code; we wrote the rest. A *pass* is
# the encoder running over one batch; only the first is also run backwards. Some words
# of the last column: *crosswise*, each network is taught by the slow copy of the other;
# a *camera proxy* is the mean of a cluster's pictures under one camera; the *self-paced
# test* accepts only clusters that are the same in a stricter and a looser clustering.

# %%
ideas = {  # method: (paper, what is simpler here)
    "cluster_contrast": ("Dai et al., *Cluster Contrast*, 2021", "the kit's encoder and clustering"),
    "label_smoothing": ("Szegedy et al., *Inception v3*, CVPR 2016", "nothing: it was made for true labels"),
    "mmt": ("Ge, Chen, Li, *Mutual Mean-Teaching*, ICLR 2020", "one network and its own copy; theirs are two, crosswise"),
    "rlcc": ("Zhang et al., *Clustering Consensus*, CVPR 2021", "only the labels: not the rest of their training"),
    "hdcpd": ("Cheng et al., *Hybrid Dynamic Contrast and Probability Distillation*, arXiv 2021",
              "their own contrast is replaced by cluster contrast"),
    "ice": ("Chen, Lagadec, Bremond, *ICE*, ICCV 2021", "no camera proxies; class contrast replaced by cluster contrast"),
    "spcl": ("Ge et al., *Self-paced Contrastive Learning*, NeurIPS 2020", "new memory each epoch; no self-paced test of clusters"),
    "dkdmpl": ("Zhu, Peng, Yan, *DKD-MPL*, TMM 2024", "unknown: a reading of the abstract"),
}
passes = {m: 1 + bool({"ema_z", "ema_logits"} & set(NEEDS.get(m, ()))) + ("plain_z" in NEEDS.get(m, ())) for m in ideas}
if config.skd_anchor in ("augmentation", "ema"):
    passes["dkdmpl"] += 1                                                 # the anchor is encoded, too
lines = ["| idea | paper | second view | slow copy | labels of the last epoch | passes | simpler here |", "|---|---|---|---|---|---|---|"]
for method, (paper, simpler) in ideas.items():
    needs = set(NEEDS.get(method, ()))
    view = "yes" if needs & {"ema_z", "ema_logits"} else "–"
    view = f"anchor: {config.skd_anchor}" if method == "dkdmpl" else view
    ema = "yes" if needs_ema(config.replace(method=method)) else "–"
    past = "yes" if "carried" in needs or (method == "dkdmpl" and config.gkd_teacher == "consensus") else "–"
    lines.append(f"| {METHOD_LABELS[method]} | {paper} | {view} | {ema} | {past} | {passes[method]} | {simpler} |")
Markdown("\n".join(lines))

# %% [markdown]
# ## Two of them, live
#
# Choose two names of the first table. `settings="method=mmt"` in the parameters sets
# the second one; or change the line below. Both start from the same encoder and train
# for the same few epochs.
#
# **Predict:** which will take longer, and by what factor? (Count the passes.)

# %%
second = config.method if config.method not in ("cluster_contrast", "dkdmpl") else "hdcpd"
choice = ["cluster_contrast", second]                                     # any two names
epochs = min(4, config.epochs)
trainable = stage.cluster(stage.features()).n_clusters >= 2
if not trainable:
    print("The clustering of the untrained features finds fewer than 2 clusters, so nothing can be trained: "
          "raise eps or lower min_samples in `settings`.")
live = {}
for method in choice if trainable else ():
    name = f"warm-seed{seed}" if method == "cluster_contrast" else f"warm-{method}-seed{seed}"  # "warm": no result
    try:
        live[method] = stage.run(method, name=name, progress=False, epochs=epochs, evaluate_every=epochs).history
    except KitError as error:
        print(f"{METHOD_LABELS[method]} could not finish: {error}")

# %%
for method, history in live.items():
    seconds = [record["seconds"].get("load", 0) + record["seconds"]["train"] for record in history]
    print(f"{METHOD_LABELS[method]}: {len(history)} epochs, {np.mean(seconds):.1f} s of training each; at the start of the "
          f"last one {history[-1]['n_clusters']} clusters and {100 * history[-1]['outlier_fraction']:.0f} % outliers"
          + ("." if history[-1]["ari"] is None else f", ARI {history[-1]['ari']:.2f}."))
figures = ["09_targets", "09_additions", "09_memory"]
if live:
    fig = viz.training_curves(live, metrics=("n_clusters", "outlier_fraction", "ari", "loss_cc"),
                              title="A few epochs, one seed: a demonstration, not a result")
    stage.save_figure(fig, "09_live")
    figures.append("09_live")
    display(fig)

# %% [markdown]
# The panel at the lower right shows $L_{\mathrm{CC}}$ alone, which every method
# reports. It is not a score: soft labels keep it higher on purpose, and SpCL has more
# classes.
#
# ## The comparison: equal budgets, paired seeds
#
# `dkdmpl grid grids/rivals.yml` trains them all on the kit's embedded people: same
# start, same clustering, same number of steps, several
# [seeds](course/glossary.md#seed). We read its records here (`figures/rivals/`),
# whatever data set you chose above.
#
# **Predict:** will any method be ahead of cluster contrast by more than the seeds
# scatter?

# %%
published = Path(dkdmpl_kit.__file__).resolve().parent.parent / "figures" / "rivals" / "records.json"
records = read_json(published) if published.exists() else []
trained = [record for record in records if record["run"] != "untrained" and record["final"]]
if trained:
    settings_of = [record["settings"] for record in trained]
    setting, budgets = settings_of[0], {(s["epochs"], s["iterations"]) for s in settings_of}
    print(f"{len(trained)} finished runs: {setting['data']}, {setting['n_train_ids']} identities, "
          f"seeds {sorted({s['seed'] for s in settings_of})}.")
    print(f"The same pictures for all: {'yes' if len({r['data_fingerprint'] for r in records}) == 1 else 'NO'}. Equal budgets: "
          + (f"yes, {setting['epochs']} epochs of {setting['iterations']} batches." if len(budgets) == 1 else "NO."))
    display(Markdown(markdown_table(records)))
else:
    print("There are no records of this comparison in this checkout (figures/rivals/records.json). Make them with "
          "`dkdmpl grid grids/rivals.yml`, then `dkdmpl report runs/rivals --publish figures/rivals`.")

# %%
found = by_method(records)
if trained:
    fig = viz.result_bars({m: [r["final"]["mAP"] for r in runs.values()] for m, runs in found.items()},
                          title="mAP of the last epoch, one dot a seed",
                          note="One frame, equal steps, published weights. Not a ranking of the papers: read on.")
    stage.save_figure(fig, "09_results")
    figures.append("09_results")
    display(fig)
    cost = {m: np.median([epoch["seconds"].get("load", 0.0) + epoch["seconds"]["train"] for r in runs.values()
                        for epoch in r["history"]]) for m, runs in found.items() if m != "untrained"}
    for m in cost if "cluster_contrast" in cost else ():
        n = passes.get(m, 1)
        print(f"{METHOD_LABELS[m]}: {n} pass{'es' * (n > 1)} a batch, {cost[m] / cost['cluster_contrast']:.2f} times the seconds of cluster contrast.")

# %% [markdown]
# Equal *steps* are not equal *seconds*: more passes make a step longer. The machine may
# have had other work to do, so only large factors mean something.
#
# Now the [paired differences](course/glossary.md#paired-differences): the same seed,
# method minus cluster contrast. The interval is Student's, at 95 %.

# %%
def half_width(points, wrong=0.05):
    """Half the width of Student's interval of the mean, which misses the truth in the share `wrong` of all cases."""
    n = len(points)
    return stats.t.ppf(1 - wrong / 2, n - 1) * np.std(points, ddof=1) / np.sqrt(n)


differences = {m: [100 * d for d in by_seed.values()] for m, by_seed in paired_differences(records).items() if by_seed}
verdicts = {}
if differences:
    fig = viz.paired_differences(differences, {m: spread(points).interval for m, points in differences.items()})
    stage.save_figure(fig, "09_pairs")
    figures.append("09_pairs")
    display(fig)
for m, points in differences.items():
    n, mean, ahead = len(points), np.mean(points), sum(d > 0 for d in points)
    sentence = f"{METHOD_LABELS[m]}: {mean:+.1f} points of mAP on average, ahead in {ahead} of {n} seeds"
    if n >= 3:
        half = half_width(points)
        verdicts[m] = "undecided" if abs(mean) <= half else "ahead" if mean > 0 else "behind"
        sentence += f"; 95 % interval {mean - half:+.1f} to {mean + half:+.1f}: {verdicts[m]}"
    print(sentence + ".")

# %% [markdown]
# ### What may be concluded, and what not
#
# The next cell says it with the numbers of the records.

# %%
if verdicts:
    n, halves = len(verdicts), [half_width(differences[m]) for m in verdicts]
    decided = [f"{METHOD_LABELS[m]} ({verdict})" for m, verdict in verdicts.items() if verdict != "undecided"]
    print(f"1. Of {n} intervals {len(decided)} leave out zero: {', '.join(decided) or 'none'}. If no method differed at all, "
          f"{0.05 * n:.2f} would do so by luck alone, on average.")
    strict = [METHOD_LABELS[m] for m in verdicts if abs(np.mean(differences[m])) > half_width(differences[m], 0.05 / n)]
    print(f"2. With {n} comparisons at once (Bonferroni: each at {0.05 / n:.4f}) still decided: {', '.join(strict) or 'none'}.")
    print(f"3. The intervals reach ±{min(halves):.1f} to ±{max(halves):.1f} points around their means: with so few seeds a "
          "smaller difference can hardly be seen. Undecided is not 'no effect'.")
    left = 100 * setting["ema_momentum"] ** (setting["epochs"] * setting["iterations"])
    print(f"4. The budget is {setting['epochs'] * setting['iterations']} steps. At the end the slow copy of MMT, HDCPD and ICE "
          f"still holds {left:.0f} % of the untrained encoder (momentum {setting['ema_momentum']:g}).")
elif trained:
    print("Fewer than three seeds: no interval can be drawn, and nothing may be concluded.")
else:
    print("No records, no conclusion.")

# %% [markdown]
# And whatever the numbers are:
#
# - **The weights are the authors'.** They were chosen for other pictures, other
#   encoders, longer trainings. Nobody searched for better ones here. DKD-MPL's weights
#   in this kit *were* chosen on the same kind of rendered people (other identities,
#   other seeds; the README says how). This is an advantage for DKD-MPL alone.
# - **The budget is short.** A slow teacher, or a label from the last epoch, needs time.
#   A method that is behind now may be ahead later (notebook 05, plateau).
# - **The published systems are more than this.** MMT has two networks, ICE uses
#   cameras, SpCL tests its clusters, RLCC and HDCPD have their own training. One idea
#   of each is compared.
# - **Rendered people, one encoder, one data set.** This says nothing about photographs.
#
# So this is **not a ranking of the papers**, and must not be quoted as one. It shows
# what an idea *does*, what it *costs*, and how many seeds a claim would need.
#
# ## Exercises
#
# Put each answer into the named variable; the cell below it says whether it is right,
# or why not. (The folded cells prepare the checks: they contain the answers.)

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.exercises import exercises, value

leaf = logits.clone().requires_grad_()
right_2, = torch.autograd.grad(objectives.probability_distillation_loss(leaf, ema_logits), leaf)
run_steps, mu = config.epochs * config.iterations, 0.999
half_life = int(np.ceil(np.log(0.5) / np.log(mu)))
uncentred = 2 * q * (q - p) / len(y)
check = exercises({
    1: value(one_hot + p, mistakes={
        "that is the label divided by its sum; the sum itself, 1_y + lambda_g p, is asked for.": 0.5 * one_hot + 0.5 * p,
        "the weight is not 0.5: compare (1 - 0.5) : 0.5 with 1 : lambda_g.": one_hot + 0.5 * p,
        "the prediction of the slow copy is asked for, not the student's own.": one_hot + q}),
    2: value(right_2, batch=len(y), mistakes={
        "the softmax couples the clusters: subtract the mean of (q - p) under q.": uncentred,
        "the square brings a factor 2.": right_2 / 2,
        "that is the gradient of the cross entropy with p.": (q - p) / len(y)}),
    3: value([mu ** run_steps, half_life], mistakes={
        "count the steps, not the epochs: the copy follows after each batch.": [mu ** config.epochs, half_life],
        "the first number is what the copy has learnt; what it still holds is asked for.": [1 - mu ** run_steps, half_life],
        "after that many steps a little more than half is left; one more.": [mu ** run_steps, half_life - 1]})})

# %% [markdown]
# **1. MMT and GKD.** MMT's class part is $(1-\lambda)\,L_{\mathrm{CC}}+\lambda\,H(p,q)$
# with $\lambda=\frac12$. Proposition P1 (notebook 08) says:
# $L_{\mathrm{CC}}+\lambda_g\,\mathrm{KL}(e\Vert q)$ trains on a label in proportion to
# $\mathbb{1}_y+\lambda_g e$. Put the slow copy's $p$ in the place of $e$. For which
# $\lambda_g$ do the two pull in the same direction? Give the matrix
# $\mathbb{1}_y+\lambda_g\,p$ for this batch, not divided by its sum. (`one_hot` and `p`
# are there.)

# %% tags=["solution"]
# answer_1: (B, K), 1_y + lambda_g p
lambda_g = 0.5 / (1 - 0.5)                                                # (1 - lambda) : lambda = 1 : lambda_g
answer_1 = one_hot + lambda_g * p
torch.testing.assert_close(answer_1 / answer_1.sum(1, keepdim=True), 0.5 * one_hot + 0.5 * p)
print(f"lambda_g = {lambda_g:g}: MMT's class part is GKD with another teacher, and half the length of the gradient.")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2. Another distance.** Derive the gradient of HDCPD's second term,
# $\frac1B\sum_i\lVert q_i-p_i\rVert_2^2$, by the logits of the student. (Use
# $\frac{\partial q_j}{\partial l_k}=q_j(\delta_{jk}-q_k)$; $p$ is held still.) What
# happens to it where $q$ is one-hot on a wrong cluster? And to the cross entropy's
# $q-p$?

# %% tags=["solution"]
# answer_2: (B, K), the gradient by the logits, from q and p; with the mean over the batch
gap = q - p
answer_2 = 2 * q * (gap - (q * gap).sum(1, keepdim=True)) / len(q)
stuck, wish = torch.eye(3, dtype=torch.float64)[[0]], torch.tensor([[0.1, 0.9, 0.0]], dtype=torch.float64)
d = stuck - wish
pull = (2 * stuck * (d - (stuck * d).sum(1, keepdim=True))).abs().max()
print(f"Certain of cluster 0, taught cluster 1: the largest entry is {pull:.2f} for the squared distance, "
      f"{d.abs().max():.2f} for the cross entropy.")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3. How slow is slow?** With momentum $\mu=0.999$: which share of its start does the
# slow copy still hold after a whole run of this preset (`config.epochs` epochs of
# `config.iterations` batches)? What is the smallest number of steps after which it
# holds at most half?

# %% tags=["solution"]
# answer_3: (share of the start after the run, from 0 to 1; smallest number of steps for at most half)
after_run = 0.999 ** (config.epochs * config.iterations)
answer_3 = (after_run, int(np.ceil(np.log(0.5) / np.log(0.999))))
print(f"After {config.epochs * config.iterations} steps {100 * after_run:.1f} % are left; half after {answer_3[1]} steps. "
      "A momentum is a time scale: whoever trains shorter must choose it smaller.")

# %% tags=["check"]
check(3, answer_3)

# %%
metrics = {"n_clusters": K, "outliers_as_classes": n_outliers, "rlcc_past_agrees": float(agrees)}
metrics |= {f"turned_degrees_{name.split()[0]}": angle for name, angle in turned.items()}
metrics |= {f"{m}_minus_cluster_contrast_mAP_points": float(np.mean(points)) for m, points in differences.items()}
metrics |= {f"{m}_mAP": measures["mAP"].mean for m, measures in summary(records).items() if "mAP" in measures}
columns = ["method", "added by logits", "cosine", "added by features", "cosine to cluster contrast"]
rows_out = [[METHOD_LABELS[m], *(None if c is None or np.isnan(c) else c for c in cells)] for m, cells in gradient_rows.items()]
stage.write_metrics(metrics, figures=figures, table={"columns": columns, "rows": rows_out})
