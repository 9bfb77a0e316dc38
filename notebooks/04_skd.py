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
# # 04 · Self-knowledge distillation: two pictures of one person, one soft label
#
# **What you will learn**
#
# - What a *positive anchor* is, and five ways to choose one.
# - Three divergences between two views of a label, and what a small loss forces.
# - How three views form *one* mixed target, and what a wrong anchor does.
#
# **Time** on 2 CPU cores: two minutes (`preset="smoke"`: one). **Reads** the data set
# and the run `warm-seed…` (made if missing). **Writes** to `out_dir`:
# `figures/04_*.png`, `metrics/04_skd`.
#
# **Whose method is this?** The abstract of Zhu, Peng and Yan (2024) names *positive
# anchors* and *query images* as two views; how they are chosen and compared is **this
# kit's reading**.

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
from IPython.display import display

from dkdmpl_kit import viz
from dkdmpl_kit.clustering import rows_of
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.lessons.views import batch_with, follow, lesson_batches, student_views
from dkdmpl_kit.losses import (
    anchor_features, dkdmpl_loss, mixed_target, positive_anchors, skd_loss, teacher_logits, theory)
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.training.seeds import generator_for

# %%
stage = Stage("04_skd", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root, table=table,
              pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## Where we start
#
# As in notebook 03: the encoder after a short training with [cluster
# contrast](course/glossary.md#cluster-contrast), the picture that we follow, and a
# batch that holds it, augmented twice.

# %%
encoder, features, pseudo = stage.warm_start()
encoder, config = encoder.cpu(), stage.config
v, labels = torch.from_numpy(features), torch.from_numpy(pseudo.labels)
tau, tau_t = config.temperature, config.teacher_temperature
lam_g, lam_s = config.gkd_weight or 0.5, config.skd_weight or 0.5         # lambda_g, lambda_s
memory = ClusterMemory(v, labels, momentum=config.memory_momentum, update=config.memory_update)
one = follow(stage, features, pseudo.labels)
stage.say("followed", one.sentence, hard=one.hard, other=one.other, true=one.true)

# %%
draws = generator_for(seed, 0, "lesson")
batch = batch_with(one.index, stage, pseudo.labels, draws)                # (B,)
two_views = [student_views(stage, batch, draws) for _ in range(2)]        # the same pictures, augmented twice
encoder.train()
with torch.no_grad():
    z, z_again = (encoder(view).float() for view in two_views)            # (B, d), train mode
y, n_clusters = labels[batch], pseudo.n_clusters
logits = memory.logits(z, tau)                                            # l = M z / tau
q = torch.softmax(logits, dim=1)                                          # q_i = softmax(M z_i / tau)
b = int((torch.from_numpy(batch) == one.index).nonzero()[0, 0])           # our picture's row

# %% [markdown]
# ## Choosing a positive anchor
#
# The [positive anchor](course/glossary.md#anchor) $p(i)$ of a query $i$ is *another*
# view that should get the same label. The kit knows five (`skd_anchor`):
#
# 1. `hardest`, the default: the **least** similar batch mate of the same cluster (which
#    may repeat a picture, if it is small), $p(i)=\arg\min_{j\neq i,\; y_j=y_i} z_i^\top
#    z_j$;
# 2. `random`: any batch mate of the cluster;
# 3. `mean`: the normalised mean of the batch mates, which is not a picture;
# 4. `augmentation`: the same picture, augmented once more;
# 5. `ema`: the same picture through a slow copy of the encoder.
#
# **Predict:** which can show a *different person*?


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
mine = hardest_anchor(z, y)                                               # ties may differ in index alone
torch.testing.assert_close((z * z[mine]).sum(dim=1), (z * z[hardest]).sum(dim=1))

# %% [markdown]
# All five. (At the first step the `ema` copy *is* the encoder.)

# %%
encoder.eval()
with torch.no_grad():
    z_ema = encoder(two_views[0]).float()
random = positive_anchors(z, y, strategy="random", generator=generator_for(seed, 0, "anchors"))
anchors = {"hardest": z[hardest], "random": z[random], "mean": anchor_features(z, y, strategy="mean"),
           "augmentation": z_again, "ema": z_ema}
views = {name: torch.softmax(memory.logits(z_p, tau), dim=1)             # a_i = softmax(M z_p(i) / tau)
         for name, z_p in anchors.items()}

# %%
seen, again = ((255 * view).to(torch.uint8) for view in two_views)
chosen = [b, *[int((y == k).nonzero()[0, 0]) for k in y.unique() if k != one.hard][:4]]
rows = torch.stack([torch.stack([seen[hardest[i]], seen[random[i]], again[i]]) for i in chosen])
right = np.array([[stage.pids[batch[j]] == stage.pids[batch[i]] for j in (hardest[i], random[i], i)] for i in chosen])
who = f"Our picture is the query in row 1 (cluster {one.hard})."
if stage.has_truth:
    who += f" {int((~right[:, 0]).sum())} of {len(chosen)} hardest anchors (column 1) show somebody else."
stage.show(viz.ranking_grid(seen[chosen], rows, right if stage.has_truth else None,
                            titles=[f"cluster {int(y[i])}" for i in chosen],
                            title="Queries and anchors: 1 hardest · 2 random · 3 augmentation"), "04_anchors", who)

# %% [markdown]
# (`hardest` and `random` can, `mean` in part; `ema` sees the query itself.) The same
# picture is never the wrong person, but shows nothing of other cameras.
#
# ## The anchor view of the label
#
# The anchor's label is $a_i = \mathrm{softmax}(M\,z_{p(i)}/\tau)$. **Predict:** which
# anchor agrees least with our query?

# %%
def kl(p, q):
    """KL(p || q) of each row; p, q (B, K) probabilities."""
    return (p * (p.clamp_min(1e-30).log() - q.clamp_min(1e-30).log())).sum(dim=1)


gap = {name: 0.5 * (kl(a, q) + kl(q, a)) for name, a in views.items()}    # both directions, per picture
panels = {"q: the query": q[b]} | {f"a: {name}": a[b] for name, a in views.items()}
far, near = max(gap, key=lambda name: gap[name][b]), min(gap, key=lambda name: gap[name][b])
stage.show(viz.label_targets(panels, one.hard, truth=None if one.true < 0 else one.true, picture=seen[b],
                             colours={name: viz.VIEW_COLOURS["a"] for name in panels if name[:2] == "a:"},
                             title="Our query's label, and the labels of its five anchors"), "04_views",
           f"For our query the {far} anchor differs most ({gap[far][b]:.2f} nats), the {near} anchor least "
           f"({gap[near][b]:.2f}).")
mean_gap = {name: float(values.mean()) for name, values in gap.items()}
most = max(mean_gap, key=mean_gap.get)
stage.say("gaps", f"On average over the batch the {most} anchor differs most from its query: "
          f"{mean_gap[most]:.2f} nats.", **mean_gap)

# %% [markdown]
# The number is the symmetric [KL divergence](course/glossary.md#kl-divergence) below.
#
# ## The loss, with three divergences
#
# Neither view is the [teacher](course/glossary.md#teacher): choose (`skd_divergence`)
#
# - `kl`: $\mathrm{KL}(\mathrm{sg}(a)\Vert q)$. The anchor stands still
#   ([stop-gradient](course/glossary.md#stop-gradient)) and the query moves;
# - `symmetric_kl`, the default:
#   $\tfrac12\left[\mathrm{KL}(a\Vert q)+\mathrm{KL}(q\Vert a)\right]$. Both move;
# - `js`: [Jensen–Shannon](course/glossary.md#jensen-shannon-divergence),
#   $\tfrac12\left[\mathrm{KL}(a\Vert c)+\mathrm{KL}(q\Vert c)\right]$ with
#   $c=\tfrac12(a+q)$. It never exceeds $\log 2$.
#
# *Example:* $a=(0.9, 0.1)$ and $q=(0.5, 0.5)$ give 0.368, 0.439 and 0.102 nats.


# %% tags=["code"]
def self_distillation(query_logits, anchor_logits, divergence):
    """The lesson: D(a, q), mean over the batch; both logits are (B, K)."""
    q, a = torch.softmax(query_logits, dim=1), torch.softmax(anchor_logits, dim=1)
    if divergence == "kl":
        return kl(a.detach(), q).mean()                                   # KL(sg(a) || q)
    if divergence == "symmetric_kl":
        return (0.5 * (kl(a, q) + kl(q, a))).mean()                       # [KL(a || q) + KL(q || a)] / 2
    c = 0.5 * (a + q)                                                     # js: c = (a + q) / 2
    return (0.5 * (kl(a, c) + kl(q, c))).mean()                           # [KL(a || c) + KL(q || c)] / 2


# %%
anchor_logits = memory.logits(anchors["hardest"], tau)
example = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
for divergence, by_hand in (("kl", 0.368), ("symmetric_kl", 0.439), ("js", 0.102)):
    assert abs(self_distillation(*example, divergence) - by_hand) < 5e-4
    ours, kits = ([x.double().requires_grad_() for x in (logits, anchor_logits)] for _ in range(2))
    loss_ours, loss_kit = self_distillation(*ours, divergence), skd_loss(*kits, divergence=divergence)
    torch.testing.assert_close(loss_ours, loss_kit)
    for mine, kit in zip(torch.autograd.grad(loss_ours, ours, allow_unused=True, materialize_grads=True),
                         torch.autograd.grad(loss_kit, kits, allow_unused=True, materialize_grads=True)):
        torch.testing.assert_close(mine, kit)                             # by the query's and by the anchor's logits
    print(f"{divergence:13s} {loss_kit:.4f} nats; lesson and kit agree in value and in both gradients.")

# %% [markdown]
# ## P3: a small consistency loss forces a small variance
#
# For the $n$ members of a cluster in the batch, with anchors drawn at random among the
# others,
#
# $$\mathbb{E}\left[\text{symmetric KL}\right]\;\ge\;\frac{2n}{n-1}\,\mathrm{Var}(q), \qquad \mathrm{Var}(q)=\frac1n\sum_i\lVert q_i-\bar q\rVert_2^2$$
#
# (Pinsker's inequality; notebook 08 proves it). *Example:* $q_1=(1,0)$ and $q_2=(0,1)$
# have the mean $(0.5, 0.5)$ and the variance 0.5, so the loss is at least 2. The default,
# `hardest`, is not covered. **Predict:** is the left side close to the right side?

# %%
chains = [theory.consistency_chain(logits[y == k].double()) for k in y.unique() if (y == k).sum() > 1]
losses, bounds = ([chain[name] for chain in chains] for name in ("loss", "sharp"))
factors = [left / max(right, 1e-12) for left, right in zip(losses, bounds)]
assert all(left >= right - 1e-12 for left, right in zip(losses, bounds))  # P3
stage.say("p3", f"P3 holds in all {len(chains)} clusters of the batch. The loss is {min(factors):.1f} to "
          f"{max(factors):.1f} times its bound.", losses=losses, bounds=bounds)

# %% [markdown]
# Agreement is not truth: two people in one cluster can agree in all their labels.
#
# ## P4: one target from three views
#
# With `kl` and $T=1$, the gradient of the whole loss by the query's logits is
#
# $$\frac{\partial L}{\partial l} = (1+\lambda_g+\lambda_s)\,(q-r_3), \qquad r_3=\frac{\mathbb{1}_y+\lambda_g\,e+\lambda_s\,a}{1+\lambda_g+\lambda_s}:$$
#
# one label, mixed from [hard label](course/glossary.md#hard-label), teacher and anchor.
# *Example* with three clusters, $y=0$ and both weights 0.5: $e=(0.6, 0.4, 0)$ and
# $a=(0.5, 0, 0.5)$ give $r_3=(1.55, 0.2, 0.25)/2=(0.775, 0.1, 0.125)$.
#
# The teacher $e$ is notebook 03's vote. (P4 does not cover the default, `symmetric_kl`.)

# %%
r3 = mixed_target(torch.tensor([0]), torch.tensor([[0.6, 0.4, 0]]), torch.tensor([[0.5, 0, 0.5]]), 0.5, 0.5)
torch.testing.assert_close(r3, torch.tensor([[0.775, 0.1, 0.125]]))       # the example
teacher = teacher_logits("vote", posterior=torch.from_numpy(rows_of(one.votes, batch, pseudo.labels)))
e, a = torch.softmax(teacher, dim=1), views["hardest"]
leaf = logits.double().requires_grad_()                                   # the logits l
loss = dkdmpl_loss(leaf, y, teacher_logits=teacher.double(), anchor_logits=anchor_logits.double(),
                   gkd_weight=lam_g, skd_weight=lam_s, temperature=1.0, divergence="kl")
(gradient,) = torch.autograd.grad(loss.total, leaf)
r3 = mixed_target(y, e.double(), a.double(), lam_g, lam_s)                # r3 = (1_y + lg e + ls a) / (1 + lg + ls)
by_hand = (1 + lam_g + lam_s) * (torch.softmax(leaf.detach(), dim=1) - r3) / len(y)
torch.testing.assert_close(gradient, by_hand, rtol=1e-5, atol=1e-8)
print(f"Largest difference between autograd and P4: {(gradient - by_hand).abs().max():.1e}")

# %% [markdown]
# Below, an arrow is minus the gradient, divided by $1+\lambda_g+\lambda_s$; the number is
# its length. **Predict:** where do the arrows end, by P4? Can $r_3$ give the hard label
# less than $1/(1+\lambda_g+\lambda_s)$?

# %%
case = theory.label_case(logits[b], one.hard, teacher[b], anchor_logits[b], gkd_weight=lam_g, skd_weight=lam_s,
                         divergence="kl")
own = {name: float(view[one.hard]) for name, view in case.views.items()}
stage.show(viz.loss_lab(case.hard, case.views, case.losses, case.total, case.gradient, picture=seen[b],
                        anchor_picture=seen[hardest[b]], title=f"Three views, one target: {own['r3']:.2f} of it on the label"),
           "04_three_views", f"On cluster {one.hard}, the label: e {own['e']:.2f}, q {own['q']:.2f}, a {own['a']:.2f}; "
           f"the target r3 puts {own['r3']:.2f} (never less than {1 / (1 + lam_g + lam_s):.2f}).")

# %% [markdown]
# (No: in the [mixed target](course/glossary.md#mixed-target) the hard label has weight 1.)
#
# ## Where does SKD pull?
#
# The hard label's gradient is $q-\mathbb{1}_y$; that of
# [SKD](course/glossary.md#self-knowledge-distillation) with `kl` is $q-a$. They can
# oppose each other (negative cosine) although the anchor is *surer* of the label:
# $q=(.5,.3,.1,.1)$, $a=(.51,.49,0,0)$ and $y=0$ have the cosine $-0.22$. So look at all
# the bars. **Predict:** for how many pictures of our batch do they oppose each other?

# %%
def cosine_with_hard(divergence):
    """(B,) cosine of SKD's gradient by the query's logits and the hard label's, q - 1_y."""
    leaf = logits.double().requires_grad_()
    (of_skd,) = torch.autograd.grad(skd_loss(leaf, anchor_logits.double(), divergence=divergence), leaf)
    return F.cosine_similarity(q.double() - F.one_hot(y, n_clusters), of_skd, dim=1)


surer = torch.tensor([[0.5, 0.3, 0.1, 0.1]]) - torch.eye(4)[:1], torch.tensor([[-0.01, -0.19, 0.1, 0.1]])
assert abs(F.cosine_similarity(*surer) + 0.22) < 0.01                     # q - 1_y and q - a of the example
pulls = {divergence: cosine_with_hard(divergence) for divergence in ("kl", "symmetric_kl")}
legend = "q − a (SKD with kl)"
stage.show(viz.gradient_bars(q[b], {legend: a[b]}, hard=one.hard, views={legend: "a"}, top=6,
                             title="The hard label and SKD on our picture"), "04_gradient",
           f"The cosine of the two gradients is {pulls['kl'][b]:+.2f}.")
opposed = {name: int((cosine < 0).sum()) for name, cosine in pulls.items()}
stage.say("opposed", f"SKD opposes the hard label for {opposed['kl']} of {len(y)} queries with kl, and for "
          f"{opposed['symmetric_kl']} with symmetric_kl.", cosines={d: cosine.tolist() for d, cosine in pulls.items()})

# %% [markdown]
# ## All three views on one bench
#
# In JupyterLab the picture of P4 has controls. Try:
#
# 1. Switch `divergence` from `kl` to the default, `symmetric_kl`. Do the arrows still end
#    at the purple bars? And with `js`, how much of the anchor's pull is left?
# 2. *By hand*: make the hard label and the anchor cancel on one cluster.

# %%
if interactive:
    from dkdmpl_kit.lessons.lab import LossLab

    display(LossLab(z @ memory.features.T, tau_t * teacher, tau * anchor_logits, y, pictures=seen,
                    anchor_pictures=seen[hardest], tau=tau, tau_t=tau_t, lambda_g=lam_g, lambda_s=lam_s, picture=b))

# %% [markdown]
# ## When the anchor is somebody else
#
# A cluster of two people offers wrong anchors. We count them in four new batches.
# **Predict:** is the *hardest* anchor wrong more often than a random one?

# %%
stage.require("truth")

# %%
hits = {"hardest": [], "random": []}
encoder.train()
for indices in lesson_batches(stage, pseudo.labels, draws, 4):
    with torch.no_grad():
        z_b = encoder(student_views(stage, indices, draws)).float()
    for name, found in hits.items():
        p = positive_anchors(z_b, labels[indices], strategy=name, generator=draws)
        found.append(stage.pids[indices] != stage.pids[indices[p]])
share = {name: float(np.concatenate(found).mean()) for name, found in hits.items()}
order = int(np.sign(share["hardest"] - share["random"]))
often = ("as often as", "more often than", "less often than")[order]       # order -1 is the last
told = {name: f"{100 * value:.1f} %" for name, value in share.items()}
stage.say("wrong_anchors", f"{told['hardest']} of the hardest anchors and {told['random']} of the random ones show "
          f"somebody else: here the hardest is wrong {often} the random one.", **share)

# %%
strange = torch.from_numpy(stage.pids[batch] != stage.pids[batch[hardest]])   # in our first batch
apart = {"wrong": gap["hardest"][strange], "right": gap["hardest"][~strange]}
means = {name: float(values.mean()) if len(values) else None for name, values in apart.items()}
known = [f"{values.mean():.2f} nats for the {len(values)} {name} ones" for name, values in apart.items() if len(values)]
stage.say("wrong_gap", f"Symmetric KL of query and hardest anchor in our batch: {' and '.join(known)}. (One batch.)",
          n_wrong=int(strange.sum()), n=len(batch), **means)

# %% [markdown]
# SKD pulls the labels of two people in one cluster together: the mistake grows. But an
# anchor that gives little to the shared cluster softens the target. Which effect is
# larger, only the [plateau](course/glossary.md#plateau) can show (notebook 05b).
#
# ## Take home
#
# 1. SKD asks a query and its positive anchor for the same soft label.
# 2. A small loss forces labels that agree within a cluster. Agreement is not truth.
# 3. With `kl` and $T=1$, DKD-MPL trains on one target, $r_3$.
# 4. An anchor may show somebody else; look at *all* bars of $q-a$ before you explain it.
# 5. Compare a distillation with a louder loss (`loss_scale`): no gain beyond it was
#    measured yet (`docs/results.md`).
#
# ## Exercises

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.checks import skd

check = skd.checks(z=z, y=y, logits=logits, anchor_logits=anchor_logits, hardest=hardest, row=b)

# %% [markdown]
# **1. The easiest anchor.** Choose for each query the *most* similar batch mate of its
# cluster (a query alone in its cluster keeps itself). Does it agree more with the query
# than the hardest?

# %% tags=["solution"]
# answer_1: the rows of the anchors in the batch, whole numbers (B,)
mates = (y[:, None] == y) & ~torch.eye(len(y), dtype=torch.bool)
mates |= torch.diag(~mates.any(dim=1))
answer_1 = (z @ z.T).masked_fill(~mates, -torch.inf).argmax(dim=1)
easy = q[answer_1]
print(f"Symmetric KL: easiest {(0.5 * (kl(easy, q) + kl(q, easy))).mean():.2f}, hardest {mean_gap['hardest']:.2f} nats")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2. Collapse.** Suppose we trained with SKD *alone*. Find logits of the batch for which
# the loss is zero although they are the same for every picture. Which part of the full
# loss forbids this?

# %% tags=["solution"]
# answer_2: logits, an array (B, K)
answer_2 = torch.zeros_like(logits)                                       # every label even: q = a = 1/K
print(f"SKD: {skd_loss(answer_2, answer_2):.3f} nats. Cluster contrast forbids it: its loss is then "
      f"log K = {np.log(n_clusters):.2f} nats, and its gradient q - 1_y is not 0.")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3. One absurd anchor.** Set row `b` of `anchor_logits` to 20 for the cluster after its
# own, `(y[b] + 1) % n_clusters`, and to -20 for all others. By how much does the loss of
# the batch rise under each divergence? Which one bounds the harm?

# %% tags=["solution"]
# answer_3: three numbers, loss with minus loss without the absurd anchor, for kl, symmetric_kl, js
absurd = anchor_logits.clone()
absurd[b] = -20.0
absurd[b, (int(y[b]) + 1) % n_clusters] = 20.0
answer_3 = [float(skd_loss(logits, absurd, divergence=d) - skd_loss(logits, anchor_logits, divergence=d))
            for d in ("kl", "symmetric_kl", "js")]
print(f"Rise: {[round(rise, 3) for rise in answer_3]} nats. With js one query adds at most log(2) / {len(y)} = {np.log(2) / len(y):.4f} nats. The others have no bound.")

# %% tags=["check"]
check(3, answer_3)

# %%
stage.write_metrics({"n_clusters": n_clusters, "L_CC": loss.cluster_contrast.item(), "L_GKD": loss.gkd.item(),
                     "L_SKD_kl": loss.skd.item(), "opposing_gradients": opposed["kl"] / len(y)}
                    | {f"symmetric_kl_{name}": value for name, value in mean_gap.items()}
                    | {f"wrong_anchors_{name}": value for name, value in share.items()})
print("Done. Next: 05_training.ipynb.")
