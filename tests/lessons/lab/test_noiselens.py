"""NoiseLens: the pairs, causes and rates that it shows, each control, and what it says
where something is unknown.
"""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.lab import NoiseLens
from dkdmpl_kit.noise import (
    NO_CAUSE,
    NOISE_KINDS,
    camera_pair_errors,
    inject_noise,
    label_report,
    noise_causes,
    pair_causes,
)

RNG = np.random.default_rng(0)
PIDS, CAMIDS = np.repeat(np.arange(12) * 3, 12), np.tile(np.repeat(np.arange(3), 4), 12)
SPLIT = inject_noise(PIDS, 0.3, kind="camera_split", camids=CAMIDS).labels
# camera 1 makes threes of people look alike
MERGED = np.where(CAMIDS == 1, PIDS // 9, PIDS + 100)
PICTURES = np.zeros((len(PIDS), 3, 8, 4), np.uint8) + (np.arange(len(PIDS)) % 256)[
    :, None, None, None
].astype(np.uint8)
FEATURES = RNG.normal(size=(len(PIDS), 5))
FACTORS = [
    {
        "camera": int(c),
        "number": int(p),
        "pic_view": "front" if i % 2 else "back",
        "pic_occluder": "none",
        "id_lookalike_of": None,
        "id_top_rgb": [int(p), 0, 0],
        "id_bottom_rgb": [int(p) * 9 % 255] * 3,
    }
    for i, (p, c) in enumerate(zip(PIDS, CAMIDS))
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Figures are made and looked into, but rendered to pixels in the last test alone:
    it takes most of the time.
    """
    monkeypatch.setattr(
        "dkdmpl_kit.lessons.lab.panel.figure_png", lambda figure: b"not rendered"
    )


def lens(labels=MERGED, **options):
    given = {"camids": CAMIDS, "pictures": PICTURES, "features": FEATURES, "resamples": 20}
    panel = NoiseLens(labels, PIDS, **{**given, **options})
    panel.check()
    return panel


def move(panel, **values):
    for name, value in values.items():
        panel.controls[name].value = value
        panel.check()
    return panel


def bars(panel):
    """{cause: the share in % of the pairs that have it; of no cause: that are left}."""
    ax = panel.figure.axes[0]
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    widths = [bar.get_width() for bar in ax.patches]
    return dict(zip(names, [*widths[: len(names) - 1], widths[-1]]))


def words(figure):
    return " ".join(text.get_text() for ax in figure.axes for text in ax.texts).replace(
        "\n", " "
    )


def test_the_bars_are_the_causes_of_every_wrong_pair_and_what_they_leave():
    panel = move(lens(), kind="merged")
    table = pair_causes(MERGED, PIDS, camids=CAMIDS, max_pairs=4000, resamples=20).table()
    shares = [*table["holds"][:-1], table["explains"][-1]]
    assert bars(panel) == pytest.approx(dict(zip(table["cause"], np.multiply(shares, 100))))
    assert table["cause"][0] == "same camera"
    assert f"{panel.causes.n_wrong:,} pairs wrongly merged" in panel.status.value
    assert f"ARI {label_report(MERGED, PIDS).ari:.3f}" in panel.status.value


@pytest.mark.parametrize("labels, kind", [(PIDS // 9, "merged"), (SPLIT, "split")])
def test_the_lens_opens_with_the_kind_of_error_that_there_is_and_says_its_task(labels, kind):
    panel = lens(labels)
    assert panel.controls["kind"].value == panel.causes.kind == kind
    assert panel.causes.n_wrong > 0
    assert "Task: find what explains the wrong pairs" in panel.children[0].value


def test_buttons_stay_in_one_line():
    panel = lens()
    for name in ("kind", "show"):
        group = panel.controls[name]
        assert group.layout.width == "max-content"
        assert group.layout.flex == "0 0 auto"
        assert group.style.button_width == "auto"
    assert all(row.layout.flex_flow == "row wrap" for row in panel.children[1:3])


def test_an_interval_without_an_end_is_not_written_out():
    said = " ".join(words(lens(factors=FACTORS).figure).split())
    assert "explains" in said
    assert not [
        word
        for word in said.split()
        if word.strip("×()").isdigit() and int(word.strip("×()")) > 100
    ]


def test_the_map_of_cameras_and_the_map_of_factors_show_counted_rates_and_odds():
    panel = move(lens(factors=FACTORS), kind="merged", show="cameras")
    errors = camera_pair_errors(MERGED, PIDS, CAMIDS)
    np.testing.assert_allclose(
        panel.figure.axes[0].images[0].get_array().filled(np.nan),
        errors.merged / np.where(errors.together, errors.together, np.nan),
    )
    move(panel, show="factors")
    merged = noise_causes(
        MERGED, PIDS, camids=CAMIDS, factors=FACTORS, max_pairs=4000, resamples=0
    )
    names = [tick.get_text() for tick in panel.figure.axes[0].get_yticklabels()]
    drawn = panel.figure.axes[0].images[0].get_array()
    for name, ratio in zip(merged.names, merged.odds_ratio):
        assert drawn[names.index(name), 0] == pytest.approx(ratio)
    move(panel, show="causes")
    assert "same camera" in bars(panel)


@pytest.mark.parametrize("noise", NOISE_KINDS)
def test_the_slider_injects_noise_of_its_kind_and_rate_into_the_true_labels(noise):
    panel = move(lens(), noise=noise, rate=0.4)
    wanted = inject_noise(
        PIDS,
        0.4,
        kind=noise,
        camids=CAMIDS,
        features=FEATURES if noise == "look_alike" else None,
    ).labels
    np.testing.assert_array_equal(panel.labels_shown, wanted)
    report = label_report(wanted, PIDS)
    assert f"pair recall {report.pair_recall:.3f}" in panel.status.value
    assert f"outliers {(wanted < 0).mean():.0%}" in panel.status.value
    move(panel, noise=None)
    np.testing.assert_array_equal(panel.labels_shown, MERGED)
    assert panel.controls["rate"].disabled


def test_agreement_against_the_rate_carries_the_sliders_mark():
    panel = move(lens(), show="agreement")
    assert "Choose a kind of noise" in words(panel.figure)
    move(panel, noise="symmetric", rate=0.3)
    left, right = panel.figure.axes
    lines = {line.get_label(): line for line in left.lines}
    at = lines["pair precision"].get_xdata().tolist().index(0.3)
    assert lines["pair precision"].get_ydata()[at] == pytest.approx(
        label_report(panel.labels_shown, PIDS).pair_precision
    )
    assert lines["the slider"].get_xdata()[0] == 0.3
    assert lines["ARI"].get_ydata()[0] == 1
    assert "same camera" in {line.get_label() for line in right.lines}
    move(panel, rate=0.6)
    assert {line.get_label(): line for line in panel.figure.axes[0].lines}[
        "the slider"
    ].get_xdata()[0] == 0.6


def test_more_noise_than_a_kind_can_make_is_said_and_the_slider_goes_on():
    panel = move(lens(), noise="camera_split", rate=0.9)
    assert "too much for camera_split" in panel.status.value
    assert panel.causes is None
    for show in ("cameras", "agreement", "causes"):
        move(panel, show=show)
    panel.controls["more"].click()
    panel.check()
    assert move(panel, rate=0.2).causes.n_wrong >= 0
    assert "too much" not in panel.status.value


def test_examples_are_pairs_of_the_chosen_cause_side_by_side_with_who_and_where():
    panel = move(lens(SPLIT), kind="split", cause="another camera")
    assert len(panel.example_pairs) == 6
    assert (CAMIDS[panel.example_pairs[:, 0]] != CAMIDS[panel.example_pairs[:, 1]]).all()
    ax = panel.examples.figure.axes[0]
    i, j = panel.example_pairs[0]
    canvas = ax.images[0].get_array()
    assert (canvas[2, 2] == i % 256).all() and (canvas[2, 2 + 4] == j % 256).all(), (
        "4 pixels wide each"
    )
    assert (
        ax.texts[0].get_text()
        == f"id {PIDS[i]} | {PIDS[j]}\ncamera {CAMIDS[i] + 1} | {CAMIDS[j] + 1}"
    )
    assert "another camera" in panel.examples.figure.get_suptitle()
    before = panel.example_pairs
    panel.controls["more"].click()
    panel.check()
    assert panel.page == 1
    assert not {tuple(p) for p in panel.example_pairs} & {tuple(p) for p in before}


def test_other_examples_begin_again_after_the_last_and_pairs_without_cause_can_be_seen():
    panel = lens(
        np.where(RNG.random(len(PIDS)) < 0.02, PIDS[RNG.permutation(len(PIDS))], PIDS),
        per_page=50,
    )
    assert NO_CAUSE in dict(panel.controls["cause"].options).values()
    move(panel, cause=NO_CAUSE)
    members = panel.causes.pairs[~(panel.causes.holds & panel.causes.clear).any(axis=1)]
    seen = {tuple(p) for p in panel.example_pairs}
    for _ in range(-(-len(members) // 50) - 1):
        panel.controls["more"].click()
        seen |= {tuple(p) for p in panel.example_pairs}
    assert seen == {tuple(p) for p in members}
    panel.controls["more"].click()
    assert panel.page == 0


def test_the_chosen_cause_stays_while_the_slider_moves():
    panel = move(lens(), noise="camera_split", kind="split", rate=0.3, cause="another camera")
    assert move(panel, rate=0.4).controls["cause"].value == "another camera"
    assert (
        move(panel, noise=None).controls["cause"].value
        in dict(panel.controls["cause"].options).values()
    )


def test_pairs_are_capped_with_a_note():
    panel = lens(np.zeros_like(PIDS), max_pairs=50)
    total = len(PIDS) * (len(PIDS) - 1) // 2 - 12 * 66
    assert panel.causes.n_wrong == total
    assert len(panel.causes.pairs) == 50
    assert f"Looked at 50 of {total:,} wrong pairs" in panel.figure.get_supxlabel()
    assert "no pair rightly apart" in panel.figure.get_supxlabel(), (
        "one cluster: nothing to compare with"
    )


@pytest.mark.parametrize("pids", [None, np.full(len(PIDS), -1)])
def test_without_truth_the_lens_is_one_sentence_and_no_control(pids):
    panel = NoiseLens(MERGED, pids, camids=CAMIDS, pictures=PICTURES)
    panel.check()
    assert "True identities are not known" in panel.status.value
    assert panel.controls == {}
    assert panel.causes is None
    assert panel.children == (panel.status, panel.chart)
    assert "not known" in words(panel.figure)


@pytest.mark.parametrize("camids", [None, np.full(len(PIDS), -1)])
def test_without_cameras_pairs_are_shown_without_cause_and_their_charts_are_not_offered(
    camids,
):
    panel = lens(camids=camids, features=None)
    assert "Neither cameras nor" in panel.figure.get_supxlabel()
    assert set(bars(panel)) == {NO_CAUSE}
    assert list(panel.controls["show"].options) == ["causes", "agreement"]
    assert [value for _, value in panel.controls["noise"].options] == [
        None,
        "symmetric",
        "outlier",
    ]
    assert panel.examples.figure.axes[0].texts[0].get_text().count("\n") == 0
    move(panel, noise="symmetric", show="agreement")
    assert "nothing known that may cause" in words(panel.figure)


def test_pictures_of_unknown_identity_are_left_out_of_pairs_and_of_injected_noise():
    pids = np.where(np.arange(len(PIDS)) % 5 == 0, -1, PIDS)
    panel = NoiseLens(
        MERGED, pids, camids=CAMIDS, factors=FACTORS, features=FEATURES, resamples=20
    )
    assert (pids[panel.causes.pairs] >= 0).all()
    for noise in NOISE_KINDS:
        move(panel, noise=noise, rate=0.2, show="agreement")
        assert (panel.labels_shown[pids < 0] == -1).all()


def test_all_outliers_are_a_sentence():
    panel = lens(np.full(len(PIDS), -1))
    assert panel.causes.n_wrong == 0
    assert "outliers 100%" in panel.status.value
    assert "ARI unknown" in panel.status.value
    for show in panel.controls["show"].options:
        move(panel, show=show)


class Broken:
    def batch(self, indices):
        raise KitError("a.png cannot be read.")


def test_pictures_that_cannot_be_read_or_are_not_given_are_a_sentence():
    assert "a.png cannot be read" in words(lens(pictures=Broken()).examples.figure)
    assert "none were given" in words(lens(pictures=None).examples.figure)


def test_an_exception_in_a_callback_is_kept_and_raised_by_check():
    panel = lens()
    panel.camids = CAMIDS[:5]
    panel.controls["show"].value = "cameras"
    with pytest.raises(KitError, match="same length"):
        panel.check()
    assert "last good one" in panel.status.value


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(KitError, match="camids are of 3 images and labels of 144"):
        NoiseLens(MERGED, PIDS, camids=[1, 2, 3])


def test_the_panel_is_drawn_as_pngs_and_can_be_found_in_a_page(monkeypatch):
    monkeypatch.undo()  # of `quick`
    panel = lens(factors=FACTORS)
    assert all(bytes(view.value).startswith(b"\x89PNG") for view in panel.views)
    assert "dkdmpl-noiselens" in panel._dom_classes
    before = bytes(panel.chart.value)
    for show in panel.controls["show"].options[1:]:
        assert bytes(move(panel, show=show).chart.value) != before
    assert bytes(move(panel, show="causes").chart.value) == before
