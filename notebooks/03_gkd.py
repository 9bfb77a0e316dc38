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
# # 03 · Global knowledge distillation: a soft label beside every hard label
#
# **What you will learn**
#
# - A clustering gives each picture one hard label, and also a *soft* one: how close the
#   picture is to **every** cluster. The soft label is the teacher.
# - What the distillation loss does to the gradient, line by line: it trains on a
#   *mixed* label.
# - When a soft teacher helps and when it harms: there is a break-even, and you will
#   compute it.
#
# **Time** on 2 CPU cores: under a minute with `preset="smoke"`, about two with `"demo"`
# (most of it a short training run that notebook 04 uses again).
#
# **Reads and writes** in `out_dir`: reads the data set (rendered if missing) and the
# run `warm-seed…` (trained if missing); writes `figures/03_*.png` and
# `metrics/03_gkd/metrics.json`.
#
# **Whose method is this?** The idea is from W. Zhu, B. Peng and W. Q. Yan, *Dual
# Knowledge Distillation on Multiview Pseudo Labels for Unsupervised Person
# Re-Identification* (IEEE Trans. Multimedia, 2024). Only its abstract is available to
# us: the pseudo labels of the epoch's clustering are the teacher, those of the
# mini-batch's query pictures the student. Formulas, temperatures and weights below are
# **this kit's reading**, not the paper's.

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
import torch.nn.functional as F
from IPython.display import Markdown, display

from dkdmpl_kit import viz
from dkdmpl_kit.clustering import rows_of
from dkdmpl_kit.data import augment, pk_batches
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.losses import carry_posterior, cluster_contrast_loss, gkd_loss, mixed_target, teacher_logits
from dkdmpl_kit.losses.theory import label_case
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.noise import softmax_entropy, true_clusters
from dkdmpl_kit.training.seeds import generator_for

stage = Stage("03_gkd", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root, table=table, pattern=pattern,
              out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## Where we start
#
# We need clusters that are neither poor nor clean. So we train an
# [encoder](course/glossary.md#encoder) for a few epochs with *cluster contrast*, the
# [baseline](course/glossary.md#baseline) (cross entropy with the hard labels), and
# cluster its features once more.

# %%
encoder, features, pseudo = stage.warm_start()
encoder = encoder.cpu()                         # the lesson's batches are small: the CPU will do
v = torch.from_numpy(features)                  # (N, d), rows of norm 1, eval mode
labels = torch.from_numpy(pseudo.labels)        # (N,), -1 for an outlier
clustered = labels >= 0
config, pixels = stage.config, stage.pictures("train").pixels
tau, tau_t = config.temperature, config.teacher_temperature
lam = config.gkd_weight or 0.5                  # lambda_g; this lesson takes 0.5 where the setting is 0
print(f"{len(v)} pictures, features of {v.shape[1]} numbers, {pseudo.n_clusters} clusters, "
      f"{100 * pseudo.outlier_fraction:.0f} % outliers. tau = {tau}, tau_t = {tau_t}, lambda_g = {lam}.")

# %% [markdown]
# ## Two views of one label
#
# **The epoch view: the [teacher](course/glossary.md#teacher).** Let $v_i$ be the
# feature of picture $i$, extracted once before the epoch. $C$ holds one row a cluster,
# the normalised mean of its members:
#
# $$C_k = \frac{\sum_{i:\,y_i=k} v_i}{\lVert \sum_{i:\,y_i=k} v_i \rVert}, \qquad e_i = \mathrm{softmax}(C\,v_i / \tau_t).$$
#
# $C$ is frozen for the epoch. $e_i$ is *global*: it compares the picture with every
# cluster.

# %%
memory = ClusterMemory(v, labels, momentum=config.memory_momentum, update=config.memory_update)
C = memory.centroids                                                      # (K, d), frozen
torch.testing.assert_close(C[0], F.normalize(v[labels == 0].sum(0), dim=0))  # C_k, by hand for k = 0
e_all = torch.softmax(v @ C.T / tau_t, dim=1)                             # e_i = softmax(C v_i / tau_t)

own = e_all[clustered, labels[clustered]]
favourite = e_all[clustered].argmax(dim=1) == labels[clustered]
print(f"C is {C.shape[0]} clusters x {C.shape[1]} numbers; e is {len(e_all)} pictures x {len(C)} clusters.")
print(f"The teacher's favourite is the picture's own cluster for {100 * favourite.float().mean():.0f} % of the "
      f"clustered pictures, with a mean probability of {own.mean():.2f}.")

# %% [markdown]
# **The query view: the [student](course/glossary.md#student).** In training the picture
# is *augmented* (shifted, mirrored, partly erased) and goes through the encoder in
# *train mode*. Call its feature $z_i$. The [memory](course/glossary.md#memory) $M$
# starts as $C$ and moves with every batch:
#
# $$q_i = \mathrm{softmax}(M\,z_i / \tau).$$
#
# $q_i$ is *local*: one [augmented](course/glossary.md#augmentation) picture, compared
# with a memory that changes. We draw one batch as training does.

# %%
draws = generator_for(seed, 0, "lesson")
sampler = config.sampler if stage.has_cameras else "random"
batch = next(pk_batches(pseudo.labels, stage.camids, clusters_per_batch=config.batch_clusters,
                        images_per_cluster=config.batch_images, iterations=1, sampler=sampler, generator=draws))
view = augment(stage.pictures("train").batch(batch), draws, flip=config.flip, padding=config.padding,
               erasing=config.erasing)
encoder.train()
with torch.no_grad():
    z = encoder(view).float()                   # (B, d): train mode, augmented
y = labels[batch]
student = memory.logits(z, tau)                 # M z / tau   (M is still C: no batch has been learnt yet)
teacher = v[batch] @ C.T / tau_t                # C v / tau_t
q, e = torch.softmax(student, dim=1), torch.softmax(teacher, dim=1)

fig = viz.contact_sheet((255 * view).to(torch.uint8), rows=y.numpy(), row_name="cluster", max_rows=4, max_columns=8,
                        title="What the student sees: augmented pictures, a row a cluster")
stage.save_figure(fig, "03_batch")
fig

# %% [markdown]
# **Predict:** for a picture well inside its cluster, will $e$ and $q$ look alike? And
# for a picture between two clusters?
#
# Below are the calmest picture of the batch (the teacher is surest) and the most
# contested one (the teacher is least sure). The black outline is the
# [hard label](course/glossary.md#hard-label).

# %%
disagreement = (e * (e.clamp_min(1e-12).log() - q.clamp_min(1e-12).log())).sum(dim=1)   # KL(e || q), (B,)
doubt = -(e * e.clamp_min(1e-12).log()).sum(dim=1)                                      # entropy of e, nats
calm, contested = int(doubt.argmin()), int(doubt.argmax())
for name, i in (("calm", calm), ("contested", contested)):
    fig = viz.label_views(int(y[i]), e[i], q[i], None, picture=pixels[batch[i]],
                          title=f"The {name} picture: what teacher and student say")
    stage.save_figure(fig, f"03_views_{name}")
    display(fig)
    print(f"The {name} picture: entropy of e {doubt[i]:.2f} nats, KL(e || q) {disagreement[i]:.2f} nats. "
          f"Own cluster {int(y[i])}: teacher {e[i, y[i]]:.2f}, student {q[i, y[i]]:.2f}.")

# %% [markdown]
# Orange bars outside the black outline show what the hard label leaves out: likeness to
# other clusters. Teacher and student can differ even on the calm picture. The teacher
# saw the whole picture in eval mode; the student saw an augmented one in train mode,
# where batch norm takes its statistics from this batch. Which of the two would you
# trust?
#
# ## The loss
#
# The student should follow the teacher. The distillation
# [temperature](course/glossary.md#temperature) $T$ softens both labels alike,
# $e^{(T)} = \mathrm{softmax}(t/T)$ and $q^{(T)} = \mathrm{softmax}(l/T)$, for the
# logits $t = C v/\tau_t$ and $l = M z/\tau$:
#
# $$L_{\mathrm{GKD}} = T^2\;\frac1B\sum_i \mathrm{KL}\!\left(e_i^{(T)} \,\Vert\, q_i^{(T)}\right), \qquad \mathrm{KL}(e\Vert q)=\sum_k e_k \log\frac{e_k}{q_k}.$$
#
# The teacher carries no gradient (`detach`). Otherwise it could lower the loss by
# following the student.


# %% tags=["code"]
def global_distillation(student_logits, teacher_logits, temperature=1.0):
    """The lesson: T^2 KL(e^(T) || q^(T)), mean over the batch; both logits are (B, K)."""
    e_T = torch.softmax(teacher_logits.detach() / temperature, dim=1)       # e^(T), no gradient
    log_q_T = torch.log_softmax(student_logits / temperature, dim=1)        # log q^(T)
    kl = (e_T * (torch.log(e_T.clamp_min(1e-30)) - log_q_T)).sum(dim=1)     # KL(e || q) of each picture
    return temperature**2 * kl.mean()                                       # T^2, mean over the batch


# %% [markdown]
# Does this equal the function that the kit trains with, in value **and** in gradient?

# %%
for T in (1.0, 2.0, 5.0):
    mine, kits = (student.double().requires_grad_() for _ in range(2))
    loss_mine = global_distillation(mine, teacher.double(), T)
    loss_kit = gkd_loss(kits, teacher.double(), temperature=T)
    (grad_mine,), (grad_kit,) = torch.autograd.grad(loss_mine, mine), torch.autograd.grad(loss_kit, kits)
    torch.testing.assert_close(loss_mine, loss_kit)
    torch.testing.assert_close(grad_mine, grad_kit)
    print(f"T = {T:g}: L_GKD = {loss_kit:.4f} nats; lesson and kit agree in value and gradient.")

# %% [markdown]
# ## P1: distillation is training on a mixed label
#
# [Cluster contrast](course/glossary.md#cluster-contrast) is the cross
# [entropy](course/glossary.md#entropy) with the hard label,
# $L_{\mathrm{CC}} = -\log q_i[y_i]$. Its gradient by the logits is $q - \mathbb{1}_y$,
# where $\mathbb{1}_y$ is 1 at $y$ and 0 elsewhere. $\mathrm{KL}(e\Vert q)$ is the cross
# entropy with $e$ less the entropy of $e$, which does not depend on the logits: its
# gradient is $q - e$. The sum:
#
# $$\frac{\partial}{\partial l}\left(L_{\mathrm{CC}} + \lambda_g L_{\mathrm{GKD}}\right) = (1+\lambda_g)\,(q - r), \qquad r = \frac{\mathbb{1}_y + \lambda_g\, e}{1+\lambda_g}.$$
#
# Adding [GKD](course/glossary.md#global-knowledge-distillation) (at $T=1$) is *exactly*
# training on the softened label $r$:

# %%
leaf = student.double().requires_grad_()                                  # the logits l
loss = cluster_contrast_loss(leaf, y) + lam * gkd_loss(leaf, teacher.double())
(gradient,) = torch.autograd.grad(loss, leaf)
r = mixed_target(y, e.double(), torch.zeros_like(leaf), lam, 0.0)         # r = (1_y + lambda_g e) / (1 + lambda_g)
by_hand = (1 + lam) * (torch.softmax(leaf.detach(), dim=1) - r) / len(y)  # (1 + lambda_g)(q - r); / B for the mean
torch.testing.assert_close(gradient, by_hand)
print(f"Largest difference between autograd and (1 + lambda_g)(q - r): {(gradient - by_hand).abs().max():.1e}")

# %% [markdown]
# **Predict:** for the contested picture, which bar changes most when the mixed label
# replaces the hard one? A negative gradient *raises* the logit of a cluster, a positive
# one lowers it.

# %%
fig = viz.gradient_bars(q[contested], r[contested], hard=int(y[contested]))
stage.save_figure(fig, "03_gradient")
fig

# %%
plain, mixed = q[contested] - F.one_hot(y[contested], len(C)), q[contested] - r[contested]
spared = int(((plain > 0) & (mixed < 0)).sum())
print(f"The pull towards the hard label goes from {plain[y[contested]]:+.2f} to {mixed[y[contested]]:+.2f}.")
print(f"{spared} cluster(s) that the hard label pushes away are pulled closer by the mixed label.")

# %% [markdown]
# The hard label pushes *every* other cluster away, even one that holds the same person.
# The [mixed label](course/glossary.md#mixed-target) pushes less where the teacher sees
# a likeness, and may even pull. This is what GKD can repair. It is also its danger: if
# the likeness is only the same jacket on somebody else, the mixed label keeps two
# people together.
#
# ## How soft should the teacher be?
#
# The temperature $\tau_t$ decides. We measure softness by the entropy of $e$: 0 nats
# for a one-hot label, $\log K$ for an even one.
#
# **Predict:** at which temperature does the teacher no longer tell clusters apart?

# %%
taus = np.geomspace(0.01, 1.0, 25)
similarities = (v[clustered] @ C.T).numpy()                              # (n, K): C v
marks = {"tau_t": tau_t, "too soft": 5 * tau_t}
first = torch.from_numpy(similarities[0])                                # (K,) of one picture
fig = viz.temperature_curves(taus, softmax_entropy(similarities, taus),
                             {t: torch.softmax(first / t, dim=0).numpy() for t in marks.values()}, marks=marks)
stage.save_figure(fig, "03_temperature")
fig

# %%
for t in (tau_t / 2, tau_t, 2 * tau_t, 5 * tau_t):
    soft = torch.softmax(torch.from_numpy(similarities) / t, dim=1)
    entropy = softmax_entropy(similarities, [t])[0].mean() / np.log(len(C))
    target = (1 + lam * soft[torch.arange(len(soft)), labels[clustered]]) / (1 + lam)   # r[y]
    print(f"tau_t = {t:.3f}: entropy is {100 * entropy:.0f} % of the largest possible; the mixed label still puts "
          f"{target.mean():.2f} on the hard label (the least possible is {1 / (1 + lam):.2f}).")

# %% [markdown]
# A target that is too soft is nearly even: like *label smoothing*, it only weakens the
# hard label. A target that is too sharp repeats it. The useful temperature lies in
# between, and depends on the features.
#
# ## P5: why the factor $T^2$?
#
# The gradient of $\mathrm{KL}(e^{(T)}\Vert q^{(T)})$ by the logits is
# $\tfrac1T(q^{(T)} - e^{(T)})$. For large $T$ both softmaxes become nearly even, with
# differences of order $1/T$. So the gradient shrinks as $1/T^2$, and $T^2$ compensates
# (a bar is the mean over the clusters):
#
# $$T^2\,\nabla_l \mathrm{KL} \;\longrightarrow\; \frac{1}{K}\Big[(l - \bar l) - (t - \bar t)\Big] \qquad (T\to\infty).$$
#
# **Predict:** without $T^2$, how much smaller is the gradient at $T = 10$ than at
# $T = 1$?

# %%
rows = ["| T | gradient norm without T² | gradient norm with T² |", "|---|---|---|"]
l64, t64 = student.double(), teacher.double()
for T in (1.0, 2.0, 5.0, 10.0, 100.0):
    leaf = l64.clone().requires_grad_()
    (g,) = torch.autograd.grad(gkd_loss(leaf, t64, temperature=T), leaf)
    rows.append(f"| {T:g} | {g.norm() / T**2:.2e} | {g.norm():.2e} |")

leaf = l64.clone().requires_grad_()
(g,) = torch.autograd.grad(gkd_loss(leaf, t64, temperature=1e5), leaf)
limit = ((l64 - l64.mean(1, keepdim=True)) - (t64 - t64.mean(1, keepdim=True))) / l64.shape[1] / len(l64)
torch.testing.assert_close(g, limit, rtol=1e-3, atol=1e-6)               # GKD matches centred logits for large T
print("For a very large T the gradient equals that of matching centred logits.")
display(Markdown("\n".join(rows)))

# %% [markdown]
# ## Five teachers
#
# The abstract leaves open *whose* similarity the teacher reports. The kit offers five
# readings (`gkd_teacher`):
#
# - `sample`: each picture has its own [soft label](course/glossary.md#soft-label),
#   $e_i = \mathrm{softmax}(C v_i/\tau_t)$;
# - `cluster`: one soft label for all members of a cluster,
#   $\mathrm{softmax}(C c_{y_i}/\tau_t)$;
# - `consensus`: the soft label of an *earlier* epoch, carried over by the overlap of
#   old and new clusters (as [RLCC](course/glossary.md#clustering-consensus) does).
#   Training uses the previous epoch; here we use the untrained encoder, so that the
#   difference is easy to see;
# - `vote`: what the clustering saw before it decided. Each neighbour $j$ votes for its
#   cluster with $1 - d_J(i, j)$, and the votes are divided by their sum;
# - `neighbourhood`: the same with the weights $V_{ij}$ of notebook 02.

# %%
features_before = torch.from_numpy(stage.features())
before = stage.cluster(features_before.numpy())
if before.n_clusters < 2:                                                 # nothing to carry over: fall back to now
    features_before, before = v, pseudo
C_before = ClusterMemory(features_before, torch.from_numpy(before.labels)).centroids
posterior = carry_posterior(torch.softmax(features_before @ C_before.T / tau_t, dim=1), before.labels, pseudo.labels)
index = clustered.nonzero()[:, 0]                                         # the clustered pictures
yc = labels[index]
teachers = {
    "sample": teacher_logits("sample", features=v[index], centroids=C, temperature=tau_t),
    "cluster": teacher_logits("cluster", labels=yc, centroids=C, temperature=tau_t),
    "consensus": teacher_logits("consensus", posterior=posterior[index]),
}
for name in ("vote", "neighbourhood"):
    found = stage.cluster(v.numpy(), method="gkd", gkd_teacher=name, gkd_weight=lam)
    if np.array_equal(found.labels, pseudo.labels):                       # not where k-means stands in
        votes = rows_of(found.soft, index.numpy(), found.labels)
        teachers[name] = teacher_logits(name, posterior=torch.from_numpy(votes))
teachers = {name: torch.softmax(logits, dim=1) for name, logits in teachers.items()}

one = int((index == int(batch[contested])).nonzero()[0, 0])               # the contested picture again
for name, e_of in teachers.items():
    fig = viz.label_views(int(yc[one]), e_of[one], None, None, picture=pixels[index[one]],
                          title=f"The {name} teacher on the contested picture")
    stage.save_figure(fig, f"03_teacher_{name}")
    display(fig)

# %%
rows = ["| teacher | entropy (nats) | mass on the hard label | favourite is the hard label | different soft labels | "
        "cosine with cluster contrast |", "|---" * 6 + "|"]
in_index = torch.searchsorted(index, torch.from_numpy(batch))             # the batch among the clustered pictures
by_label = ((q - F.one_hot(y, len(C))) @ C).flatten()                     # gradient of L_CC by z, times tau
for name, e_of in teachers.items():
    by_teacher = ((q - e_of[in_index]) @ C).flatten()                     # of L_GKD
    entropy = -(e_of * e_of.clamp_min(1e-12).log()).sum(dim=1).mean()
    rows.append(f"| {name} | {entropy:.2f} | {e_of[torch.arange(len(yc)), yc].mean():.2f} | "
                f"{100 * (e_of.argmax(1) == yc).float().mean():.0f} % | "
                f"{len(torch.unique(e_of.round(decimals=5), dim=0))} | "
                f"{torch.cosine_similarity(by_label, by_teacher, dim=0):.3f} |")
Markdown("\n".join(rows))

# %% [markdown]
# The favourite of the `cluster` teacher is always the hard label, as nothing is closer
# to a [centroid](course/glossary.md#centroid) than itself. The `sample` teacher can
# disagree with the clustering. But each picture helped to build its own centroid, a
# bias towards the hard label (exercise 2). The `consensus` teacher does not depend on
# this epoch's clustering, but it is out of date. `vote` and `neighbourhood` doubt where
# a picture's neighbours lie in several clusters.
#
# The last column compares two gradients on the batch: that of $L_{GKD}$ and that of
# $L_{CC}$. At 1 they point the same way: GKD then only makes the loss louder. Which
# teacher adds most here? Training measures this in every epoch (`gkd_cosine`).
#
# ## Does the teacher know better? P2, the break-even
#
# Where identities are known we can measure this (training never sees them). The true
# cluster $y^*$ of a picture is, of the clusters in which its identity is the majority,
# the one with most of its pictures. Pictures whose identity is nowhere the majority are
# left out here: for them no label can be right.
#
# The [supervision deviation](course/glossary.md#supervision-deviation) of a target $t$
# is $D(t) = \lVert t - \mathbb{1}_{y^*}\rVert_1$. Let $\eta$ be the share of wrong
# labels, and $e_c$, $e_w$ the mean teacher probability of $y^*$ where the label is
# correct and where it is wrong. A target sums to 1, so $D(t) = 2\,(1 - t[y^*])$. Put in
# $\mathbb{1}_y$ and $r$, and average over right and wrong labels:
#
# $$\mathbb{E}\,D(\mathbb{1}_y) = 2\eta, \qquad \mathbb{E}\,D(r) = 2\eta + \frac{2\lambda_g}{1+\lambda_g}\Big[(1-\eta)(1-e_c) - \eta\,e_w\Big].$$
#
# The [break-even](course/glossary.md#break-even): GKD lowers the expected deviation
# exactly when $\eta\,e_w > (1-\eta)(1-e_c)$, that is, when it repairs more on wrong
# labels than it spoils on right ones.
#
# **Predict:** if 30 % of the labels are wrong and the teacher puts no mass on the truth
# there ($e_w = 0$), can it still help?

# %%
y_star = None
if stage.has_truth:
    y_star = torch.from_numpy(true_clusters(pseudo.labels, stage.pids)[index])   # (n,), -1: its identity owns none
    judged = y_star >= 0
    wrong = judged & (y_star != yc)
    print(f"{int(judged.sum())} of {len(yc)} clustered pictures have a cluster of their own identity; "
          f"{int((~judged).sum())} have none. Of the {int(judged.sum())}, {int(wrong.sum())} carry a wrong label.")
else:
    print("True identities are not known for these pictures: the break-even cannot be measured.")

# %%
break_even = {}
if y_star is not None and judged.any():
    eta = float(wrong.float().sum() / judged.sum())
    rows = ["| teacher | tau_t | η | e_c | e_w | repaired: η e_w | spoilt: (1−η)(1−e_c) | repaired − spoilt |",
            "|---" * 8 + "|"]
    cells = [(name, tau_t, e_of) for name, e_of in teachers.items()]
    cells += [("sample", t, torch.softmax(v[index] @ C.T / t, dim=1)) for t in (tau_t / 4, tau_t / 2, 2 * tau_t)]
    for name, t, e_of in cells:
        mass = e_of[torch.arange(len(yc)), y_star.clamp_min(0)]           # e[y*]
        e_c = float(mass[judged & ~wrong].mean()) if (judged & ~wrong).any() else 0.0
        e_w = float(mass[wrong].mean()) if wrong.any() else 0.0
        repaired, spoilt = eta * e_w, (1 - eta) * (1 - e_c)
        break_even[name, t] = repaired - spoilt
        rows.append(f"| {name} | {t:.4g} | {eta:.2f} | {e_c:.2f} | {e_w:.2f} | "
                    f"{repaired:.3f} | {spoilt:.3f} | {repaired - spoilt:+.3f} |")

        truth = F.one_hot(y_star[judged], len(C)).double()                # check P2 against the definition
        target = mixed_target(yc[judged], e_of[judged].double(), torch.zeros_like(truth), lam, 0.0)
        measured = float((target - truth).abs().sum(dim=1).mean())        # E D(r)
        np.testing.assert_allclose(measured, 2 * eta + 2 * lam / (1 + lam) * (spoilt - repaired), atol=1e-5)
    print("P2 holds to five digits for every row: the formula equals the measured distance.")
    display(Markdown("\n".join(rows)))

# %%
if break_even:
    gain = break_even["sample", tau_t]
    side = "above the break-even: here the mixed label is closer to the truth than the hard one" if gain > 0 else \
        "below the break-even: here the mixed label is further from the truth than the hard one"
    best = max(break_even, key=break_even.get)
    print(f"The sample teacher at tau_t = {tau_t} stands {side} (repaired − spoilt = {gain:+.3f}).")
    print(f"The best row of the table is the {best[0]} teacher at tau_t = {best[1]:.4g} ({break_even[best]:+.3f}).")
else:
    print("Nothing to print: the break-even needs true identities and a cluster that belongs to somebody.")

# %% [markdown]
# (The prediction: no. With $e_w = 0$ nothing is repaired.)
#
# This number does not decide whether GKD helps training. It compares *targets* at one
# moment, with an $\ell_1$ distance; in training, a softer target may also make
# overconfident mistakes cheaper, and clusters change. To decide, train to the
# [plateau](course/glossary.md#plateau), with several seeds (notebook 05).
#
# ## Look at the wrong labels
#
# Of the pictures with a wrong hard label: the one where the teacher gives the true
# cluster most, and the one where it gives least.
#
# **Predict:** what do the pictures have in common with the cluster that they were put
# into by mistake?

# %%
figures = ["03_batch", "03_views_calm", "03_views_contested", "03_gradient", "03_temperature",
           *(f"03_teacher_{name}" for name in teachers)]
if y_star is not None and wrong.any():
    e_of = teachers["sample"]
    mass = e_of[torch.arange(len(yc)), y_star.clamp_min(0)]
    cases = {"best": int(mass.masked_fill(~wrong, -1).argmax()), "worst": int(mass.masked_fill(~wrong, 2).argmin())}
    for name, i in cases.items():
        fig = viz.label_views(int(yc[i]), e_of[i], None, None, picture=pixels[index[i]],
                              title=f"Labelled {int(yc[i])}, truly {int(y_star[i])}: the teacher's {name} wrong label")
        stage.save_figure(fig, f"03_wrong_{name}")
        display(fig)
        print(f"Probability of the true cluster {int(y_star[i])}: {mass[i]:.2f}; "
              f"of the wrong one {int(yc[i])}: {e_of[i, yc[i]]:.2f}.")
    figures += ["03_wrong_best", "03_wrong_worst"]
else:
    print("There is no label known to be wrong here: nothing to show.")

# %%
if y_star is not None and wrong.any():
    i = cases["best"]
    others = [index[(yc == k) & (torch.arange(len(yc)) != i)][:8] for k in (yc[i], y_star[i])]
    shown = torch.cat([index[i:i + 1], *others])
    row = ["1: the picture"] + ["2: labelled"] * len(others[0]) + ["3: true"] * len(others[1])
    colour = [viz.PALETTE["right" if same else "wrong"] for same in stage.pids[shown] == stage.pids[index[i]]]
    fig = viz.contact_sheet(pixels[shown], rows=np.array(row), row_name="", frames=[None, *colour[1:]], max_columns=8,
                            title="The picture, the cluster it was put into, and its true cluster")
    stage.save_figure(fig, "03_wrong_neighbours")
    figures.append("03_wrong_neighbours")
    display(fig)
    print("Green frames: the same identity as the picture. Vermillion frames: somebody else. "
          "The true cluster is the one in which the identity is the largest group: strangers may sit there too.")

# %% [markdown]
# ## Turn the knobs yourself
#
# The whole lesson in one figure. The bars are the teacher $e$, the student $q$ and the
# mixed label $r$. An arrow starts at the top of a blue bar and shows where the gradient
# pushes it: minus the gradient from autograd, divided by $1+\lambda_g$. The number
# beside it is the gradient itself, so *plus* means *down*. On the right are the losses,
# from the functions that train.
#
# **Predict:** where do the arrows end, by P1? And where if $T$ is not 1?

# %%
suspect = int(index[cases["best"]]) if y_star is not None and wrong.any() else int(batch[contested])
bench = np.concatenate([[suspect], batch[batch != suspect], (~clustered).nonzero()[:3, 0].numpy()])  # outliers last
glance = augment(stage.pictures("train").batch(bench), draws, flip=config.flip, padding=config.padding,
                 erasing=config.erasing)
encoder.train()
with torch.no_grad():
    likeness = encoder(glance).float() @ memory.features.T               # M z: the student's logits times tau
knows = v[bench] @ C.T                                                    # C v: the teacher's, times tau_t
case = label_case(likeness[0] / tau, int(labels[suspect]), knows[0] / tau_t, gkd_weight=lam)
fig = viz.loss_lab(case.hard, case.views, case.losses, case.total, case.gradient, picture=pixels[suspect], note=case.verdict)
stage.save_figure(fig, "03_losslab")
figures.append("03_losslab")
fig

# %% [markdown]
# In JupyterLab the figure has controls. `picture` moves through the batch; 0 is the
# picture above, and those marked *out*, at the end, are outliers (if there are any).
# `tau` is $\tau$, `tau_t` is $\tau_t$, `T` is $T$, `lambda_g` is $\lambda_g$. *by hand*
# replaces the picture by four clusters whose probabilities you drag: they are brought
# back to the sum 1, and hold at the temperatures at the start.
#
# Five things to try:
#
# 1. Raise `tau_t` until the orange bars are even. Which arrows turn round?
# 2. Raise `lambda_g`. How far down does the purple bar come inside the black outline?
# 3. Turn `T` away from 1. Do the arrows still reach the purple bars? The line below the
#    picture says by how much the true gradient differs from P1's.
# 4. Move `picture` to an [outlier](course/glossary.md#outlier). It has soft labels, but
#    no hard label to train on.
# 5. *By hand*: find probabilities for which the mixed label pulls a cluster up that the
#    hard label pushes away.

# %%
if interactive:
    from dkdmpl_kit.lessons.lab import LossLab

    display(LossLab(likeness, knows, None, labels[bench], pictures=pixels[bench], tau=tau, tau_t=tau_t, lambda_g=lam))

# %% [markdown]
# ## Exercises
#
# Put each answer into the named variable; the cell below it says whether it is right,
# or why not. (The folded cells prepare the checks: they contain the answers.)

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.exercises import exercises, value

leaf = student.double().requires_grad_()
log_q, log_e = torch.log_softmax(leaf, dim=1), torch.log_softmax(teacher.double(), dim=1)
(reverse,) = torch.autograd.grad((log_q.exp() * (log_q - log_e)).sum(dim=1).mean(), leaf)
with torch.no_grad():
    q64, g64 = log_q.exp(), log_q - log_e
reverse_test = value(reverse, batch=len(y), mistakes={
    "that is the gradient of KL(e || q), the direction that the kit uses.": (q64 - log_e.exp()) / len(y),
    "the second term is missing: each row of g must lose its mean under q.": q64 * g64 / len(y),
    "sum over the clusters of each picture by itself, not over the whole batch.": q64 * (g64 - (q64 * g64).sum()) / len(y),
    "g is log q - log e, not log e - log q; and mind the second term.": -q64 * g64 / len(y)})

# %% jupyter={"source_hidden": true} tags=["check"]
def left_out_test(answer):
    answer = torch.as_tensor(answer).detach().double()
    if answer.shape != (len(index), len(C)):
        return f"its shape is {tuple(answer.shape)}; a row for each clustered picture, {(len(index), len(C))}, is asked for."
    if not torch.allclose(answer.sum(dim=1), torch.ones(len(index), dtype=torch.double), atol=1e-3):
        return "its rows do not sum to 1: they should be probabilities."
    if torch.allclose(answer, teachers["sample"].double(), atol=1e-6):
        return "that is the teacher with the picture itself; nothing was left out."
    size = torch.bincount(yc)[yc]
    for j in (size > 1).nonzero()[:: max(1, len(yc) // 8), 0].tolist():  # the kit's centroids without picture j
        others = labels.clone()
        others[index[j]] = -1
        apart = ClusterMemory(v, others).centroids
        own = C.clone()
        own[yc[j]] = apart[yc[j]]
        hints = {"": torch.softmax(own @ v[index[j]] / tau_t, dim=0),
                 "the temperature is tau_t, not tau.": torch.softmax(own @ v[index[j]] / tau, dim=0)}
        total, n = v[labels == yc[j]].sum(dim=0), int(size[j])
        for said, row in (("bring the centroid without the picture back to length 1.", (total - v[index[j]]) / (n - 1)),
                          ("bring the sum without the picture back to length 1.", total - v[index[j]]),
                          ("C holds means of length 1; take the picture out of the sum of its cluster's features.",
                           F.normalize(C[yc[j]] - v[index[j]], dim=0))):
            own[yc[j]] = row
            hints[said] = torch.softmax(own @ v[index[j]] / tau_t, dim=0)
        hint = next((h for h, e_j in hints.items() if torch.allclose(answer[j], e_j.double(), atol=1e-4)),
                    f"row {j} differs from the label by centroids without that picture; only its own centroid changes.")
        if hint:
            return hint
    return ""


sure = e_all.max(dim=1).values
check = exercises({
    1: reverse_test, 2: left_out_test,
    3: value(sure[~clustered].mean(), mistakes={
        "those are the clustered pictures; take the others.": sure[clustered].mean(),
        "those are all pictures; take the outliers.": sure.mean(),
        "that is the mean over all clusters; take the largest probability of each picture.": e_all[~clustered].mean()})
    if (~clustered).any() else None})

# %% [markdown]
# **1. The other direction.** The kit uses $\mathrm{KL}(e\Vert q)$. Compute, without
# autograd, the gradient of the batch mean of $\mathrm{KL}(q\Vert e)$ by the logits $l$,
# for `student` and `teacher` above. Hint: with $g_k = \log q_k - \log e_k$ it is
# $q_k\,(g_k - \sum_j q_j g_j)$ for one picture. Which direction pulls harder on a
# cluster to which the student gives almost nothing ($q_k \approx 0$)?

# %% tags=["solution"]
# answer_1: the gradient, an array of the shape of `student`, (B, K)
log_qd, log_ed = torch.log_softmax(student.double(), dim=1), torch.log_softmax(teacher.double(), dim=1)
qd, gap = log_qd.exp(), log_qd - log_ed
answer_1 = qd * (gap - (qd * gap).sum(dim=1, keepdim=True)) / len(y)
forward = (qd - log_ed.exp()) / len(y)
lost = (qd < 0.01) & (log_ed.exp() > 0.05)
print(f"{int(lost.sum())} clusters have q < 0.01 but e > 0.05.")
if lost.any():
    print(f"Mean pull there: KL(e||q) {forward[lost].abs().mean():.2e}, KL(q||e) {answer_1[lost].abs().mean():.2e}.")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2. An unbiased teacher.** Each picture helped to build its own centroid. For picture
# $i$ use $C_{y_i}$ without $v_i$ (the other centroids stay), and compute the soft
# labels of all clustered pictures again. How does the teacher's mass on the hard label
# change? How often is its favourite now another cluster?
#
# (`index` (n,) holds the numbers of the clustered pictures, `yc` (n,) their labels, `v`
# (N, d) the features, `C` (K, d) the centroids. The sum of a cluster's features without
# $v_i$ has the direction of their mean.)

# %% tags=["solution"]
# answer_2: the soft labels without oneself, (n, K), rows that sum to 1
sums = torch.zeros_like(C).index_add_(0, yc, v[index])
without = F.normalize(sums[yc] - v[index], dim=1)                        # own centroid without the picture itself
loo = v[index] @ C.T
loo[torch.arange(len(yc)), yc] = (v[index] * without).sum(dim=1)
answer_2 = torch.softmax(loo / tau_t, dim=1)
for name, e_of in (("with itself", teachers["sample"]), ("left out", answer_2)):
    print(f"{name:12s} mass on the hard label {e_of[torch.arange(len(yc)), yc].mean():.2f}, "
          f"favourite elsewhere {100 * (e_of.argmax(1) != yc).float().mean():.0f} %")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3. What about the outliers?** They are left out of this epoch's training, but the
# teacher has a soft label for them: `e_all` (N, K). How large is the probability of its
# favourite cluster, on average over the outliers? Where identities are known: how often
# does the favourite belong to the outlier's identity?

# %% tags=["solution"]
# answer_3: one number from 0 to 1
answer_3 = None
out = (~clustered).nonzero()[:, 0]
if len(out):
    top, guess = e_all[out].max(dim=1)
    answer_3 = float(top.mean())
    print(f"{len(out)} outliers; mean probability of the favourite {answer_3:.2f} "
          f"(clustered pictures: {e_all[index].max(1).values.mean():.2f}).")
    if stage.has_truth:
        owner = np.array([np.bincount(stage.pids[pseudo.labels == k]).argmax() for k in range(pseudo.n_clusters)])
        hit = owner[guess] == stage.pids[out]
        print(f"The favourite belongs to the outlier's identity for {100 * hit.mean():.0f} % of them; "
              "of those with a probability above 0.5: "
              f"{int(hit[(top > 0.5).numpy()].sum())} of {int((top > 0.5).sum())}.")
else:
    print("There are no outliers in this clustering.")

# %% tags=["check"]
check(3, answer_3)

# %%
metrics = {"n_clusters": pseudo.n_clusters, "outlier_fraction": pseudo.outlier_fraction,
           "L_GKD": float(gkd_loss(student, teacher)), "teacher_mass_on_hard_label": float(own.mean()),
           "teacher_favourite_is_hard_label": float(favourite.float().mean())}
if break_even:
    metrics |= {"wrong_label_share": eta} | {f"break_even_{name}": break_even[name, tau_t] for name in teachers}
stage.write_metrics(metrics, figures=figures)
print("Done. Next: 04_skd.ipynb.")
