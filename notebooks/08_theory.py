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
# # 08 · Theory: five propositions about the loss, derived and put to the test
#
# **What you will learn**
#
# - To derive, line by line, what the loss of DKD-MPL trains on: *one* label, mixed from
#   three views (P1, P4), and when that label is nearer to the truth (P2).
# - What a small consistency loss guarantees (P3) and what the factor $T^2$ is for (P5),
#   with bounds, and how **loose** these bounds are.
# - To check: every formula is tested to $10^{-6}$ on random and on real logits, then
#   changed on purpose, so that you see the check fail. And you will learn what the
#   propositions do *not* say.
#
# **Time** on 2 CPU cores: under a minute with `preset="smoke"`, about two with `"demo"`
# (most of it a short training run, unless notebook 03 or 04 has made it already).
# Reading: about 45 minutes.
#
# **Reads and writes** in `out_dir`: reads the data set and the run `warm-seed…` (both
# made if missing); writes `figures/08_*.png` and `metrics/08_theory/metrics.json`.
#
# **Whose theory is this?** Zhu, Peng and Yan (IEEE Trans. Multimedia, 2024) announce a
# theoretical analysis of their loss. Only the abstract is available to us, so we do not
# know it. The propositions P1 to P5, their assumptions and their proofs below are
# **this kit's own derivations**, about this kit's reading of the method. Nothing here
# should be quoted as the paper's.

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
from dkdmpl_kit.losses import dkdmpl_loss, gkd_loss, mixed_target, positive_anchors, skd_loss, teacher_logits, theory
from dkdmpl_kit.losses.rulers import rulers
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.noise import true_clusters
from dkdmpl_kit.training.seeds import generator_for

stage = Stage("08_theory", preset_name=preset, seed=seed, device=device, data=data, data_root=data_root, table=table, pattern=pattern,
              out_dir=out_dir, settings=settings)
print(stage.dataset.summary())

# %% [markdown]
# ## What we test on
#
# **Real logits.** As in notebooks 03 and 04: an encoder after a few epochs of cluster
# contrast, one clustering of its features, and batches drawn as in training. The
# student sees augmented pictures in train mode, the teacher the plain ones.
#
# From here on we compute in 64-bit numbers, so a difference of $10^{-6}$ means a wrong
# formula, not rounding.

# %%
encoder, features, pseudo = stage.warm_start()
encoder = encoder.cpu()
v, labels = torch.from_numpy(features).double(), torch.from_numpy(pseudo.labels)
config, store = stage.config, stage.pictures("train")
tau, tau_t = config.temperature, config.teacher_temperature
lam_g, lam_s = config.gkd_weight or 0.5, config.skd_weight or 0.5         # lambda_g, lambda_s
memory = ClusterMemory(v, labels)
draws = generator_for(seed, 0, "theory")
sampler = config.sampler if stage.has_cameras else "random"
batches = list(pk_batches(pseudo.labels, stage.camids, clusters_per_batch=config.batch_clusters,
                          images_per_cluster=config.batch_images, iterations=6, sampler=sampler, generator=draws))
encoder.train()
with torch.no_grad():
    zs = [F.normalize(encoder(augment(store.batch(b), draws, flip=config.flip, padding=config.padding,
                                      erasing=config.erasing)).double(), dim=1) for b in batches]
z, y = zs[0], labels[batches[0]]
p = positive_anchors(z, y, strategy="hardest")                            # p(i)
real = {"l": memory.logits(z, tau),                                       # l = M z / tau         the student's logits
        "t": teacher_logits("sample", centroids=memory.centroids, features=v[batches[0]], temperature=tau_t),                 # t = C v / tau_t       the teacher's
        "s": memory.logits(z[p], tau), "y": y}                            # s = M z_p / tau       the anchor's

# %% [markdown]
# **Random logits.** Real ones may be special, so every formula must also hold for
# random numbers.

# %%
dice = torch.Generator().manual_seed(seed)
n_random, K_random = 64, 12
random = {name: 3 * torch.randn(n_random, K_random, generator=dice, dtype=torch.float64) for name in ("l", "t", "s")}
random["y"] = torch.randint(K_random, (n_random,), generator=dice)
cases = {"random": random, "real": real}
for name, case in cases.items():
    spread = (case["l"].amax(1) - case["l"].amin(1)).mean()
    print(f"{name:6s} {len(case['y'])} rows, {case['l'].shape[1]} clusters; largest less least logit: {spread:.1f} on average.")


def gradient_of(loss, logits):
    """What autograd says: d loss(logits) / d logits."""
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def loss_of(case, gkd_weight, skd_weight=0.0, divergence="kl"):
    """The kit's own loss of a case (y, t and s held still), as a function of the student's logits."""
    return lambda x: dkdmpl_loss(x, case["y"], teacher_logits=case["t"], anchor_logits=case["s"], gkd_weight=gkd_weight,
                                 skd_weight=skd_weight, divergence=divergence).total


def worst(a, b):
    """The largest difference of two tensors; a check passes below 1e-6."""
    difference = float((torch.as_tensor(a, dtype=torch.float64) - torch.as_tensor(b, dtype=torch.float64)).abs().max())
    assert difference < 1e-6, f"the formula is off by {difference:.2e}"
    return difference


# %% [markdown]
# ## Two tools for everything
#
# **Tool 1: the gradient of a cross entropy.** Let $q=\mathrm{softmax}(l)$, and let $t$
# be any label: numbers that sum to 1, and that do not depend on $l$. The cross entropy
# is $H(t,q)=-\sum_k t_k\log q_k$. Insert $\log q_k = l_k-\log\sum_j e^{l_j}$ and use
# $\sum_k t_k=1$:
#
# $$H(t,q) = -\sum_k t_k\, l_k + \log\sum_j e^{l_j} \qquad\Longrightarrow\qquad \frac{\partial H}{\partial l_m} = -t_m + \frac{e^{l_m}}{\sum_j e^{l_j}} = q_m - t_m .$$
#
# **Tool 2: KL is a cross entropy with a constant.**
# $\mathrm{KL}(t\Vert q)=\sum_k t_k\log\frac{t_k}{q_k} = H(t,q) - H(t)$, and the entropy
# $H(t)=-\sum_k t_k\log t_k$ does not depend on $l$. So the gradient of
# $\mathrm{KL}(t\Vert q)$ by $l$ is $q-t$, too.
#
# (Mind the letter: here and in the $D(t)$ of P2, $t$ is any label. In the code and in
# P5 it stands for the teacher's *logits*, as in notebook 03.)
#
# Logarithms are natural throughout, so losses are in nats. The kit's losses are means
# over a batch of $B$ rows; each row's gradient then carries a factor $1/B$.

# %% [markdown]
# ## P1: distillation is training on a mixed label
#
# **Proposition.** With $r = \dfrac{\mathbb{1}_y+\lambda_g e}{1+\lambda_g}$,
#
# $$\frac{\partial}{\partial l}\left(L_{\mathrm{CC}}+\lambda_g L_{\mathrm{GKD}}\right) = (1+\lambda_g)\,(q-r).$$
#
# **Assumptions.** (a) The distillation temperature is $T=1$. (b) $e$ is held still: no
# gradient flows into the teacher. The teacher's own temperature $\tau_t$ may differ
# from $\tau$.
#
# **Proof.** $L_{\mathrm{CC}}=-\log q[y]=H(\mathbb{1}_y,q)$, so tool 1 gives the
# gradient $q-\mathbb{1}_y$. By (a) $L_{\mathrm{GKD}}=\mathrm{KL}(e\Vert q)$, and by (b)
# tool 2 gives $q-e$. The weighted sum is $(1+\lambda_g)\,q-(\mathbb{1}_y+\lambda_g e)$.
# Take out the factor $1+\lambda_g$. ∎
#
# **The value.** $H(t,q)$ is linear in $t$. So the losses themselves are equal, up to a
# constant:
#
# $$L_{\mathrm{CC}}+\lambda_g L_{\mathrm{GKD}} = (1+\lambda_g)\,H(r,q) - \lambda_g H(e).$$
#
# $H(r,q)$ is smallest at $q=r$. So with GKD the student has a minimum *inside* the
# space of labels. The hard label alone has none: $-\log q[y]$ keeps falling as
# $q[y]\to1$, and the logits grow without end.
#
# **Predict:** the gradient is $(1+\lambda_g)$ times that of plain training on $r$.
# Which setting of the optimiser would have the same effect?

# %%
for name, case in cases.items():
    logits, t, y, B = case["l"], case["t"], case["y"], len(case["y"])
    q, e, none = logits.softmax(1), t.softmax(1), torch.zeros_like(logits)
    loss = loss_of(case, lam_g)                                           # L_CC + lambda_g L_GKD
    r = (F.one_hot(y, q.shape[1]) + lam_g * e) / (1 + lam_g)              # r = (1_y + lambda_g e) / (1 + lambda_g)
    by_hand = (1 + lam_g) * (q - r)                                       # (1 + lambda_g)(q - r)
    worst(by_hand, theory.mixed_gradient(logits, y, e, none, lam_g, 0.0))  # lesson and kit agree
    gap = worst(by_hand / B, gradient_of(loss, logits))                   # P1, against autograd
    value = worst(theory.mixed_loss(logits, y, e, none, lam_g, 0.0).mean(), loss(logits))
    print(f"{name:6s} P1 holds: gradient to {gap:.0e}, value to {value:.0e}.")

# %% [markdown]
# With three clusters every label is a point of a triangle; a corner is a certain label.
# We start at one $q$ and follow the gradient, once with cluster contrast alone and once
# with GKD.
#
# **Predict:** where does each path end?

# %%
def way(loss, start, steps=600, rate=0.5):
    """Gradient descent on one row of logits (1, 3); returns q after every step, (steps + 1, 3)."""
    logits, seen = start.clone(), [start.softmax(1)]
    for _ in range(steps):
        logits = logits - rate * gradient_of(loss, logits)
        seen.append(logits.softmax(1))
    return torch.cat(seen)


start, hard = torch.tensor([[-1.5, 0.2, 1.2]], dtype=torch.float64), torch.tensor([0])
teacher3 = torch.tensor([[0.30, 0.62, 0.08]], dtype=torch.float64)        # e: rather cluster 1
toy = 0.5                                                                 # lambda_g (and lambda_s) of these pictures
r = mixed_target(hard, teacher3, teacher3, toy, 0.0)
corner = {"hard": [1, 0, 0]}
case3 = {"y": hard, "t": teacher3.log(), "s": None}
plain, mixed = way(loss_of(case3, 0.0), start), way(loss_of(case3, toy), start)
fig = viz.label_triangle({"cluster contrast": (corner, plain),
                          "with GKD": (corner | {"e": teacher3[0], "r: mixed label": r[0]}, mixed)},
                         title="P1: the hard label pulls into its corner, the mixed label has a place to stop")
stage.save_figure(fig, "08_p1")
fig

# %%
print(f"With GKD the way ends at r, to {worst(mixed[-1], r[0]):.0e}. "
      f"Cluster contrast alone stands at q[y] = {plain[-1, 0]:.4f} after {len(plain) - 1} steps, and would go on.")

# %% [markdown]
# The mixed label lies on the straight line between the corner and the teacher. The
# larger $\lambda_g$, the nearer to the teacher. (The prediction about the optimiser:
# the learning rate. For plain gradient descent the factor makes longer steps. Adam
# divides it out, except against its weight decay. So to compare GKD with training on
# $r$, scale the loss, too.)
#
# ## P2: when is the mixed label nearer to the truth?
#
# **Set-up.** Take the pictures that are clustered *and* whose identity owns a cluster.
# Write $y^*$ for that cluster: of the clusters in which the identity is the majority,
# the one with most of its pictures. Draw one of these pictures at random. Let
#
# - $D(t)=\lVert t-\mathbb{1}_{y^*}\rVert_1$ be the deviation of a label $t$ from the
#   truth,
# - $\eta$ the share of wrong labels, $y\neq y^*$,
# - $e_c$, $e_w$ the mean of $e[y^*]$ where the label is correct and where it is wrong.
#
# **Proposition.** With the $r$ of P1,
#
# $$\mathbb{E}\,D(\mathbb{1}_y)=2\eta,\qquad \mathbb{E}\,D(r)=2\eta+\frac{2\lambda_g}{1+\lambda_g}\Big[(1-\eta)(1-e_c)-\eta\,e_w\Big].$$
#
# So for every $\lambda_g>0$ the mixed label is nearer to the truth, on average, exactly
# when $\eta\,e_w>(1-\eta)(1-e_c)$.
#
# **Assumptions.** (a) $y^*$ exists: pictures of identities without a cluster, and
# outliers, are left out. (b) $e$ is a label over the same clusters as $y$. Teacher and
# labels need not be independent, since $e_c$ and $e_w$ are *conditional* means. (If no
# label is wrong, $e_w$ is not defined, and not needed: its weight is $\eta=0$.)
#
# **Proof.**
#
# 1. A label sums to 1. Away from $y^*$ its entries sum to $1-t[y^*]$; at $y^*$ it
#    misses $1-t[y^*]$. So $D(t)=2\,(1-t[y^*])$. For the hard label this is 0 or 2,
#    hence $\mathbb{E}\,D(\mathbb{1}_y)=2\eta$.
# 2. Where $y=y^*$: $r[y^*]=\frac{1+\lambda_g e[y^*]}{1+\lambda_g}$, so
#    $D(r)=\frac{2\lambda_g}{1+\lambda_g}(1-e[y^*])$. *Spoilt:* it was 0 before.
# 3. Where $y\neq y^*$: $r[y^*]=\frac{\lambda_g e[y^*]}{1+\lambda_g}$, so
#    $D(r)=2-\frac{2\lambda_g}{1+\lambda_g}e[y^*]$. *Repaired:* it was 2 before.
# 4. Average: step 2 has weight $1-\eta$ and mean $e_c$, step 3 has weight $\eta$ and
#    mean $e_w$. ∎
#
# **The same in one line.** As $\mathbb{E}\,e[y^*]=(1-\eta)e_c+\eta e_w$, the condition
# says $\mathbb{E}\,e[y^*]>1-\eta$: *the teacher's mean probability of the truth must
# exceed the accuracy of the hard label.*
#
# **Predict:** the condition does not contain $\lambda_g$. Which $\lambda_g$ is the best
# one above the line? And below?

# %%
def check_p2(labels, truth, e):
    """P2 at one teacher: the formula against the definition; returns (eta, e_c, e_w) and the largest difference."""
    quality = theory.teacher_quality(e, labels, truth)                    # eta, e_c, e_w
    gaps = []
    for weight in (0.0, 0.1, lam_g, 10.0):
        r = mixed_target(labels, e, torch.zeros_like(e), weight, 0.0)
        measured = (r - F.one_hot(truth, e.shape[1])).abs().sum(1).mean()  # E D(r) = E |r - 1_{y*}|_1
        eta, e_c, e_w = quality
        formula = 2 * eta + 2 * weight / (1 + weight) * ((1 - eta) * (1 - e_c) - eta * e_w)
        assert abs(formula - theory.expected_deviation(*quality, weight)) < 1e-12
        gaps.append(worst(measured, formula))
    mass = e.gather(1, truth[:, None]).mean() - (labels == truth).double().mean()  # the same in one line
    gaps.append(worst(mass, theory.break_even(*quality)))
    return quality, max(gaps)


truth_random = torch.randint(K_random, (800,), generator=dice)            # an invented world: 30 % of the labels flipped
flipped = torch.rand(800, generator=dice) < 0.3
labels_random = torch.where(flipped, (truth_random + torch.randint(1, K_random, (800,), generator=dice)) % K_random,
                            truth_random)
t_random = torch.randn(800, K_random, generator=dice, dtype=torch.float64)
t_random += 3 * F.one_hot(truth_random, K_random) + 2 * F.one_hot(labels_random, K_random)  # knows something of both
quality, gap = check_p2(labels_random, truth_random, t_random.softmax(1))
print(f"random: P2 holds to {gap:.0e} at four weights. eta = {quality[0]:.2f}, e_c = {quality[1]:.2f}, e_w = {quality[2]:.2f}; "
      f"break-even {theory.break_even(*quality):+.3f}.")

# %%
y_star = None
if stage.has_truth:
    y_star = true_clusters(pseudo.labels, stage.pids)
    index = np.flatnonzero((pseudo.labels >= 0) & (y_star >= 0))          # assumption (a): y* exists
    y_star = torch.from_numpy(y_star[index])
    t_star, y_judged = teacher_logits("sample", centroids=memory.centroids, features=v[index], temperature=tau_t), labels[index]
    quality, gap = check_p2(y_judged, y_star, t_star.softmax(1))
    print(f"real: P2 holds to {gap:.0e} on {len(index)} pictures; {len(stage.pids) - len(index)} of {len(stage.pids)} are "
          f"left out (outliers, or of an identity that owns no cluster).")
    print(f"eta = {quality[0]:.2f}, e_c = {quality[1]:.2f}, e_w = {quality[2]:.2f}; "
          f"break-even {theory.break_even(*quality):+.3f}.")
else:
    print("True identities are not known for these pictures: P2 can be checked on the invented world only.")

# %% [markdown]
# (The first prediction: $\mathbb{E}\,D(r)$ moves in one direction as $\lambda_g$ grows.
# Above the line the best weight is $\infty$, below it is 0: this distance never prefers
# a mixture.)
#
# Every teacher is a point of the plane $(e_c,e_w)$. The hard label itself is the point
# $(1,0)$, exactly *on* the line: no gain. The line turns around that point: the more
# labels are wrong, the flatter it is, and the more teachers lie above it.
#
# **Predict:** make the teacher softer ($\tau_t$ larger). Which way does its point move,
# and where does it end?

# %%
figures, factors = ["08_p1", "08_p2_random"], np.array([0.1, 0.25, 0.5, 1, 2, 4, 10])


def teacher_path(t, labels, truth):
    """(eta, e_c (n,), e_w (n,)) of one teacher at `factors` times its temperature."""
    found = np.array([theory.teacher_quality((t / f).softmax(1), labels, truth) for f in factors])
    return found[0, 0], found[:, 1], found[:, 2]


worlds = {"random": (t_random, labels_random, truth_random)}
if y_star is not None:
    worlds["real"] = (t_star, y_judged, y_star)
    figures.append("08_p2_real")
for name, world in worlds.items():
    eta, e_c, e_w = teacher_path(*world)
    even = 1 / world[0].shape[1]
    marks = {"τ_t as set": (e_c[3], e_w[3]), "the hard label itself": (1, 0), "an even label": (even, even)}
    fig = viz.break_even_map(eta, {"τ_t times 0.1 to 10": (e_c, e_w)}, marks=marks,
                             title=f"P2, {name}: where this teacher stands, from sharp to soft")
    stage.save_figure(fig, f"08_p2_{name}")
    display(fig)
    helps = [f for f, c, w in zip(factors, e_c, e_w) if theory.break_even(eta, c, w) > 1e-9]
    print(f"{name}: above the line at {len(helps)} of {len(factors)} temperatures"
          + (f" (τ_t times {', '.join(f'{f:g}' for f in helps)})." if helps else "."))

# %% [markdown]
# A very sharp teacher names its favourite only: then $e_c$ and $e_w$ are simply how
# often the favourite is the true cluster. A very soft one approaches the even label,
# whatever the picture. In between, does $e_c$ fall (it spoils right labels), and does
# $e_w$ rise (it repairs wrong ones)? Where most labels are right, the line is steep:
# $e_w$ must rise much for a small fall of $e_c$.
#
# **A calibrated teacher is always below the line.** Suppose the teacher is
# *calibrated*: where it says 70 %, it is right in 70 % of the cases, so that
# $P(y^*=k\mid e)=e_k$. Suppose also that its favourite is the hard label. Then, on
# average over such pictures,
#
# $$\mathbb{E}\,e[y^*]=\sum_k e_k^2\;\le\;\max_k e_k = \text{accuracy of the hard label}.$$
#
# So it can never pass the break-even. The reason is the distance: $\ell_1$ is smaller
# for overconfident labels than for calibrated ones. With a squared distance the order
# is the opposite. We simulate a calibrated teacher and measure it with both.

# %%
honest = (1.5 * torch.randn(20_000, 6, generator=dice, dtype=torch.float64)).softmax(1)
truth = torch.multinomial(honest, 1, generator=dice)[:, 0]                # P(y* = k | e) = e_k: calibrated by construction
favourite = honest.argmax(1)
goal, hard_label = (F.one_hot(x, 6).double() for x in (truth, favourite))
for ruler, power in (("absolute", 1), ("squared", 2)):
    of_hard, of_honest = ((x - goal).abs().pow(power).sum(1).mean() for x in (hard_label, honest))
    print(f"{ruler:8s} distance from the truth: hard label {of_hard:.3f}, calibrated teacher {of_honest:.3f} "
          f"-> {'the teacher' if of_honest < of_hard else 'the hard label'} is nearer.")

# %% [markdown]
# So P2 is exact, but it uses one *ruler* (a measure of the distance from the truth)
# among several. "Below the break-even" does not mean "harmful".
#
# **Two proper rulers.** A ruler is proper if, on average, the true probabilities have
# the smallest distance. Let $a = 1/(1+\lambda_g)$ and $b = 1-a$, so that
# $r = a\,\mathbb{1}_y + b\,e$.
#
# *Brier score*, $B(t)=\lVert t-\mathbb{1}_{y^*}\rVert_2^2$. From
# $r-\mathbb{1}_{y^*} = a(\mathbb{1}_y-\mathbb{1}_{y^*}) + b(e-\mathbb{1}_{y^*})$ we
# square and average. $B(\mathbb{1}_y)$ is 2 where the label is wrong and 0 where it is
# right; the product of the two parts is $1+e[y]-e[y^*]$ where it is wrong and 0 where
# it is right. With $w$ the mean of $e[y]-e[y^*]$ over wrong labels:
#
# $$\mathbb{E}\,B(\mathbb{1}_y)-\mathbb{E}\,B(r) = b\,\big[\,2\eta\,(1-a\,w) - b\;\mathbb{E}\,B(e)\,\big].$$
#
# *Log loss*, $-\log t[y^*]$. The hard label's is infinite as soon as one label is
# wrong, so any mass on the truth is better. The fair comparison is
# [label smoothing](course/glossary.md#label-smoothing) $u$ with the same weight, which
# has no knowledge of the picture: $\mathbb{E}\log r[y^*] - \mathbb{E}\log u[y^*] > 0$
# means that the teacher is better than that.
#
# **Predict:** in the Brier formula let $\lambda_g$ fall to 0. Does a little of a bad
# teacher help, or harm?

# %%
def check_brier(labels, truth, e, weight):
    """The formula against labels mixed by hand; returns the three rulers' gains."""
    hard, goal = (F.one_hot(x, e.shape[1]).double() for x in (labels, truth))
    r, a, b = (hard + weight * e) / (1 + weight), 1 / (1 + weight), weight / (1 + weight)
    wrong = labels != truth
    w = (e.gather(1, labels[:, None]) - e.gather(1, truth[:, None]))[wrong].mean() if wrong.any() else 0.0
    measured = ((hard - goal).square().sum(1) - (r - goal).square().sum(1)).mean()
    formula = b * (2 * wrong.double().mean() * (1 - a * w) - b * (e - goal).square().sum(1).mean())
    torch.testing.assert_close(measured, formula, atol=1e-10, rtol=0)
    gains = rulers(e, labels, truth, weight)
    assert abs(gains.brier - float(formula)) < 1e-10                      # the kit says the same
    return gains


judged_labels = {"random": (labels_random, truth_random, t_random.softmax(1)), "calibrated": (favourite, truth, honest)}
if y_star is not None:
    judged_labels["real"] = (y_judged, y_star, t_star.softmax(1))
    voted = stage.cluster(features, method="gkd", gkd_teacher="vote", gkd_weight=lam_g)
    if np.array_equal(voted.labels, pseudo.labels):
        judged_labels["real, vote"] = (y_judged, y_star, torch.from_numpy(rows_of(voted.soft, index, voted.labels)).double())
rows = ["| labels and teacher | λg | l1 gain | Brier gain | log gain over smoothing |", "|---" * 5 + "|"]
for name, (y_, truth_, e_) in judged_labels.items():
    for weight in (0.1, 0.5, 2.0):
        gains = check_brier(y_, truth_, e_, weight)
        rows.append(f"| {name} | {weight} | {gains.l1:+.4f} | {gains.brier:+.4f} | {gains.log:+.3f} |")
Markdown("\n".join(rows))

# %% [markdown]
# (The prediction: it helps. As $b \to 0$ the bracket tends to $2\eta(1-w)$, which is
# above 0 unless the teacher repeats every wrong label with certainty. Where no label is
# wrong, $\eta=0$ and a softer label is always worse.)
#
# Above 0 in a column: in that ruler the mixed label is nearer to the truth. Do the
# three rulers agree about the real teachers? Training writes all three in every epoch
# (`l1_gain`, `brier_gain`, `log_gain`).
#
# ## P3: a small consistency loss forces a small variance
#
# **Set-up.** Let $q_1,\dots,q_n$ be the labels of the $n$ members of one cluster in the
# batch, and $\mathrm{Var}(q)=\frac1n\sum_i\lVert q_i-\bar q\rVert_2^2$ with their mean
# $\bar q$. Draw the query uniformly from the $n$ members and its anchor uniformly from
# the $n-1$ *others*.
#
# **Proposition.** For
# $L=\frac12\left[\mathrm{KL}(a\Vert q)+\mathrm{KL}(q\Vert a)\right]$,
#
# $$\mathbb{E}\,L\;\ge\;\frac{2n}{n-1}\,\mathrm{Var}(q)\;\ge\;\frac{n}{n-1}\,\mathrm{Var}(q).$$
#
# The kit's METHOD.md states the right-hand bound, which needs step 2 of the proof only.
# The sharper one needs one line more (step 3), and its constant 2 cannot be improved.
#
# **Assumptions.** (a) $n\ge2$. (b) The anchor is drawn as above. For the *hardest*
# anchor nothing is proved here. (c) Both labels come from the same $M$ and $\tau$. (d)
# Natural logarithms. (In bits the loss is larger, so both bounds hold as well. With
# decimal logarithms both are false.)
#
# **Proof.**
#
# 1. *Pinsker's inequality* (a textbook result, which we quote):
#    $\mathrm{KL}(a\Vert q)\ge\frac12\lVert a-q\rVert_1^2$ in nats. It holds for both
#    directions, so $L\ge\frac12\lVert a-q\rVert_1^2$.
# 2. *As stated:* $\lVert x\rVert_1\ge\lVert x\rVert_2$ for every vector, so
#    $L\ge\frac12\lVert a-q\rVert_2^2$.
# 3. *Sharper:* $x=a-q$ sums to 0. So its positive entries sum to some $s$, its negative
#    ones to $-s$, and $\lVert x\rVert_1=2s$. The squares of numbers of one sign sum to
#    at most the square of their sum, so
#    $\lVert x\rVert_2^2\le s^2+s^2=\frac12\lVert x\rVert_1^2$. Hence
#    $L\ge\lVert a-q\rVert_2^2$.
# 4. *From pairs to variance:*
#    $\sum_{i,j}\lVert q_i-q_j\rVert_2^2=2n\sum_i\lVert q_i\rVert_2^2-2\lVert\sum_i q_i\rVert_2^2=2n^2\,\mathrm{Var}(q)$.
#    Pairs with $i=j$ add nothing, so the mean over the $n(n-1)$ ordered pairs is
#    $\frac{2n}{n-1}\mathrm{Var}(q)$. ∎
#
# Every pair occurs in both orders, so one-sided `kl` has the *same* expectation as
# `symmetric_kl`, and P3 holds for it as well.
#
# **Predict:** how many times larger than the bound will the loss be? For random labels?
# For those of our encoder?

# %%
def chain_by_hand(logits):
    """P3's chain for one cluster (n, K): every query i with every other anchor j, the exact means over all pairs."""
    i, j = np.nonzero(~np.eye(len(logits), dtype=bool))
    q, log_q = logits.softmax(1), logits.log_softmax(1)
    kl = (q[j] * (log_q[j] - log_q[i])).sum(1)                            # KL(a || q); both orders of a pair are there
    squares = (q[i] - q[j]).square().sum(1).mean()                        # step 4 says: this is 2n/(n-1) Var(q)
    return torch.stack([kl.mean(), (q[i] - q[j]).abs().sum(1).square().mean() / 2, squares, squares / 2])


sizes = torch.randint(2, 9, (300,), generator=dice).tolist()
spreads = torch.logspace(-1, 1, 300).tolist()                             # from nearly even labels to nearly certain ones
clusters = {"random": [s * torch.randn(n, K_random, generator=dice, dtype=torch.float64) for n, s in zip(sizes, spreads)],
            "real": [memory.logits(z_b[labels[b] == k], tau) for z_b, b in zip(zs, batches)
                     for k in labels[b].unique() if (labels[b] == k).sum() > 1]}
chains = {}
for name, members in clusters.items():
    chains[name] = [theory.consistency_chain(x) for x in members]
    for x, chain in zip(members, chains[name]):
        worst(chain_by_hand(x), list(chain.values()))                     # the kit takes Var(q), we took all the pairs
        assert chain["loss"] >= chain["pinsker"] - 1e-9 and chain["pinsker"] >= chain["sharp"] - 1e-9  # P3
    ratio = np.array([c["loss"] / c["stated"] for c in chains[name] if c["stated"] > 1e-12])
    print(f"{name:6s} P3 holds in all {len(members)} clusters. Loss / stated bound: "
          + (f"median {np.median(ratio):.1f}, least {ratio.min():.2f}, most {ratio.max():.0f}." if len(ratio) else "0 / 0."))

# %%
fig = viz.bound_slack(chains, title="P3: how far the loss lies above its bound, and which inequality is to blame")
stage.save_figure(fig, "08_p3")
figures.append("08_p3")
fig

# %%
for name, found in chains.items():
    found = [c for c in found if c["stated"] > 1e-12]
    if found:
        a, b = (np.median([c[x] / c[y] for c in found]) for x, y in (("loss", "pinsker"), ("pinsker", "stated")))
        print(f"{name:6s} median factor lost by Pinsker {a:.2f}, by l1 >= l2 {b:.2f} "
              "(of which a factor 2 was given away for nothing).")
for size in (1.0, 0.1, 0.01):                                             # two clusters, nearly even labels
    tight = theory.consistency_chain(torch.tensor([[size, 0.0], [0.0, size]], dtype=torch.float64))
    print(f"Two members, two clusters, logits {size:g} apart: loss / sharp bound = {tight['loss'] / tight['sharp']:.6f}.")

# %% [markdown]
# In the left picture, no cluster may lie left of the dashed line at 2, the sharper
# bound. The further to the right, the looser the bound. The right picture shows which
# step makes it loose. Far up it is the norms: labels differ a little in many clusters.
# Far right it is Pinsker: labels are certain and contradict one another. KL then grows
# without limit, but no variance of labels exceeds 1. The last lines show that the
# sharper bound *is* reached in the limit, for two clusters and nearly even labels. So
# no larger constant holds in all cases.
#
# **What about the hardest anchor?** The kit's default does not draw at random.
# "Hardest" means least similar in *feature* space, which need not be the least similar
# label. Here is the comparison on our batches:

# %%
pairs = []
for z_b, b in zip(zs, batches):
    l_b, y_b = memory.logits(z_b, tau), labels[b]
    p_b = positive_anchors(z_b, y_b, strategy="hardest")
    pairs += [(float(skd_loss(l_b[y_b == k], l_b[p_b[y_b == k]])), theory.consistency_chain(l_b[y_b == k]))
              for k in y_b.unique() if (y_b == k).sum() > 1]
above = np.mean([hardest >= chain["loss"] for hardest, chain in pairs])
kept = np.mean([hardest >= chain["sharp"] - 1e-9 for hardest, chain in pairs])
print(f"The loss with hardest anchors is at least that with random ones in {above:.0%} of the clusters, "
      f"and at least the sharp bound in {kept:.0%}.")

# %% [markdown]
# ## P4: one label from three views
#
# **Proposition.** With
# $r_3=\dfrac{\mathbb{1}_y+\lambda_g e+\lambda_s a}{1+\lambda_g+\lambda_s}$,
#
# $$\frac{\partial L}{\partial l}=(1+\lambda_g+\lambda_s)\,(q-r_3),\qquad L=(1+\lambda_g+\lambda_s)\,H(r_3,q)-\lambda_g H(e)-\lambda_s H(a).$$
#
# **Assumptions.** (a) $T=1$. (b) The divergence is `kl`, that is
# $\mathrm{KL}(\mathrm{sg}(a)\Vert q)$. (c) The stop-gradient matters: the anchor is
# itself a query of the same batch, and without it the anchor's row would receive a
# second gradient. Teacher and memory are held still.
#
# **Proof.** To P1 comes $\lambda_s\,\mathrm{KL}(a\Vert q)$. By (b) and (c) tool 2 gives
# its gradient, $\lambda_s(q-a)$. Add, and take out the sum of the weights. The value
# follows as in P1, since $H$ is linear in its first argument. ∎
#
# **P2 for three views.** $D$ is linear in $t[y^*]$. So the break-evens add up, with the
# weights of the mixture:
# $\mathbb{E}\,D(r_3)=2\eta-\frac{2}{1+\lambda_g+\lambda_s}\left[\lambda_g b(e)+\lambda_s b(a)\right]$
# with $b(x)=\eta\,x_w-(1-\eta)(1-x_c)$.
#
# **Predict:** the kit's *default* divergence is `symmetric_kl`. Does P4 hold for it?

# %%
for name, case in cases.items():
    logits, t, s, y = (case[x] for x in "ltsy")
    q, e, a, B = logits.softmax(1), t.softmax(1), s.softmax(1), len(y)
    loss = loss_of(case, lam_g, lam_s)                                    # L with D = kl
    r3 = (F.one_hot(y, q.shape[1]) + lam_g * e + lam_s * a) / (1 + lam_g + lam_s)
    by_hand = (1 + lam_g + lam_s) * (q - r3)                              # (1 + lambda_g + lambda_s)(q - r3)
    worst(by_hand, theory.mixed_gradient(logits, y, e, a, lam_g, lam_s))  # lesson and kit agree
    gap = worst(by_hand / B, gradient_of(loss, logits))                   # P4, against autograd
    value = worst(theory.mixed_loss(logits, y, e, a, lam_g, lam_s).mean(), loss(logits))
    print(f"{name:6s} P4 holds for kl: gradient to {gap:.0e}, value to {value:.0e}.")
    for divergence in ("symmetric_kl", "js"):
        off = B * (gradient_of(loss_of(case, lam_g, lam_s, divergence), logits) - by_hand / B).abs().max()
        print(f"       for {divergence}: off by up to {off:.2f}. P4 does not speak of it.")

# %%
e = t_random.softmax(1)                                                   # the invented world again, with an anchor view
a = (t_random + torch.randn(t_random.shape, generator=dice)).softmax(1)
b_e, b_a = (theory.break_even(*theory.teacher_quality(x, labels_random, truth_random)) for x in (e, a))
eta = float((labels_random != truth_random).double().mean())
formula = 2 * eta - 2 / (1 + lam_g + lam_s) * (lam_g * b_e + lam_s * b_a)  # E D(r3)
measured = theory.deviation(mixed_target(labels_random, e, a, lam_g, lam_s), truth_random).mean()
print(f"P2 for three views holds to {worst(measured, formula):.0e}: E D(r3) = {formula:.3f}, E D(1_y) = {2 * eta:.3f}.")

# %% [markdown]
# Back to the triangle, with the anchor as a third view.
#
# **Predict:** where will the path end now, and will `symmetric_kl` end at the same
# point?

# %%
anchor3 = torch.tensor([[0.15, 0.25, 0.60]], dtype=torch.float64)         # a: rather cluster 2
r3 = mixed_target(hard, teacher3, anchor3, toy, toy)
points = corner | {"e": teacher3[0], "a": anchor3[0], "r3": r3[0]}
case3 = {"y": hard, "t": teacher3.log(), "s": anchor3.log()}
ways = {d: way(loss_of(case3, toy, toy, d), start) for d in ("kl", "symmetric_kl")}
fig = viz.label_triangle({"kl: ends at r3": (points, ways["kl"]), "symmetric_kl, same views": (points, ways["symmetric_kl"])},
                         title="P4: the target is a weighted mean of three labels")
stage.save_figure(fig, "08_p4")
figures.append("08_p4")
fig

# %%
worst(ways["kl"][-1], r3[0])
away = float((ways["symmetric_kl"][-1] - r3[0]).abs().sum())
print(f"With kl the way ends at r3. With symmetric_kl it ends {away:.3f} away (sum of absolute differences).\n"
      "And the anchor was held still for it: in training it would move as well.")

# %% [markdown]
# The mixed label lies inside the triangle of its three views. At least
# $1/(1+\lambda_g+\lambda_s)$ of it stays at the hard label's corner. `symmetric_kl` has
# no *fixed* label in its gradient: exercise 2 shows that what takes its place need not
# even be a label.
#
# ## P5: what the factor $T^2$ is for, and where its limit lies
#
# **Proposition.** Let $G_T=T^2\,\nabla_l\,\mathrm{KL}(e^{(T)}\Vert q^{(T)})$ for one
# row, and let $R_l$, $R_t$ be the largest less the least logit of student and teacher.
# As in notebook 03, $q^{(T)}=\mathrm{softmax}(l/T)$ and
# $e^{(T)}=\mathrm{softmax}(t/T)$; $\bar l$ and $\bar t$ are the means of the row's
# logits. Then
#
# $$G_T=T\,(q^{(T)}-e^{(T)}),\qquad G_\infty=\frac1K\Big[(l-\bar l)-(t-\bar t)\Big],\qquad \lVert G_T-G_\infty\rVert_1\le\frac{R_l^2+R_t^2}{4T}\quad\text{for all }T>0 .$$
#
# So the gradient neither vanishes nor explodes as $T$ grows (unless the centred logits
# agree already: then it tends to 0). It tends to that of matching centred logits,
# $\frac1{2K}\lVert(l-\bar l)-(t-\bar t)\rVert_2^2$, at the rate $1/T$.
#
# **Assumptions.** (a) The same $T$ in teacher and student. (b) The teacher is held
# still. (c) Finite logits. ($\tau$ and $\tau_t$ may differ. They are inside $l$ and
# $t$.)
#
# **Proof.**
#
# 1. By tool 2 the gradient of $\mathrm{KL}(e^{(T)}\Vert q^{(T)})$ by $l/T$ is
#    $q^{(T)}-e^{(T)}$. The chain rule gives $1/T$; times $T^2$ leaves $T$.
# 2. Write $s=1/T$ and $\pi(s)=\mathrm{softmax}(s\,l)$. Differentiate:
#    $\frac{d\pi_k}{ds}=\pi_k\,(l_k-\mu)$ with $\mu=\sum_j\pi_j l_j$, and once more:
#    $\frac{d^2\pi_k}{ds^2}=\pi_k\left[(l_k-\mu)^2-\sigma^2\right]$ with
#    $\sigma^2=\sum_j\pi_j(l_j-\mu)^2$.
# 3. At $s=0$ the label is even: $\pi_k=\frac1K$ and
#    $\frac{d\pi_k}{ds}=\frac1K(l_k-\bar l)$. This is the limit, for $l$ and likewise
#    for $t$.
# 4. The rest:
#    $\sum_k\left|\frac{d^2\pi_k}{ds^2}\right|\le\sum_k\pi_k(l_k-\mu)^2+\sigma^2=2\sigma^2\le\frac12R_l^2$,
#    as a variance is at most a quarter of the squared range. Taylor's formula bounds
#    the rest of $\pi(s)$ by $\frac{s^2}{2}\cdot\frac12R_l^2$. Times $T=1/s$, this is
#    $R_l^2/(4T)$; the teacher adds its own. ∎
#
# **Predict:** our real logits are similarities divided by a small $\tau$, so $R_l$ may
# be as large as $2/\tau$. How large must $T$ be until the gradient is within 10 % of
# its limit?

# %%
def softened(teacher, T):
    """T^2 KL(e^(T) || q^(T)) as a function of the student's logits."""
    return lambda x: gkd_loss(x, teacher, temperature=T)


temperatures, errors = np.geomspace(0.1, 1e4, 51), {}
for name, case in cases.items():
    logits, t, B = case["l"], case["t"], len(case["y"])
    limit = theory.softened_limit(logits, t)
    worst(limit, ((logits - logits.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))) / logits.shape[1])
    gaps, curves, size = [], [], limit.abs().sum(1)
    for T in temperatures.tolist():
        G = T * ((logits / T).softmax(1) - (t / T).softmax(1))            # G_T = T (q^(T) - e^(T))
        gaps.append(worst(G / B, gradient_of(softened(t, T), logits)))
        distance, bound = (G - limit).abs().sum(1), theory.softened_error_bound(logits, t, T)
        assert (distance <= bound + 1e-9).all()                           # the bound, at every T and in every row
        curves.append((G.norm(dim=1).mean(), (distance / size).median(), (bound / size).median()))
    far = float(theory.softened_error_bound(logits, t, 1.0).max()) / 5e-7  # here the bound promises 5e-7 ...
    reached = worst(B * gradient_of(softened(t, far), logits), limit)
    errors[name] = np.array(curves)
    print(f"{name:6s} P5 holds: gradient to {max(gaps):.0e}, bound at all {len(temperatures)} temperatures, "
          f"limit reached to {reached:.0e} at T = {far:.0e}.")
norm_limit = float(theory.softened_limit(real["l"], real["t"]).norm(dim=1).mean())
fig = viz.limit_curves(temperatures, errors["real"][:, 0], norm_limit, {k: (c[:, 1], c[:, 2]) for k, c in errors.items()},
                       title="P5: T² keeps the gradient alive (left, real logits); how fast the limit comes (right)")
stage.save_figure(fig, "08_p5")
figures.append("08_p5")
fig

# %%
within = {}
for name, curve in errors.items():
    distance, bound = curve[:, 1], curve[:, 2]
    slope = np.polyfit(np.log(temperatures[-10:]), np.log(distance[-10:]), 1)[0]
    inside = np.flatnonzero(distance > 0.1)
    within[name] = float(temperatures[min(inside[-1] + 1, len(distance) - 1)]) if len(inside) else float(temperatures[0])
    print(f"{name:6s} within 10 % of the limit from T = {within[name]:.0f} on; the distance then falls like T^{slope:.2f}. "
          f"At T = 100 the bound is {np.interp(100, temperatures, bound / distance):.1f} times the true distance.")
at_one = errors["real"][np.argmin(abs(temperatures - 1)), 0]
print(f"The kit distils at T = {config.distillation_temperature:g}. The gradient's norm at T = 1 is {at_one:.2f}, "
      f"in the limit {norm_limit:.2f}.")

# %% [markdown]
# Left: without $T^2$ the gradient falls like $1/T^2$. With it the curve becomes flat,
# *for large $T$*: between small and large $T$ the size still changes, and the limit has
# a factor $1/K$. So a change of $T$ can be a change of the effective $\lambda_g$.
# Right: at small $T$ the gradient is tiny, so its distance from the limit is about the
# limit's own size. At large $T$ the distance falls as the bound says, along a straight
# line of slope $-1$; the bound runs above it in parallel, too large by a constant
# factor. The factor comes from step 4, which uses only the range of the logits. Compare
# where the 10 % line is crossed with the $T$ that the kit uses. The limit explains what
# $T^2$ is for; it need not describe this training.
#
# A practical warning: at large $T$ the *value* of the loss is the very small difference
# of nearly equal labels, times a very large $T^2$. In 32-bit numbers it becomes
# inexact:

# %%
for T in (1.0, 10.0, 100.0, 1000.0):
    exact, single = (float(gkd_loss(real["l"].to(kind), real["t"].to(kind), temperature=T))
                     for kind in (torch.float64, torch.float32))
    print(f"T = {T:5g}: L_GKD = {exact:10.5f} in 64 bits, {single:10.5f} in 32 bits "
          f"(relative error {abs(single - exact) / max(exact, 1e-12):.0e}).")

# %% [markdown]
# ## Would we have noticed a mistake?
#
# A check that cannot fail proves nothing. So we change each formula on purpose, in one
# place. The difference that the check finds must be far above $10^{-6}$. (The kit's
# tests do this for every operator and every number of `dkdmpl_kit/losses/theory.py`: no
# changed formula may pass.)
#
# **Predict:** which of these mistakes would be the hardest to notice by eye?

# %%
logits, t, s, y = (random[x] for x in "ltsy")
q, e, a, B, none = logits.softmax(1), t.softmax(1), s.softmax(1), len(random["y"]), torch.zeros_like(random["l"])
grad_g = B * gradient_of(loss_of(random, lam_g), logits)
grad_all = B * gradient_of(loss_of(random, lam_g, lam_s), logits)
eta, e_c, e_w = theory.teacher_quality(t_random.softmax(1), labels_random, truth_random)
r_world = mixed_target(labels_random, t_random.softmax(1), torch.zeros_like(t_random), lam_g, 0.0)
measured = float(theory.deviation(r_world, truth_random).mean())
far = 1e8
mistakes = {
    "P1: the factor 1 + λ_g forgotten": (q - mixed_target(y, e, none, lam_g, 0.0) - grad_g).abs().max(),
    "P1: λ_g where 1/λ_g belongs": (theory.mixed_gradient(logits, y, e, none, 1 / lam_g, 0.0) - grad_g).abs().max(),
    "P2: e_c and e_w exchanged": abs(theory.expected_deviation(eta, e_w, e_c, lam_g) - measured),
    "P2: the sign of what is repaired": abs(theory.expected_deviation(eta, e_c, -e_w, lam_g) - measured),
    "P3: Var with 1/(n−1) as well": max(c["sharp"] * (n / (n - 1) - 1) for c, n in zip(chains["random"], sizes)),
    "P3: the sharp constant 5 % larger": 1.05 * tight["sharp"] / tight["loss"] - 1,
    "P4: the anchor left out of the target": (theory.mixed_gradient(logits, y, e, none, lam_g, lam_s) - grad_all).abs().max(),
    "P5: logits not centred": ((logits - t) / logits.shape[1] - theory.softened_gradient(logits, t, far)).abs().max(),
    "P5: T instead of T², at T = 2": (theory.softened_gradient(logits, t, 2.0) / 2).abs().max(),
}
assert all(float(x) > 1e-3 for x in mistakes.values())
Markdown("\n".join(["| mistake | what the check sees |", "|---|---|",
                    *(f"| {name} | {float(x):.2e} |" for name, x in mistakes.items())]))

# %% [markdown]
# ## What the propositions do not say
#
# - **They are about one step, not about a training.** P1 and P4 give the gradient by
#   the *logits*, with teacher, anchor and memory held still. The encoder shares its
#   weights among all pictures, $M$ moves with every batch, and the next clustering
#   depends on all of it. No proposition says that training converges, that the next
#   clustering is better, or that mAP rises (notebook 05 measures that).
# - **They are about certain settings.** P1 and P4 need $T=1$; P4 needs `kl` with its
#   stop-gradient, whereas the kit's default is `symmetric_kl`; P3 needs random anchors,
#   whereas the kit's default is the hardest. With other settings they guarantee
#   nothing.
# - **P2 measures labels, with one ruler.** It needs true identities, leaves out the
#   pictures that have no right cluster at all, and prefers overconfident labels to
#   calibrated ones. A softer label may help learning while it lies further from the
#   truth in $\ell_1$, and the reverse.
# - **P3 is about agreement, not truth.** If a cluster holds two persons and all its
#   members have the same wrong label, variance and loss are 0. So they are for even
#   labels, $q=1/K$ everywhere. And a large loss proves nothing.
# - **P5 is about large temperatures.** It explains $T^2$. At the temperatures in use,
#   the limit and the true gradient can be far apart.
# - **Nothing here is the paper's.** Its own analysis may state other things, under
#   other assumptions.
#
# ## Exercises
#
# Put each answer into the named variable; the cell below it says whether it is right,
# or why not. (The folded cell prepares the checks: it contains the answers.)

# %% jupyter={"source_hidden": true} tags=["check"]
from dkdmpl_kit.lessons.exercises import exercises, value


def loss_at(x, T):
    return dkdmpl_loss(x, real["y"], teacher_logits=real["t"], gkd_weight=lam_g, skd_weight=0, temperature=T).total


right_1 = gradient_of(lambda x: loss_at(x, 3.0), real["l"])
implied = random["l"].softmax(1) - len(random["y"]) * gradient_of(lambda x: skd_loss(x, random["s"]), random["l"])
check = exercises({
    1: value(right_1, batch=len(real["y"]), mistakes={
        "that is P1, which holds at T = 1 only.": gradient_of(lambda x: loss_at(x, 1.0), real["l"]),
        "the gradient of the softened KL carries T, not T².":
            right_1 + lam_g * 2 * theory.softened_gradient(real["l"], real["t"], 3.0) / len(real["y"])}),
    2: value(float((implied < 0).any(1).double().mean()), tol=1e-6, mistakes={
        "that is the share of negative entries; count the rows that hold one.": float((implied < 0).double().mean()),
        "count the rows with a negative entry, not those without.": float((implied >= 0).all(1).double().mean())}),
    3: value(0.5, mistakes={
        "use step 3 of the proof: differences of labels sum to 0, which gives twice as much.": 0.25,
        "each of the two terms has the factor 1/2 in front, and Pinsker brings another.": 1.0})})

# %% [markdown]
# **1. P1 at another temperature.** Let $T=3$ in the distillation, while cluster
# contrast stays as it is. Write down the gradient of
# $L_{\mathrm{CC}}+\lambda_g L_{\mathrm{GKD}}$ by the logits, for the real batch. (P1
# does not hold, but tool 1 and step 1 of P5 do. Do not forget the mean over the batch.)
# Is there still one label $r$ that does not depend on $q$?

# %% tags=["solution"]
# answer_1: (B, K), the gradient at T = 3 from real["l"], real["t"], real["y"] and lam_g
logits, t, y, T = real["l"], real["t"], real["y"], 3.0
hard_part = logits.softmax(1) - F.one_hot(y, logits.shape[1])             # q - 1_y
soft_part = T * ((logits / T).softmax(1) - (t / T).softmax(1))            # T (q^(T) - e^(T))
answer_1 = (hard_part + lam_g * soft_part) / len(y)
print("No: q and q^(T) both appear, and no factor can be taken out. Two labels pull at two different softmaxes.")

# %% tags=["check"]
check(1, answer_1)

# %% [markdown]
# **2. Does `symmetric_kl` train on a label?** Take SKD alone,
# $\frac12\left[\mathrm{KL}(a\Vert q)+\mathrm{KL}(q\Vert a)\right]$, with the anchor
# held still. Every gradient can be written as $q-\rho$ if we *define* $\rho=q-\nabla$.
# For `kl` this is $\rho=a$, a label. On the random logits (`random["l"]`, anchor
# `random["s"]`): for which share of the rows does $\rho$ have a negative entry, so that
# it is not a label? Hint: the gradient of $\mathrm{KL}(q\Vert a)$ by $l$ has the
# entries $q_k\,(g_k-\sum_j q_j g_j)$ with $g_k=\log q_k-\log a_k$. Or use autograd, but
# note the mean over the batch.

# %% tags=["solution"]
# answer_2: a share of rows, from 0 to 1
logits, s = random["l"], random["s"]
q, a = logits.softmax(1), s.softmax(1)
g = logits.log_softmax(1) - s.log_softmax(1)
nabla = 0.5 * (q - a) + 0.5 * q * (g - (q * g).sum(1, keepdim=True))
target = q - nabla                                                        # rho
answer_2 = float((target < 0).any(dim=1).double().mean())
print(f"{answer_2:.0%} of the rows; their entries still sum to 1 (to {float((target.sum(1) - 1).abs().max()):.0e}), "
      "but a negative probability is none.")

# %% tags=["check"]
check(2, answer_2)

# %% [markdown]
# **3. P3 for Jensen–Shannon.** Prove
# $\mathbb{E}\left[\mathrm{JS}\right]\ge c\cdot\frac{n}{n-1}\mathrm{Var}(q)$ with
# $\mathrm{JS}=\frac12\left[\mathrm{KL}(a\Vert m)+\mathrm{KL}(q\Vert m)\right]$,
# $m=\frac12(a+q)$. Which $c$ do Pinsker and step 3 of P3 give? Check it on the random
# clusters (`clusters["random"]` holds their logits, `chains["random"]` the terms of
# P3's chain). Since $\mathrm{JS}\le\log2$, can this bound become as loose as that of
# `symmetric_kl`?

# %% tags=["solution"]
# answer_3: one number, c
ratios = []
# a - m = (a - q) / 2, so each KL >= |a - q|_1^2 / 8, and JS >= |a - q|_1^2 / 8 >= |a - q|_2^2 / 4. Pairs: 2n/(n-1) Var(q).
answer_3 = 2 / 4
for x, chain in zip(clusters["random"], chains["random"]):
    i, j = np.nonzero(~np.eye(len(x), dtype=bool))
    js = float(skd_loss(x[i], x[j], divergence="js"))
    assert js >= answer_3 * chain["stated"] - 1e-12
    ratios.append((js / (answer_3 * chain["stated"]), chain["loss"] / chain["sharp"]))
js_ratio, kl_ratio = np.array(ratios).T
print(f"loss / its sharp bound, random clusters: js at most {js_ratio.max():.1f}, symmetric KL at most {kl_ratio.max():.1f}.")

# %% tags=["check"]
check(3, answer_3)

# %%
metrics = {"n_clusters": pseudo.n_clusters, "p5_within_10_percent_T_real": within["real"],
           "p5_within_10_percent_T_random": within["random"], "p3_hardest_keeps_sharp_bound": float(kept)}
for name, found in chains.items():
    slack = [c["loss"] / c["stated"] for c in found if c["stated"] > 1e-12]
    metrics |= {f"p3_loss_over_bound_median_{name}": float(np.median(slack))} if slack else {}
for name, world in worlds.items():
    metrics[f"p2_break_even_{name}"] = theory.break_even(*theory.teacher_quality(world[0].softmax(1), world[1], world[2]))
stage.write_metrics(metrics, figures=figures)
