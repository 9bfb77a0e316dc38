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
# # One run
#
# Each cell of a grid (`dkdmpl grid`) is this notebook, executed in a process of its own. It opens the pictures, trains one encoder without a single identity, and shows what came of it. It also works alone: change the parameters and run all cells.
#
# **Reads and writes**: the data set; everything else lies in the run's folder, `out_dir/runs/run_name`. A finished run is read, not repeated, and a cut one goes on from its last whole epoch.

# %% tags=["parameters"]
preset = "smoke"
data = "synthetic"
data_root = ""
table = ""
pattern = ""
allow_withdrawn = False
method = "dkdmpl"
seed = 0
settings = []
out_dir = "../../runs/one"
run_name = ""

# %%
from IPython.display import Markdown, display

from dkdmpl_kit import experiment, viz
from dkdmpl_kit.studies.grid_cell import epoch_log
from dkdmpl_kit.studies.results import markdown_table, read_run
from dkdmpl_kit.training import fit, reference_labels

config = experiment.preset(preset, data=data, data_root=data_root, table=table, pattern=pattern, method=method, seed=seed,
                           out_dir=out_dir, run_name=run_name).replace(**dict(item.split("=", 1) for item in settings))
dataset = experiment.open_dataset(config, allow_withdrawn=allow_withdrawn)
print(dataset.summary())

# %% [markdown]
# `settings` holds what differs from the preset, such as `["epochs=5", "eps=0.5"]`. Only one process at a time may train a run: another waits here, and then reads the result.

# %%
result = fit(config, dataset, reference_labels=reference_labels(config, dataset), resume=True, wait=True, progress=False,
             on_epoch=epoch_log(config))

# %% [markdown]
# ## What came of it
#
# The measures of the last epoch. A dash stands for what these pictures do not let us measure.

# %%
record = read_run(result.run_dir)
display(Markdown(markdown_table([record])))
for name, value in result.final.items():
    print(f"{name:18s} {'not measured' if value is None else f'{value:.4f}'}")

# %%
fig = viz.training_curves({config.method: list(result.history)}, title=config.name,
                          metrics=("mAP", "ari", "n_clusters", "outlier_fraction", "loss", "learning_rate"))
viz.save_figure(fig, result.run_dir / "curves.png", metadata={
    "run": config.name, "settings": record["settings"], "data_fingerprint": record["data_fingerprint"],
    "environment": record["environment"]})
fig
