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
# # 04 · Self-knowledge distillation: two pictures of one person should get the same soft label
#
# **What you will learn**
#
# - What a *positive anchor* is, and five ways to choose one.
# - Three divergences between two views of a label, their gradients, and a bound:
#   anchors that agree mean labels that vary little within a cluster.
# - How all three views form *one* mixed target, and what happens when the anchor is
#   somebody else.
#
# **Time** on 2 CPU cores: under a minute with `preset="smoke"`, about two with `"demo"`
# (most of it a short training run, unless notebook 03 has made it already).
#
# **Reads and writes** in `out_dir`: reads the data set and the run `warm-seed…` (both
# made if missing); writes `figures/04_*.png` and `metrics/04_skd/metrics.json`.
#
# **Whose method is this?** The abstract of Zhu, Peng and Yan (IEEE Trans. Multimedia,
# 2024) says that in SKD the pseudo labels of the *positive anchors* and of the *query
# images* are two augmented views of the mini-batch. It does not say how anchors are
# chosen, nor which divergence compares them. What follows is **this kit's reading**;
# each open choice is a named setting.

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
from dkdmpl_kit.data import augment, pk_batches
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.losses import anchor_features, dkdmpl_loss, mixed_target, positive_anchors, skd_loss, teacher_logits
from dkdmpl_kit.losses.theory import label_case
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.training.seeds import generator_for

stage = Stage("04_skd", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root, table=table, pattern=pattern,
              out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## Where we start
#
# As in notebook 03: an encoder after a few epochs of
# [cluster contrast](course/glossary.md#cluster-contrast), its features, one clustering
# of them, and a batch drawn as in training: some clusters, several pictures of each,
# every picture augmented.

# %%
encoder, features, pseudo = stage.warm_start()
encoder = encoder.cpu()
v, labels = torch.from_numpy(features), torch.from_numpy(pseudo.labels)
config, store = stage.config, stage.pictures("train")
tau, tau_t = config.temperature, config.teacher_temperature
lam_g, lam_s = config.gkd_weight or 0.5, config.skd_weight or 0.5         # lambda_g, lambda_s
memory = ClusterMemory(v, labels, momentum=config.memory_momentum, update=config.memory_update)

draws = generator_for(seed, 0, "lesson")
sampler = config.sampler if stage.has_cameras else "random"
batches = list(pk_batches(pseudo.labels, stage.camids, clusters_per_batch=config.batch_clusters,
                          images_per_cluster=config.batch_images, iterations=4, sampler=sampler, generator=draws))
batch = batches[0]
two_views = [augment(store.batch(batch), draws, flip=config.flip, padding=config.padding, erasing=config.erasing)
             for _ in range(2)]                                           # the same pictures, augmented twice
encoder.train()
with torch.no_grad():
    z, z_again = (encoder(view).float() for view in two_views)            # (B, d), train mode
y = labels[batch]
logits = memory.logits(z, tau)                                            # l = M z / tau
q = torch.softmax(logits, dim=1)                                          # q_i = softmax(M z_i / tau)
print(f"{pseudo.n_clusters} clusters; the batch holds {len(batch)} pictures of {len(y.unique())} clusters.")

# %% [markdown]
# ## Choosing a positive anchor
#
# The [positive anchor](course/glossary.md#anchor) $p(i)$ of a query $i$ is *another*
# view that should get the same label. The kit knows five (`skd_anchor`):
#
# 1. `hardest`: the batch mate of the same cluster that is **least** similar,
#    $p(i)=\arg\min_{j\neq i,\; y_j=y_i} z_i^\top z_j$;
# 2. `random`: any batch mate of the cluster;
# 3. `mean`: the normalised mean of the batch mates (a point in feature space, not a
#    picture);
# 4. `augmentation`: the same picture, augmented once more;
# 5. `ema`: the same picture through a slowly moving copy of the encoder (*exponential
#    moving average*).
#
# **Predict:** which of the five will differ most from the query? Which can be a
# *different person*?
#
# The first one in code:


# %% tags=["code"]
def hardest_anchor(z, y):
    """The lesson: p(i), the least similar batch mate of the same cluster; z (B, d), y (B,)."""
    p = torch.arange(len(z))                                              # alone in its cluster: its own anchor
    for i in range(len(z)):
        mates = [j for j in range(len(z)) if j != i and y[j] == y[i]]     # j != i, y_j = y_i
        if mates:
            p[i] = mates[int((z[mates] @ z[i]).argmin())]                 # argmin z_i . z_j
    return p


# %%
hardest = positive_anchors(z, y, strategy="hardest")
mine = hardest_anchor(z, y)
similarity = (z * z[hardest]).sum(dim=1)
torch.testing.assert_close((z * z[mine]).sum(dim=1), similarity)          # the same choice (ties may differ in index)
print(f"Lesson and kit choose alike. Mean similarity of a query and its hardest anchor: {similarity.mean():.2f}.")

# %% [markdown]
# Now all five. For `ema` we take the encoder in eval mode: at the first step of a
# training the EMA copy *is* the encoder.

# %%
encoder.eval()
with torch.no_grad():
    z_ema = encoder(two_views[0]).float()
random = positive_anchors(z, y, strategy="random", generator=generator_for(seed, 0, "anchors"))
anchors = {
    "hardest": z[hardest],
    "random": z[random],
    "mean": anchor_features(z, y, strategy="mean"),
    "augmentation": z_again,
    "ema": z_ema,
}
views = {name: torch.softmax(memory.logits(z_p, tau), dim=1)             # a_i = softmax(M z_p(i) / tau)
         for name, z_p in anchors.items()}

# %%
seen, again = ((255 * view).to(torch.uint8) for view in two_views)
mates = (y[:, None] == y) & ~torch.eye(len(y), dtype=torch.bool)
mates |= torch.diag(~mates.any(dim=1))
chosen = [int((y == k).nonzero()[0, 0]) for k in y.unique()[:5]]           # one query a cluster
rows, right = [], []
for i in chosen:
    blend = seen[mates[i]].float().mean(dim=0).to(torch.uint8)            # stands for the mean: no such picture exists
    rows.append(torch.stack([seen[hardest[i]], seen[random[i]], blend, again[i], seen[i]]))
    same = stage.pids[batch] == stage.pids[batch[i]]
    right.append([same[hardest[i]], same[random[i]], same[mates[i].numpy()].all(), True, True])
fig = viz.ranking_grid(seen[chosen], torch.stack(rows), np.array(right) if stage.has_truth else None,
                       titles=[f"cluster {int(y[i])}" for i in chosen],
                       title="Anchors: 1 hardest · 2 random · 3 mean · 4 augmentation · 5 EMA")
stage.save_figure(fig, "04_anchors")
fig

# %% [markdown]
# Column 3 blends the batch mates' pixels, to show something for the mean. A tick means
# the same person as the query, a cross somebody else (for the mean: at least one of the
# mates). Columns 4 and 5 show the same picture, so they are never wrong. But they
# contain nothing of other cameras and other views of the person.
#
# ## The anchor view of the label
#
# $$a_i = \mathrm{softmax}(M\,z_{p(i)}/\tau)$$
#
# Below: the query of the batch that agrees least with its hardest anchor, under each
# strategy that needs a batch mate; then the batch average of all five. (`ema` differs
# too, though it shows the same picture: the query is in train mode, where batch norm
# takes its statistics from this batch, the copy in eval mode.)


# %%
def kl(p, q):
    """KL(p || q) of each row; p, q (B, K) probabilities."""
    return (p * (p.clamp_min(1e-30).log() - q.clamp_min(1e-30).log())).sum(dim=1)


gap = {name: 0.5 * (kl(a, q) + kl(q, a)) for name, a in views.items()}    # the mean of both directions, per picture
far = int(gap["hardest"].argmax())
for name in ("hardest", "random", "mean"):
    fig = viz.label_views(int(y[far]), None, q[far], views[name][far], picture=seen[far],
                          title=f"Query and anchor view, anchor: {name}")
    stage.save_figure(fig, f"04_views_{name}")
    display(fig)
for name in anchors:
    print(f"{name:13s} symmetric KL of query and anchor view: {gap[name].mean():.2f} nats on average, "
          f"{gap[name][far]:.2f} for this query.")

# %% [markdown]
# ## The loss, with three divergences
#
# Both views come from the same batch; neither is the
# [teacher](course/glossary.md#teacher). So there is a choice (`skd_divergence`):
#
# - `kl`: $\mathrm{KL}(\mathrm{sg}(a)\Vert q)$. The anchor is fixed
#   (*[stop-gradient](course/glossary.md#stop-gradient)*) and the query moves;
# - `symmetric_kl`: $\tfrac12\left[\mathrm{KL}(a\Vert q)+\mathrm{KL}(q\Vert a)\right]$.
#   Both move towards each other;
# - `js`: [Jensen–Shannon](course/glossary.md#jensen-shannon-divergence),
#   $\tfrac12\left[\mathrm{KL}(a\Vert m)+\mathrm{KL}(q\Vert m)\right]$ with
#   $m=\tfrac12(a+q)$. It never exceeds $\log 2$, so one absurd anchor cannot dominate
#   the batch.


# %% tags=["code"]
def self_distillation(query_logits, anchor_logits, divergence):
    """The lesson: D(a, q), mean over the batch; both logits are (B, K)."""
    q, a = torch.softmax(query_logits, dim=1), torch.softmax(anchor_logits, dim=1)
    if divergence == "kl":
        return kl(a.detach(), q).mean()                                   # KL(sg(a) || q)
    if divergence == "symmetric_kl":
        return (0.5 * (kl(a, q) + kl(q, a))).mean()                       # [KL(a || q) + KL(q || a)] / 2
    m = 0.5 * (a + q)                                                     # js: m = (a + q) / 2
    return (0.5 * (kl(a, m) + kl(q, m))).mean()                           # [KL(a || m) + KL(q || m)] / 2


# %%
anchor_logits = memory.logits(anchors["hardest"], tau)
for divergence in ("kl", "symmetric_kl", "js"):
    ours, kits = ([logits.double().requires_grad_(), anchor_logits.double().requires_grad_()] for _ in range(2))
    loss_ours, loss_kit = self_distillation(*ours, divergence), skd_loss(*kits, divergence=divergence)
    torch.testing.assert_close(loss_ours, loss_kit)
    for g_ours, g_kit in zip(torch.autograd.grad(loss_ours, ours, allow_unused=True),
                             torch.autograd.grad(loss_kit, kits, allow_unused=True)):
        assert (g_ours is None) == (g_kit is None)                        # kl: no gradient reaches the anchor
        if g_ours is not None:
            torch.testing.assert_close(g_ours, g_kit)
    print(f"{divergence:13s} {loss_kit:.4f} nats; lesson and kit agree in value and in both gradients"
          + (", none reaches the anchor." if g_kit is None else "."))

# %% [markdown]
# ## P3: a small consistency loss forces a small variance
#
# What does [SKD](course/glossary.md#self-knowledge-distillation) do to a whole cluster?
# Take its $n$ members in the batch, with labels $q_1,\dots,q_n$, and anchors drawn at
# random among the others. Pinsker's inequality says
# $\mathrm{KL}(a\Vert q)\ge\tfrac12\lVert a-q\rVert_1^2$, and
# $\lVert\cdot\rVert_1\ge\lVert\cdot\rVert_2$. The mean of
# $\tfrac12\lVert q_i-q_j\rVert_2^2$ over all pairs $i\ne j$ is $\tfrac{n}{n-1}$ times
# the variance. Together:
#
# $$\mathbb{E}\left[\text{symmetric KL}\right]\;\ge\;\frac{n}{n-1}\,\mathrm{Var}(q), \qquad \mathrm{Var}(q)=\frac1n\sum_i\lVert q_i-\bar q\rVert_2^2 .$$
#
# So a small loss makes the labels within a cluster *agree*. (The kit's default,
# `hardest`, is not covered.)
#
# **Predict:** is the left side close to the right side, or far above it?

# %%
rows, ratios = ["| cluster | n | E[symmetric KL] | n/(n−1) Var(q) |", "|---|---|---|---|"], []
qd = torch.softmax(logits.double(), dim=1)
for k in y.unique():
    member = qd[y == k]
    n = len(member)
    if n < 2:
        continue
    i, j = np.nonzero(~np.eye(n, dtype=bool))                             # all ordered pairs i != j: the exact mean
    expected = (0.5 * (kl(member[i], member[j]) + kl(member[j], member[i]))).mean()
    bound = n / (n - 1) * (member - member.mean(dim=0)).square().sum(dim=1).mean()
    assert expected >= bound - 1e-12                                      # P3
    ratios.append(float(expected / bound.clamp_min(1e-12)))
    rows.append(f"| {int(k)} | {n} | {expected:.3f} | {bound:.3f} |")
print(f"P3 holds in all {len(ratios)} clusters of the batch. "
      + (f"The loss exceeds its bound by a factor of {min(ratios):.1f} to {max(ratios):.1f}." if ratios else ""))
Markdown("\n".join(rows[:12]))

# %% [markdown]
# A small loss *forces* a small variance; a large loss does not prove a large one. And
# agreement is not truth: a cluster of two people whose labels all agree has variance
# zero. (Exercise 2.)
#
# ## P4: one target from three views
#
# All together, with `kl`, its stop-gradient, and $T=1$:
#
# $$\frac{\partial L}{\partial l} = (1+\lambda_g+\lambda_s)\,(q-r_3), \qquad r_3=\frac{\mathbb{1}_y+\lambda_g\,e+\lambda_s\,a}{1+\lambda_g+\lambda_s}.$$
#
# So with `kl` DKD-MPL trains on **one** label, mixed from
# [hard label](course/glossary.md#hard-label), teacher and anchor. (The default,
# `symmetric_kl`, also moves the anchor's view and is not covered.)

# %%
teacher = teacher_logits("sample", centroids=memory.centroids, features=v[batch], temperature=tau_t)                          # C v / tau_t
e, a = torch.softmax(teacher, dim=1), views["hardest"]
leaf = logits.double().requires_grad_()                                   # the logits l
loss = dkdmpl_loss(leaf, y, teacher_logits=teacher.double(), anchor_logits=anchor_logits.double(),
                   gkd_weight=lam_g, skd_weight=lam_s, temperature=1.0, divergence="kl")
(gradient,) = torch.autograd.grad(loss.total, leaf)
r3 = mixed_target(y, e.double(), a.double(), lam_g, lam_s)                # r3 = (1_y + lg e + ls a) / (1 + lg + ls)
by_hand = (1 + lam_g + lam_s) * (torch.softmax(leaf.detach(), dim=1) - r3) / len(y)
torch.testing.assert_close(gradient, by_hand, rtol=1e-5, atol=1e-8)
print("Largest difference between autograd and (1 + lambda_g + lambda_s)(q - r3): "
      f"{(gradient - by_hand).abs().max():.1e}")

# %% [markdown]
# **Predict:** in the picture below, can $r_3$ ever give the hard label less than
# $1/(1+\lambda_g+\lambda_s)$?

# %%
fig = viz.label_views(int(y[far]), e[far], q[far], a[far], r3[far], picture=seen[far])
stage.save_figure(fig, "04_three_views")
fig

# %% [markdown]
# The black outline is the hard label. The teacher $e$ (orange) comes from the whole
# picture. The query $q$ (blue) comes from the augmented one, and is trained. The anchor
# $a$ (green) comes from a batch mate. The
# [mixed target](course/glossary.md#mixed-target) $r_3$ (purple) is the weighted mean of
# hard label, $e$ and $a$. Training moves the blue bars towards the purple ones. (The
# prediction: no. The hard label has weight 1 in the mean, so it keeps at least
# $1/(1+\lambda_g+\lambda_s)$.)
#
# ## Where does SKD pull?
#
# With `kl`, the gradient of SKD alone is $q-a$, and that of the hard label alone is
# $q-\mathbb{1}_y$.

# %%
fig = viz.gradient_bars(q[far], r3[far], hard=int(y[far]), title="Hard label against the target mixed from three views")
stage.save_figure(fig, "04_gradient")
fig

# %%
pull_hard, pull_skd = q[far] - F.one_hot(y[far], q.shape[1]), q[far] - a[far]
agree = float(F.cosine_similarity(pull_hard, pull_skd, dim=0))
print("For this query the gradients of the hard label and of SKD "
      f"{'point the same way' if agree > 0 else 'oppose each other'} (cosine {agree:+.2f}).")
everywhere = F.cosine_similarity(q - F.one_hot(y, q.shape[1]), q - a, dim=1)
print(f"Over the batch they oppose each other for {100 * (everywhere < 0).float().mean():.0f} % of the queries.")

# %% [markdown]
# Where both point the same way, the anchor confirms the label. Where they oppose each
# other, the anchor gives the label less mass than the query does: this can reduce
# overconfidence, or slow down learning.
#
# ## When the anchor is somebody else
#
# A cluster that holds two people offers anchors of the wrong person. Where identities
# are known we can count them.
#
# **Predict:** does the *hardest* anchor belong to the wrong person more often than a
# random one?

# %%
counts, wrong_gap, example = {}, {}, None
if stage.has_truth:
    hits = {"hardest": [], "random": []}
    spread = {True: [], False: []}                                    # symmetric KL of wrong and right hardest anchors
    encoder.train()
    for indices in batches:
        with torch.no_grad():
            z_b = encoder(augment(store.batch(indices), draws, flip=config.flip, padding=config.padding,
                                  erasing=config.erasing)).float()
        y_b, q_b = labels[indices], torch.softmax(memory.logits(z_b, tau), dim=1)
        for name in hits:
            p = positive_anchors(z_b, y_b, strategy=name, generator=draws)
            wrong = torch.from_numpy(stage.pids[indices] != stage.pids[indices[p]])
            hits[name].append(wrong)
            if name == "hardest":
                d = 0.5 * (kl(q_b[p], q_b) + kl(q_b, q_b[p]))
                spread[True].append(d[wrong])
                spread[False].append(d[~wrong])
    counts = {name: float(torch.cat(found).float().mean()) for name, found in hits.items()}
    wrong_gap = {side: torch.cat(found) for side, found in spread.items()}
    verdict = "is" if counts["hardest"] > counts["random"] else "is not"
    print(f"Over {len(batches)} batches: {100 * counts['hardest']:.0f} % of the hardest anchors and "
          f"{100 * counts['random']:.0f} % of the random ones show somebody else. "
          f"Here the hardest one {verdict} wrong more often than the random one.")
    for side, name in ((True, "wrong"), (False, "right")):
        if len(wrong_gap[side]):
            print(f"Hardest anchors of the {name} person: symmetric KL {wrong_gap[side].mean():.2f} nats on average "
                  f"({len(wrong_gap[side])} anchors).")
else:
    print("True identities are not known for these pictures: wrong anchors cannot be counted.")

# %%
figures = ["04_anchors", "04_views_hardest", "04_views_random", "04_views_mean", "04_three_views", "04_gradient"]
if stage.has_truth:
    mistaken = torch.from_numpy(stage.pids[batch] != stage.pids[batch[hardest]])
    if mistaken.any():
        example = int(gap["hardest"].masked_fill(~mistaken, -1).argmax())
        pair = torch.stack([seen[example], seen[hardest[example]]])
        fig = viz.label_views(int(y[example]), e[example], q[example], a[example], r3[example],
                              picture=torch.cat([pair[0], pair[1]], dim=2), title="The anchor (right) is somebody else")
        stage.save_figure(fig, "04_wrong_anchor")
        figures.append("04_wrong_anchor")
        display(fig)
        print(f"Query and anchor share cluster {int(y[example])} but not the identity. "
              f"The mixed target leaves {r3[example, y[example]]:.2f} on that cluster.")
    else:
        print("In this batch every hardest anchor shows the right person.")

# %% [markdown]
# If query and anchor are in one cluster by mistake, SKD makes their labels equal, and
# so strengthens the mistake, as the hard label does. But if the anchor gives little
# mass to the shared cluster, the mixed target becomes *softer*, and the wrong label
# loses weight. Which effect is larger must be measured: see the
# [plateau](course/glossary.md#plateau) in notebook 05.
#
# ## All three views on one bench
#
# The query above with its three views, the target $r_3$ mixed from them, and the
# losses, computed by the functions that train. An arrow starts at the top of a blue bar
# and shows where the gradient pushes it: minus the gradient from autograd, divided by
# $1+\lambda_g+\lambda_s$. The number beside it is the gradient itself, so *plus* means
# *down*.
#
# **Predict:** with `kl` each arrow ends at its purple bar, by P4. Do the other two
# divergences push further, or less far?

# %%
likeness, anchors_like = z @ memory.features.T, z[hardest] @ memory.features.T   # M z and M z_p(i): logits times tau
knows = v[batch] @ memory.centroids.T                                     # C v: the teacher's logits times tau_t
case = label_case(likeness[far] / tau, int(y[far]), knows[far] / tau_t, anchors_like[far] / tau,
                  gkd_weight=lam_g, skd_weight=lam_s, divergence="kl")
torch.testing.assert_close(case.gradient, by_hand[far] * len(y), rtol=1e-4, atol=1e-6)  # P4 again: this row of the batch
fig = viz.loss_lab(case.hard, case.views, case.losses, case.total, case.gradient, picture=seen[far],
                   anchor_picture=seen[hardest[far]], note=case.verdict)
stage.save_figure(fig, "04_losslab")
figures.append("04_losslab")
fig

# %% [markdown]
# In JupyterLab the figure has controls. `picture` moves through the batch, each picture
# with its hardest anchor. `tau` is the [temperature](course/glossary.md#temperature)
# $\tau$ of query and anchor, `tau_t` the teacher's $\tau_t$, `T` the distillation
# temperature (of $L_{\mathrm{GKD}}$ alone); `lambda_g` and `lambda_s` are the weights,
# `divergence` is the one of $L_{\mathrm{SKD}}$. *by hand* replaces the picture by four
# clusters whose probabilities you drag: they are brought back to the sum 1, and hold at
# the temperatures at the start.
#
# Three things to try:
#
# 1. Choose a picture whose query and anchor disagree completely, and switch
#    `divergence` from `kl` to `js`. How much of the anchor's pull is left?
# 2. Set `lambda_s` to 0 and raise it slowly. Which bars does the anchor hold up that
#    the hard label would push down?
# 3. *By hand*: find views for which the hard label pushes a cluster down, the anchor
#    pulls it up, and the two cancel.

# %%
if interactive:
    from dkdmpl_kit.lessons.lab import LossLab

    display(LossLab(likeness, knows, anchors_like, y, pictures=seen, anchor_pictures=seen[hardest], tau=tau, tau_t=tau_t,
                    lambda_g=lam_g, lambda_s=lam_s, picture=far))

# %% [markdown]
# ## Exercises
#
# Put each answer into the named variable; the cell below it says whether it is right,
# or why not. (The folded cells prepare the checks: they contain the answers.)

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.exercises import exercises, value


def easiest_test(answer):
    p = torch.as_tensor(answer)
    if p.shape != y.shape or p.is_floating_point():
        return f"a whole number for each of the {len(y)} pictures of the batch is asked for: which row is its anchor."
    if ((p < 0) | (p >= len(y))).any():
        return f"rows of the batch, 0 to {len(y) - 1}, are asked for, not numbers of pictures in the data set."
    lonely = ~((y[:, None] == y) & ~torch.eye(len(y), dtype=torch.bool)).any(dim=1)
    if ((p == torch.arange(len(y))) & ~lonely).any():
        return "a picture is its own anchor; with itself the similarity is always largest, so leave j = i out."
    if (y[p] != y).any():
        return "an anchor lies in another cluster; only batch mates with the same label may be chosen."
    chosen, best = (z * z[p]).sum(dim=1), (z @ z.T).masked_fill(~mates, -torch.inf).max(dim=1).values
    if torch.allclose(chosen, best, atol=1e-5):
        return ""
    if torch.allclose(chosen, similarity, atol=1e-5):
        return "those are the hardest anchors; the easiest are the most similar ones."
    return f"{int((chosen < best - 1e-5).sum())} pictures have a batch mate that is more similar."

# %% jupyter={"source_hidden": true} tags=["check"]
def collapse_test(answer):
    l = torch.as_tensor(answer).detach().double()  # noqa: E741
    if l.shape != logits.shape:
        return f"its shape is {tuple(l.shape)}; logits of the batch, {tuple(logits.shape)}, are asked for."
    if not torch.isfinite(l).all():
        return "logits must be finite; you do not need infinity."
    loss_there = float(skd_loss(l, l[hardest]))
    if loss_there > 1e-8:
        return f"L_SKD with the hardest anchors is {loss_there:.3g} there, not 0."
    if not torch.allclose(torch.softmax(l, dim=1), torch.softmax(l[:1], dim=1), atol=1e-6):
        return "its labels still differ between pictures: that is knowledge. Find logits that know nothing about them."
    return ""


def three(query, anchor):
    return np.array([float(skd_loss(query, anchor, divergence=d)) for d in ("kl", "symmetric_kl", "js")])


strange = anchor_logits.clone()
strange[far] = -20.0
strange[far, (int(y[far]) + 1) % logits.shape[1]] = 20.0
check = exercises({1: easiest_test, 2: collapse_test, 3: value(
    three(logits, strange) - three(logits, anchor_logits), tol=1e-2, batch=len(y), mistakes={
        "that is the loss with the absurd anchor; subtract the loss without it.": three(logits, strange),
        "the query's logits come first in `skd_loss`, the anchor's second.":
            three(strange, logits) - three(anchor_logits, logits)})})

# %% [markdown]
# **1. The easiest anchor.** Choose for each query the *most* similar batch mate of its
# cluster (a query alone in its cluster keeps itself). Compare the mean
# [symmetric KL](course/glossary.md#kl-divergence) and, where identities are known, the
# share of wrong anchors with those of `hardest`.

# %% tags=["solution"]
# answer_1: the rows of the anchors in the batch, whole numbers (B,)
closeness = (z @ z.T).masked_fill(~mates, -torch.inf)
answer_1 = easiest = closeness.argmax(dim=1)
q_easy = q[easiest]
print(f"symmetric KL: easiest {(0.5 * (kl(q_easy, q) + kl(q, q_easy))).mean():.2f}, "
      f"hardest {gap['hardest'].mean():.2f} nats")
if stage.has_truth:
    for name, p in (("easiest", easiest), ("hardest", hardest)):
        print(f"{name}: {100 * (stage.pids[batch] != stage.pids[batch[p]]).mean():.0f} % show somebody else")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2. Collapse.** Suppose we trained with SKD *alone*. Find logits of the batch for
# which the loss is zero although they are the same for every picture. Which part of the
# full loss forbids this?

# %% tags=["solution"]
# answer_2: logits, an array (B, K)
answer_2 = torch.zeros_like(logits)                                       # every label even: q = a = 1/K
print("SKD at even labels:", float(skd_loss(answer_2, answer_2)))
full = dkdmpl_loss(answer_2, y, teacher_logits=teacher, anchor_logits=answer_2,
                   gkd_weight=lam_g, skd_weight=lam_s)
print(f"Cluster contrast at even labels: {full.cluster_contrast:.2f} nats = log K = {np.log(logits.shape[1]):.2f}; "
      "it forbids the collapse.")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3. One absurd anchor.** Replace the anchor logits of the query `far` by a view with
# (almost) all mass on a wrong cluster: 20 for the cluster after its own,
# `(y[far] + 1) % K`, and -20 for all others. By how much does the batch loss rise under
# each divergence? Which one is robust, and why?

# %% tags=["solution"]
# answer_3: three numbers, loss with minus loss without the absurd anchor, for kl, symmetric_kl, js
absurd = anchor_logits.clone()
absurd[far] = -20.0
absurd[far, (int(y[far]) + 1) % logits.shape[1]] = 20.0
answer_3 = []
for divergence in ("kl", "symmetric_kl", "js"):
    before, after = (float(skd_loss(logits, x, divergence=divergence)) for x in (anchor_logits, absurd))
    answer_3.append(after - before)
    print(f"{divergence:13s} {before:.3f} -> {after:.3f} nats (change {after - before:+.3f})")
print(f"js is bounded: one query of {len(y)} can add at most log(2)/{len(y)} = {np.log(2) / len(y):.4f}.")

# %% tags=["check"]
check(3, answer_3)

# %%
metrics = {"n_clusters": pseudo.n_clusters, "L_CC": loss.cluster_contrast.item(), "L_GKD": loss.gkd.item(),
           "L_SKD_kl": loss.skd.item(), "opposing_gradients": float((everywhere < 0).float().mean())}
metrics |= {f"symmetric_kl_{name}": float(values.mean()) for name, values in gap.items()}
metrics |= {f"wrong_anchors_{name}": share for name, share in counts.items()}
stage.write_metrics(metrics, figures=figures)
print("Done. Next: 05_training.ipynb.")
