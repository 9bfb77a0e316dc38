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
# - What the teacher is: a *soft* label beside each hard one.
# - What the distillation loss does: it trains on a *mixed* label.
# - When a teacher brings labels nearer to the truth, and when it only repeats them.
#
# **Time** on 2 CPU cores: two minutes (`preset="smoke"`: one). **Reads** the data set
# and the run `warm-seed…` (made if missing). **Writes** to `out_dir`:
# `figures/03_*.png`, `metrics/03_gkd`.
#
# **Whose method is this?** Zhu, Peng and Yan (IEEE Trans. Multimedia, 2024). Only the
# abstract is available to us: the formulas are **this kit's reading**.

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
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.lessons.views import batch_with, follow, followed_sheet, more_teachers, student_views
from dkdmpl_kit.losses import cluster_contrast_loss, gkd_loss, mixed_target, teacher_logits, theory
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.noise import softmax_entropy
from dkdmpl_kit.training.seeds import generator_for

# %%
stage = Stage("03_gkd", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root, table=table,
              pattern=pattern, out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## Where we start
#
# We train an [encoder](course/glossary.md#encoder) for a few epochs with *cluster
# contrast*, the [baseline](course/glossary.md#baseline), and cluster its features:
# neither poor nor clean.

# %%
encoder, features, pseudo = stage.warm_start()
encoder = encoder.cpu()                         # the lesson's batches are small: the CPU will do
config, pixels = stage.config, stage.pictures("train").pixels
tau, tau_t = config.temperature, config.teacher_temperature
lam = config.gkd_weight or 0.5                  # lambda_g; this lesson takes 0.5 where the setting is 0
v = torch.from_numpy(features)                  # (N, d), rows of norm 1, eval mode
labels = torch.from_numpy(pseudo.labels)        # (N,), -1 for an outlier
index = (labels >= 0).nonzero()[:, 0]           # (n,), the clustered pictures
yc, row_of = labels[index], torch.arange(len(index))
print(f"{len(v)} pictures, {pseudo.n_clusters} clusters, {100 * pseudo.outlier_fraction:.0f} % outliers. "
      f"tau = {tau}, tau_t = {tau_t}, lambda_g = {lam}.")

# %% [markdown]
# ## One picture to follow
#
# Here and in 04, 07 and 08 we follow one picture, whose neighbours doubt its [hard
# label](course/glossary.md#hard-label). **Predict:** does it belong to the cluster of
# its label, or to the other one that is shown?

# %%
one = follow(stage, features, pseudo.labels)
i, hard, other, true, votes = one.index, one.hard, one.other, one.true, one.votes   # votes: (N, K), sparse
sheet, caption = followed_sheet(stage, one, pseudo.labels)
stage.show(sheet, "03_followed", caption)
stage.say("followed", one.sentence, hard=hard, other=other, true=true)

# %% [markdown]
# ## The epoch view: two teachers
#
# A [teacher](course/glossary.md#teacher) gives picture $i$ a
# [soft label](course/glossary.md#soft-label) $e_i$: a probability for each of $K$
# clusters. Two readings:
#
# **`sample`, the default**, compares the feature $v_i$ with the
# [centroids](course/glossary.md#centroid), the rows of $C$:
#
# $$C_k = \mathrm{normalise}\Big(\sum_{j:\,y_j=k} v_j\Big), \qquad e_i = \mathrm{softmax}(C\,v_i / \tau_t).$$
#
# **`vote`** asks the neighbours: $j$ gives $1 - d_{ij}$ to its own cluster, with the
# Jaccard distance $d_{ij}$ of notebook 02, and all votes are divided by their sum.
# *Example:* two neighbours of cluster 0 at distances 0.2 and 0.5, one of cluster 1 at
# 0.7. The votes are 1.3 and 0.3, so $e = (0.81, 0.19)$.
#
# **Predict:** which of the two doubts the label of our picture?

# %%
memory = ClusterMemory(v, labels, momentum=config.memory_momentum, update=config.memory_update)
C = memory.centroids                                                      # (K, d), frozen for the epoch
torch.testing.assert_close(C[0], F.normalize(v[labels == 0].sum(0), dim=0))  # C_k, by hand for k = 0
e_all = torch.softmax(v @ C.T / tau_t, dim=1)                             # (N, K), e_i = softmax(C v_i / tau_t)
teachers = {"sample": e_all[index], "vote": torch.from_numpy(rows_of(votes, index.numpy(), pseudo.labels))}

# %%
at = int((index == i).nonzero()[0, 0])                                    # our picture's row in a teacher's (n, K)
panels = {"hard label": np.eye(len(C))[hard]} | {f"e: {name} teacher": e[at] for name, e in teachers.items()}
colours = {name: viz.VIEW_COLOURS["e" if name[:2] == "e:" else "hard"] for name in panels}
caption = " ".join(f"The {name} teacher gives {e[at, hard]:.2f} to cluster {hard} and {e[at, other]:.2f} to {other}."
                   for name, e in teachers.items())
stage.show(viz.label_targets(panels, hard, truth=None if true < 0 else true, picture=pixels[i], colours=colours,
                             title="One picture, one hard label, two teachers"), "03_teachers", caption)

# %%
repeats = {name: int((e.argmax(dim=1) == yc).sum()) for name, e in teachers.items()}
more = {True: "sample", False: "vote"}[repeats["sample"] > repeats["vote"]]
stage.say("favourites", f"For all {len(yc)} clustered pictures: the sample teacher's favourite is the hard label for "
          f"{repeats['sample']}, the vote teacher's for {repeats['vote']}. "
          + ("Both repeat it equally often." if len(set(repeats.values())) == 1
             else f"The {more} teacher repeats it more often."), n=len(yc), **repeats)

# %% [markdown]
# ## The query view: the student
#
# In training the encoder sees the picture [augmented](course/glossary.md#augmentation),
# in train mode, which gives $z_i$. The [memory](course/glossary.md#memory) $M$ starts as
# $C$ and moves with every batch. The [student](course/glossary.md#student) is
# $q_i = \mathrm{softmax}(M\,z_i / \tau)$. We take a batch that holds our picture.
#
# **Predict:** which is surer of the label, $q$ or the vote teacher?

# %%
draws = generator_for(seed, 0, "lesson")
batch = batch_with(i, stage, pseudo.labels, draws)                        # (B,), drawn as in training
view = student_views(stage, batch, draws)                                 # (B, 3, H, W), augmented
encoder.train()
with torch.no_grad():
    z = encoder(view).float()                                             # (B, d)
y = labels[batch]
student = memory.logits(z, tau)                                           # l = M z / tau (M is still C)
teacher = teacher_logits("vote", posterior=torch.from_numpy(rows_of(votes, batch, pseudo.labels)))   # t
q, e = torch.softmax(student, dim=1), torch.softmax(teacher, dim=1)

# %%
b = int((torch.from_numpy(batch) == i).nonzero()[0, 0])                   # our picture's row in the batch
stage.show(viz.label_views(hard, e[b], q[b], None, picture=(255 * view[b]).to(torch.uint8),
                           title="What the vote teacher and the student say"), "03_views",
           f"On cluster {hard}, the label, the teacher puts {e[b, hard]:.2f} and the student {q[b, hard]:.2f}; "
           f"on cluster {other} they put {e[b, other]:.2f} and {q[b, other]:.2f}.")

# %% [markdown]
# ## The loss
#
# The student is trained towards the teacher. The
# [temperature](course/glossary.md#temperature) $T$ softens both,
# $e^{(T)} = \mathrm{softmax}(t/T)$ and $q^{(T)} = \mathrm{softmax}(l/T)$, for the
# teacher's logits $t$ and the student's $l$:
#
# $$L_{\mathrm{GKD}} = T^2\;\frac1B\sum_i \mathrm{KL}\!\left(e_i^{(T)} \,\Vert\, q_i^{(T)}\right), \qquad \mathrm{KL}(e\Vert q)=\sum_k e_k \log\frac{e_k}{q_k}.$$
#
# *Example:* $e=(0.8, 0.2)$ and $q=(0.5, 0.5)$ give
# $0.8\log 1.6 + 0.2\log 0.4 = 0.193$ nats. The teacher carries no gradient. (Why $T^2$?
# Notebook 08, P5.)


# %% tags=["code"]
def global_distillation(student_logits, teacher_logits, temperature=1.0):
    """The lesson: T^2 KL(e^(T) || q^(T)), mean over the batch; both logits are (B, K)."""
    e_T = torch.softmax(teacher_logits.detach() / temperature, dim=1)       # e^(T), no gradient
    log_q_T = torch.log_softmax(student_logits / temperature, dim=1)        # log q^(T)
    kl = (e_T * (torch.log(e_T.clamp_min(1e-30)) - log_q_T)).sum(dim=1)     # KL(e || q) of each picture
    return temperature**2 * kl.mean()                                       # T^2, mean over the batch


# %% [markdown]
# Is it equal to the kit's function, in value **and** in gradient?

# %%
assert abs(global_distillation(torch.zeros(1, 2), torch.tensor([[0.8, 0.2]]).log()) - 0.193) < 5e-4   # the example
for T in (1.0, 2.0, 5.0):
    mine, kits = (student.double().requires_grad_() for _ in range(2))
    loss_mine = global_distillation(mine, teacher.double(), T)
    loss_kit = gkd_loss(kits, teacher.double(), temperature=T)
    torch.testing.assert_close(loss_mine, loss_kit)
    torch.testing.assert_close(torch.autograd.grad(loss_mine, mine), torch.autograd.grad(loss_kit, kits))
    print(f"T = {T:g}: L_GKD = {loss_kit:.4f} nats; lesson and kit agree in value and gradient.")

# %% [markdown]
# ## P1: distillation is training on a mixed label
#
# The gradient of [cluster contrast](course/glossary.md#cluster-contrast),
# $L_{\mathrm{CC}} = -\log q_i[y_i]$, by the logits is $q - \mathbb{1}_y$
# ($\mathbb{1}_y$: 1 at $y$, 0 elsewhere); that of $\mathrm{KL}(e\Vert q)$ is $q - e$. So
# at $T=1$
#
# $$\frac{\partial}{\partial l}\left(L_{\mathrm{CC}} + \lambda_g L_{\mathrm{GKD}}\right) = (1+\lambda_g)\,(q - r), \qquad r = \frac{\mathbb{1}_y + \lambda_g\, e}{1+\lambda_g}:$$
#
# [GKD](course/glossary.md#global-knowledge-distillation) trains on the
# [mixed label](course/glossary.md#mixed-target) $r$. *Example:* $y=0$, $e=(0.2, 0.8)$,
# $\lambda_g=0.5$ give $r = (1.1, 0.4)/1.5 = (0.73, 0.27)$.

# %%
leaf = student.double().requires_grad_()                                  # the logits l
loss = cluster_contrast_loss(leaf, y) + lam * gkd_loss(leaf, teacher.double())
(gradient,) = torch.autograd.grad(loss, leaf)
r = mixed_target(y, e.double(), torch.zeros_like(leaf), lam, 0.0)         # r = (1_y + lambda_g e) / (1 + lambda_g)
by_hand = (1 + lam) * (torch.softmax(leaf.detach(), dim=1) - r) / len(y)  # (1 + lambda_g)(q - r); / B for the mean
torch.testing.assert_close(gradient, by_hand)
print(f"Largest difference between autograd and (1 + lambda_g)(q - r): {(gradient - by_hand).abs().max():.1e}")

# %% [markdown]
# **Predict:** a negative gradient *raises* a logit. What does each label do with the
# second cluster?

# %%
r_sample = mixed_target(y, e_all[batch].double(), torch.zeros_like(r), lam, 0.0)
pulls = {"q − r, sample teacher": r_sample[b], "q − r, vote teacher": r[b]}
second = {"hard": float(q[b, other]), "sample": float(q[b, other] - r_sample[b, other]),
          "vote": float(q[b, other] - r[b, other])}
stage.show(viz.gradient_bars(q[b], pulls, hard=hard, views={"q − r, sample teacher": viz.PALETTE["light"]}, top=6,
                             title="Where the three labels pull our picture"), "03_gradient")
does = {name: "raises" if value < 0 else "lowers" for name, value in second.items()}
stage.say("second_cluster", f"The hard label {does['hard']} the logit of cluster {other} ({second['hard']:+.2f}); "
          f"mixed with the sample teacher it {does['sample']} it ({second['sample']:+.2f}), "
          f"with the vote teacher it {does['vote']} it ({second['vote']:+.2f}).", **second)

# %% [markdown]
# The hard label pushes *every* other cluster away, also one of the same person. The
# mixed label can repair this, or keep two people with the same jacket together.
#
# ## How soft should the sample teacher be?
#
# The [entropy](course/glossary.md#entropy) of $e$ is 0 nats for a one-hot label and
# $\log K$ for an even one. **Predict:** if $\tau_t$ grows, can the favourite change?

# %%
taus, similarities = np.geomspace(0.01, 1.0, 25), (v[index] @ C.T).numpy()   # (n, K): C v
marks = {"tau_t": tau_t, "five times": 5 * tau_t}
ours = {t: torch.softmax(torch.from_numpy(similarities[at]) / t, dim=0).numpy() for t in marks.values()}
softness = [100 * float(np.median(softmax_entropy(similarities, [t]))) / np.log(len(C)) for t in ours]
stage.show(viz.temperature_curves(taus, softmax_entropy(similarities, taus), ours, marks=marks), "03_temperature",
           f"The median entropy is {softness[0]:.0f} % of the largest possible at tau_t = {tau_t:g} "
           f"and {softness[1]:.0f} % at {5 * tau_t:g}. Right: our picture.")

# %% [markdown]
# (No: the order stays.) Too soft, a target only weakens the hard label; too sharp, it
# repeats it.
#
# ## What does each teacher add?
#
# There are three more. `cluster`: one soft label for all members of a cluster.
# `consensus`: that of an earlier clustering, here the untrained encoder's, carried over
# ([RLCC](course/glossary.md#clustering-consensus)). `neighbourhood`: votes with the
# weights $V_{ij}$ of notebook 02.
#
# The last column compares the gradients of $L_{\mathrm{GKD}}$ and $L_{\mathrm{CC}}$: at
# 1 they point the same way. **Predict:** which is nearest to 1?

# %%
teachers |= more_teachers(stage, features, pseudo, tau_t)
in_index = torch.searchsorted(index, torch.from_numpy(batch))             # the batch among the clustered pictures
by_label = ((q - F.one_hot(y, len(C))) @ C).flatten()                     # gradient of L_CC by z, times tau
cosines = {name: float(F.cosine_similarity(by_label, ((q - e_of[in_index]) @ C).flatten(), dim=0))
           for name, e_of in teachers.items()}
rows = [f"| {name} | {torch.special.entr(e_of).sum(1).mean():.2f} | {e_of[row_of, yc].mean():.2f} | "
        f"{cosines[name]:.3f} |" for name, e_of in teachers.items()]
head = "| teacher | entropy (nats) | probability of the hard label | cosine |\n" + "|---" * 4 + "|\n"
display(Markdown(head + "\n".join(rows)))
near, far = max(cosines, key=cosines.get), min(cosines, key=cosines.get)
stage.say("cosines", f"Nearest to cluster contrast is the {near} teacher (cosine {cosines[near]:.3f}), "
          f"furthest the {far} teacher ({cosines[far]:.3f}).", **cosines)

# %% [markdown]
# Near 1, GKD mostly makes the loss [louder](course/glossary.md#louder-loss). That alone
# changes a run, as the weight decay counts for less. So the control is cluster contrast
# with `loss_scale` $= 1+\lambda_g$. **No measurement of this kit has yet shown a gain
# of a distillation beyond that of a louder loss** (`docs/results.md`).
#
# ## Turn the knobs yourself
#
# Bars: $e$ (vote), $q$ and $r$. An arrow is minus the gradient, divided by
# $1+\lambda_g$; the number is its length. **Predict:** where do the arrows end, by P1?

# %%
case = theory.label_case(student[b], hard, teacher[b], gkd_weight=lam)
stage.show(viz.loss_lab(case.hard, case.views, case.losses, case.total, case.gradient, picture=pixels[i]),
           "03_losslab", case.verdict)

# %% [markdown]
# In JupyterLab (`tau_t` starts with the votes as they are) turn `T` away from 1: do the
# arrows still reach the purple bars? Move `picture` to an
# [outlier](course/glossary.md#outlier) (*out*): what is missing?

# %%
bench = np.concatenate([[i], batch[batch != i], (labels < 0).nonzero()[:3, 0].numpy()])   # outliers last
with torch.no_grad():
    likeness = encoder(student_views(stage, bench, draws)).float() @ memory.features.T    # M z: logits times tau
knows = tau_t * teacher_logits("vote", posterior=torch.from_numpy(rows_of(votes, bench, pseudo.labels)))
if interactive:
    from dkdmpl_kit.lessons.lab import LossLab

    display(LossLab(likeness, knows, None, labels[bench], pictures=pixels[bench], tau=tau, tau_t=tau_t, lambda_g=lam))

# %% [markdown]
# ## Does the teacher know better? P2, the break-even
#
# With identities we can measure it. The true cluster $y^*$ of an identity is, of the
# clusters in which it is the most frequent one, the one with most of its pictures (some
# identities have none). The [supervision
# deviation](course/glossary.md#supervision-deviation) of a label $\rho$ is $D(\rho) =
# \lVert \rho - \mathbb{1}_{y^*}\rVert_1 = 2\,(1-\rho[y^*])$. With $\eta$ the share of
# wrong labels, and $e_c$, $e_w$ the mean of $e[y^*]$ on correct and wrong ones:
#
# $$\mathbb{E}\,D(r) = 2\eta + \frac{2\lambda_g}{1+\lambda_g}\Big[\underbrace{(1-\eta)(1-e_c)}_{\text{spoilt}} - \underbrace{\eta\,e_w}_{\text{repaired}}\Big].$$
#
# The [break-even](course/glossary.md#break-even): $r$ is nearer to the truth than the
# hard label exactly when more is repaired than spoilt. *Example:* $\eta=0.3$, $e_c=0.9$,
# $e_w=0.2$: 0.06 repaired, 0.07 spoilt.
#
# **Predict:** can a teacher with $e_w = 0$ bring labels nearer to the truth?

# %%
stage.require("truth")

# %%
judged = torch.from_numpy(one.star)[index] >= 0
y_star, y_hard = torch.from_numpy(one.star)[index][judged], yc[judged]
wrong, sides, margins = y_star != y_hard, {}, {}
for name, e_of in teachers.items():
    eta, e_c, e_w = theory.teacher_quality(e_of[judged], y_hard, y_star)
    none = torch.zeros(len(y_star), len(C), dtype=torch.double)           # no anchor
    target = mixed_target(y_hard, e_of[judged].double(), none, lam, 0.0)
    measured = float(theory.deviation(target, y_star).mean())             # E D(r), by its definition
    np.testing.assert_allclose(measured, theory.expected_deviation(eta, e_c, e_w, lam), atol=1e-5)   # P2
    sides[name], margins[name] = (eta * e_w, (1 - eta) * (1 - e_c)), theory.break_even(eta, e_c, e_w)

# %%
stands = {name: "at" if abs(margin) < 5e-4 else "above" if margin > 0 else "below" for name, margin in margins.items()}
above = [name for name, place in stands.items() if place == "above"]
stage.show(viz.repaired_and_spoilt(sides), "03_break_even",
           f"The green bar is the longer one for {', '.join(above) or 'no teacher'}.")
knowing = {name: int((e_of[judged][wrong, y_star[wrong]] >= 0.1).sum()) for name, e_of in teachers.items()}
stage.say("break_even", f"{int(wrong.sum())} of {len(wrong)} labels are wrong. The sample teacher stands "
          f"{stands['sample']} the break-even ({margins['sample']:+.3f}), the vote teacher {stands['vote']} it "
          f"({margins['vote']:+.3f}).", **margins)
stage.say("wrong_labels", "At least 0.1 lies on the true cluster for "
          + ", ".join(f"{n} ({name})" for name, n in knowing.items()) + f" of the {int(wrong.sum())} wrong labels.",
          wrong=int(wrong.sum()), **knowing)

# %% [markdown]
# (No: nothing is repaired.) This compares *targets* at one moment. Whether training
# gains, only runs to the [plateau](course/glossary.md#plateau) say, with several seeds
# and the louder control.
#
# ## Take home
#
# 1. A teacher gives each picture a soft label; at $T=1$, GKD trains on the mixed label.
# 2. The mixed label never gives the hard label less than $1/(1+\lambda_g)$.
# 3. A temperature changes how sharp a teacher is, and never its order of clusters.
# 4. A teacher that repeats the label makes the loss louder: compare with `loss_scale`.
# 5. P2 is about *targets*; whether *training* gains is another question.
#
# ## Exercises

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.checks import gkd

check = gkd.checks(student=student, teacher=teacher, v=v, labels=labels, C=C, tau=tau, tau_t=tau_t)

# %% [markdown]
# **1. The other direction.** Compute, without autograd, the gradient of the batch mean
# of $\mathrm{KL}(q\Vert e)$ by the logits, for `student` and `teacher`. With
# $g_k = \log q_k - \log e_k$ it is $q_k\,(g_k - \sum_j q_j g_j)$ for one picture. Which
# direction pulls harder where $q_k \approx 0$?

# %% tags=["solution"]
# answer_1: the gradient, an array of the shape of `student`, (B, K)
log_qd, log_ed = torch.log_softmax(student.double(), dim=1), torch.log_softmax(teacher.double(), dim=1)
qd, gap = log_qd.exp(), log_qd - log_ed
answer_1 = qd * (gap - (qd * gap).sum(dim=1, keepdim=True)) / len(y)
# Where q is nearly 0, the gradient q - e of KL(e || q) is about -e; that of KL(q || e) has the factor q.
lost, forward = (qd < 0.01) & (log_ed.exp() > 0.05), (qd - log_ed.exp()) / len(y)
if lost.any():
    pull, reverse = (float(g[lost].abs().mean()) for g in (forward, answer_1))
    print(f"Mean pull where q < 0.01 but e > 0.05: KL(e||q) {pull:.1e}, KL(q||e) {reverse:.1e}.")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2. An unbiased teacher.** Each picture helped to build its own centroid. Take each
# clustered picture out of its own centroid (which gets length 1 again; the others stay)
# and compute the sample teacher again. How often does its favourite change? (`index` (n,)
# holds the clustered pictures, `yc` (n,) their labels.)

# %% tags=["solution"]
# answer_2: the soft labels without oneself, (n, K), rows that sum to 1
sums = torch.zeros_like(C).index_add_(0, yc, v[index])
loo = v[index] @ C.T
loo[row_of, yc] = (v[index] * F.normalize(sums[yc] - v[index], dim=1)).sum(dim=1)   # own centroid without the picture
answer_2 = torch.softmax(loo / tau_t, dim=1)
print(f"The favourite changes for {int((answer_2.argmax(1) != e_all[index].argmax(1)).sum())} of {len(yc)} pictures.")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3. What about the outliers?** The sample teacher has a soft label for them too:
# `e_all` (N, K). How large is its largest probability, on average over the outliers?
# And how often is that the outlier's true cluster (`one.star`)?

# %% tags=["solution"]
# answer_3: one number from 0 to 1
out = (labels < 0).nonzero()[:, 0]
answer_3 = float(e_all[out].max(dim=1).values.mean()) if len(out) else None
known = out[torch.from_numpy(one.star)[out] >= 0]
hits = int((e_all[known].argmax(dim=1) == torch.from_numpy(one.star)[known]).sum())
print(f"Largest probability: {answer_3 and round(answer_3, 3)} on average; the true cluster for {hits} of {len(known)} outliers that have one.")

# %% tags=["check"]
check(3, answer_3)

# %%
own = float(e_all[index][row_of, yc].mean())
stage.write_metrics({"n_clusters": pseudo.n_clusters, "outlier_fraction": pseudo.outlier_fraction,
                     "wrong_label_share": eta, "L_GKD": float(gkd_loss(student, teacher)),
                     "teacher_mass_on_hard_label": own, "teacher_favourite_is_hard_label": repeats["sample"] / len(yc)}
                    | {f"break_even_{name}": margin for name, margin in margins.items()})
print("Done. Next: 04_skd.ipynb.")
