"""What the notebooks hand to one another: the warm start of the lessons, and the paths
that the report reads.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import read_json
from dkdmpl_kit.lessons.stage import Stage


@pytest.fixture(scope="module")
def out_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("stages")


def stage(out_dir, settings=""):
    return Stage(
        "03_gkd",
        preset_name="smoke",
        seed=0,
        device="cpu",
        data="synthetic",
        data_root="",
        pattern="",
        out_dir=str(out_dir),
        settings=f"n_train_ids=6 n_test_ids=2 epochs=1 iterations=1 {settings}",
    )


def test_the_warm_start_reads_the_finished_run_again_and_gives_the_same_features_and_labels(
    out_dir,
):
    _, features, pseudo = stage(out_dir).warm_start()
    record = (out_dir / "runs" / "warm-seed0" / "result.json").stat().st_mtime_ns
    encoder, again, labels = stage(out_dir).warm_start()
    np.testing.assert_array_equal(features, again)
    np.testing.assert_array_equal(pseudo.labels, labels.labels)
    assert pseudo.n_clusters >= 2
    assert features.shape == (len(pseudo.labels), encoder.dim)
    assert (out_dir / "runs" / "warm-seed0" / "result.json").stat().st_mtime_ns == record


def test_the_warm_start_says_that_k_means_stands_in_where_every_picture_is_an_outlier(
    tmp_path, capsys
):
    _, features, pseudo = stage(tmp_path, "eps=0.0001 min_samples=40").warm_start()
    assert "k-means stands in" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()  # nothing was trained
    assert pseudo.method == "kmeans"
    assert pseudo.n_clusters >= 2
    assert pseudo.outlier_fraction == 0
    assert sorted(set(pseudo.labels)) == list(range(pseudo.n_clusters))
    assert len(pseudo.labels) == len(features)


def test_metrics_name_their_figures_by_the_paths_that_the_report_reads(out_dir):
    path = stage(out_dir).write_metrics({"answer": 1.0}, figures=["03_batch"])
    content = read_json(path)
    assert content["figures"] == ["figures/03_batch.png"]
    assert content["metrics"] == {"answer": 1.0}


def cells_run(*cells: str) -> list[str]:
    """What each cell prints, in one IPython."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell, told = InteractiveShell.instance(), []
    for cell in cells:
        with capture_output() as found:
            assert shell.run_cell(cell).success
        told.append(found.stdout.strip())
    InteractiveShell.clear_instance()
    return told


def test_what_a_notebook_requires_and_lacks_ends_it_without_an_error_and_leaves_its_metrics(
    out_dir,
):
    build = (
        "from dkdmpl_kit.lessons.stage import Stage\n"
        "stage = Stage('07_label_noise', preset_name='smoke', seed=0, device='cpu', "
        "data='synthetic', data_root='', pattern='', settings='n_train_ids=6 n_test_ids=2', "
        f"out_dir={str(out_dir)!r})"
    )
    lacking = "stage.pids[:] = -1\nstage.require('truth')"
    told = cells_run(
        build, "stage.require('truth', 'cameras', 'test'); print(1)", lacking, "print(2)",
        build, "print(3)",
    )  # fmt: skip
    assert told[1] == "1"
    assert told[2].startswith("The notebook ends here: these pictures have no identities")
    assert (told[3], told[5]) == ("(skipped)", "3")
    found = read_json(out_dir / "metrics" / "07_label_noise" / "metrics.json")
    assert found["metrics"] == {"ends_without": "truth"}
    with pytest.raises(KitError, match="need 'peace' is unknown; there are: clusters, truth"):
        stage(out_dir).require("peace")


def test_a_ranking_needs_a_gallery_picture_from_another_camera(out_dir):
    one = stage(out_dir)
    assert one.has_test
    seen_by_one = {
        name: tuple(dataclasses.replace(i, camid=0) for i in getattr(one.dataset, name))
        for name in ("query", "gallery")
    }
    one.dataset = dataclasses.replace(one.dataset, **seen_by_one)
    assert not one.has_test


def test_a_figure_that_is_shown_and_a_sentence_that_is_said_stand_in_the_metrics(
    out_dir, capsys
):
    from dkdmpl_kit import viz

    one = stage(out_dir)
    one.show(viz.result_bars({"dkdmpl": 0.5}, title="t"), "03_x", "Half of it.")
    one.say("half", "It is **0.5**.", share=0.5)
    one.write_metrics({"share": 0.5})
    found = read_json(out_dir / "metrics" / "03_gkd" / "metrics.json")
    assert found["figures"] == ["figures/03_x.png"]
    assert found["claims"] == {"half": {"sentence": "It is **0.5**.", "share": 0.5}}
    assert read_json(out_dir / "figures" / "03_x.json")["caption"] == "Half of it."
