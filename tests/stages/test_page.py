"""The page in a real browser: it is quiet, and what can be clicked, typed and moved does what it says."""

import io
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation.catalogue import STAND_IN
from evaluation.page.album import Album, thumbnail, thumbnails
from evaluation.page.shell import page as page_of
from evaluation.pictures import section as of_pictures
from evaluation.pictures.catalogue import CEILING, STAGE1, STAGE2
from evaluation.pictures.cortex import FlatMaps
from evaluation.pictures.shown import SubjectResults, Trajectory, pictures_per_trajectory
from minddiffuser.config import REPOSITORY, load

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")

SUBJECTS, N = ("subj01", "subj02"), 12
THEIRS = "others/<b>theirs</b>"
RIVALS = ("ablation/without_z", "takagi/minddiffuser", THEIRS)
PICTURED = (STAGE1, STAGE2, *RIVALS, CEILING, "control/shuffled", "control/mean_image")
LABELS = ["stage 1", "stage 2", "without z", "Takagi, bundled", "<b>theirs</b>", "ceiling", "shuffled", "mean image"]
SCORED = [*PICTURED, "bottleneck/0", "bottleneck/10", "bottleneck/100", "seed/1", "features/c"]
MAIN = ("pixcorr", "ssim", "clip_similarity", "clip_two_way")
METRICS = [*MAIN, "lpips", "brain_diffuser/pixcorr", f"brain_diffuser/alexnet_2{STAND_IN}"]
CAPTION = 'a </script><script>window.hacked = true</script> & "quoted" <i>dog</i>'


def score_table(rng):
    rows = []
    for subject in SUBJECTS:
        for k, name in enumerate(SCORED):
            metrics = ["feature_correlation"] if name == "features/c" else METRICS
            for i in range(N if name != STAGE2 else N - 2):
                rows += [
                    (subject, name, i * 7, metric, rng.uniform(0.1, 0.4) + 0.05 * (k * 3 % 7)) for metric in metrics
                ]
    return pd.DataFrame(rows, columns=["subject", "system", "stimulus_id", "metric", "value"]).round(6)


def summary_of(scores):
    everyone = scores.groupby(["system", "stimulus_id", "metric"], sort=False, as_index=False)["value"].mean()
    scores = pd.concat([everyone.assign(subject="all"), scores])
    table = scores.groupby(["subject", "system", "metric"], sort=False)["value"].agg(["mean", "size"]).reset_index()
    table = table.rename(columns={"size": "n"})
    return table.assign(ci_low=table["mean"] - 0.03, ci_high=table["mean"] + 0.03)


def make_tables(rng):
    scores = score_table(rng)
    pairs = [(STAGE2, STAGE1), (STAGE1, "control/shuffled")]
    numbers = [(0.02, 0.01, 0.03, 0.001, 0.004), (0.02, 0.001, 0.03, 0.03, 0.2), (-0.01, -0.03, 0.02, 0.6, 1.0)]
    rows = [
        (subject, *pair, metric, *numbers[k % 3], N)
        for subject in SUBJECTS
        for pair in pairs
        for k, metric in enumerate(METRICS)
    ]
    columns = ["subject", "system", "baseline", "metric", "difference", "ci_low", "ci_high", "p", "p_holm", "n"]
    spread = pd.DataFrame(
        [(s, STAGE1, m, 0.4, 0.004, 5) for s in ("all", *SUBJECTS) for m in MAIN],
        columns=["subject", "system", "metric", "mean", "sd", "n_seeds"],
    )
    return {
        "scores": scores,
        "summary": summary_of(scores),
        "paired": pd.DataFrame(rows, columns=columns),
        "spread": spread,
    }


def make_subject(name, rng):
    ids = [i * 7 for i in range(N)]

    def pictures(some):
        return thumbnails(np.array(some), rng.integers(0, 255, (len(some), 24, 24, 3), dtype=np.uint8))

    grey = thumbnail(Image.new("RGB", (24, 24), "grey"))
    made = {system: pictures(ids) for system in PICTURED}
    made[STAGE2] = pictures(ids[:-2])
    made["control/mean_image"] = dict.fromkeys(ids, grey)
    settings = {system: {"fingerprint": "0123456789abcdef"} for system in PICTURED}
    settings[THEIRS]["flags"] = ["saw <other> images"]
    ways = {
        i: Trajectory(
            [0, 10, 19], list(pictures([0, 1, 2]).values()), [2.0 - 0.05 * k for k in range(20)], 10 if i else 19
        )
        for i in ids[:-2]
    }
    return SubjectResults(
        name=name,
        stimuli=dict(zip(ids, pictures(ids).values(), strict=True)),
        captions={i: [CAPTION, f"another caption of {i}"] for i in ids},
        categories={i: ["dog"] if i % 2 else ["cat", "dining table"] for i in ids},
        pictures=made,
        settings=settings,
        trajectories=ways,
        accuracy=pd.DataFrame(
            [
                (t, roi, m, 0.3, 0.04)
                for t in ("c", "z", "linear_02")
                for roi in ("all", "V1")
                for m in ("unit", "image")
            ],
            columns=["target", "roi", "measure", "r", "floor"],
        ),
        noise_ceiling=pd.DataFrame({"roi": ["V1"], "n_voxels": [100], "median": [20.5], "mean": [21.25]}),
        cortex=make_cortex(),
    )


def webp(grey):
    content = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(content, "webp", lossless=True)
    return content.getvalue()


def make_cortex():
    """Flat maps of 60 x 20 pixels: left V1, right hV4, a strip of cortex without data, and nothing."""
    rois = np.zeros((20, 60))
    rois[:, :20], rois[:, 20:25], rois[:, 35:] = 3, 1, 4
    grey = np.where(rois >= 3, np.arange(60) * 4 + 1, 0)
    pairs = [
        ("c", [("weights", webp(grey), 0.0, 1.0, "YlOrRd"), ("patterns", webp(grey), 0.0, 0.254, "YlOrRd")]),
        ("z", [("weights", webp(grey), 0.0, 1.0, "YlOrRd"), ("patterns", webp(grey[:, ::-1]), 0.0, 0.254, "YlOrRd")]),
        ("c less z", [("", webp(grey), -2.54, 2.54, "RdBu_r")]),
    ]
    index = pd.DataFrame({"roi": ["V1", "hV4"], "level": [1, 4], "index": [-0.2, 0.3], "low": [-0.3, 0.2], "high": 0.4})
    rises = {"r": 0.9, "r_low": 0.8, "r_high": 1.0, "p": 0.002}
    return FlatMaps(webp(rois), ["V1", "hV4"], [("V1", 10, 10), ("hV4", 48, 10)], pairs, index, rises)


def make_page(subjects=SUBJECTS, stage2=True, light=0):
    rng = np.random.default_rng(0)
    tables, results = make_tables(rng), [make_subject(name, rng) for name in subjects]
    record = {
        "absent": {"brain_diffuser/swav": "its weights <are> not on this machine"},
        "samples": [["subj01", "takagi/minddiffuser", 5]],
        "settings": {"image_size": 64},
    }
    if not stage2:
        record = {"absent": {}, "settings": {}}
        scores, summary, paired = (tables[name] for name in ("scores", "summary", "paired"))
        tables = {
            "scores": scores[scores["system"] == STAGE1],
            "summary": summary[summary["system"] == STAGE1],
            "paired": paired[:0],
        }
        results = [
            replace(
                r,
                pictures={STAGE1: r.pictures[STAGE1]},
                settings={},
                trajectories={},
                categories=None,
                accuracy=None,
                absent={"accuracy of what is decoded": "not made yet; made by: python feature_decoding/25_accuracy.py"},
            )
            for r in results
        ]
    config, album = load(REPOSITORY / "configs" / "miniature.yaml", None), Album()
    return page_of(config, [of_pictures.section(config, results, tables, record, album, light)], album, light=light)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(make_page())
    return path


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def open_page(browser):
    """Open a page; at the end of a test it must not have complained, nor asked for anything but itself."""

    def opened(path, address="", **settings):
        page = browser.new_page(**settings)
        page.set_default_timeout(5000)
        page.noises = noises = []
        page.on("console", lambda message: noises.append(message.text))
        page.on("pageerror", lambda error: noises.append(str(error)))
        page.on("request", lambda request: is_own(request.url, path) or noises.append(request.url))
        page.goto(path.as_uri() + address)
        return page

    return opened


def is_own(url, path):
    return url.startswith("data:") or url.partition("#")[0] == path.as_uri()


@pytest.fixture
def page(open_page, path):
    page = open_page(path, viewport={"width": 1280, "height": 900})
    yield page
    assert page.noises == []
    assert page.evaluate("window.hacked") is None
    page.close()


def column(page, metric, subject="all"):
    cells = f'#scores .wide[data-subject="{subject}"] table[data-group="main"] td[data-metric="{metric}"]'
    return page.locator(cells).evaluate_all("cells => cells.map((cell) => Number(cell.dataset.value))")


def heading(page, name):
    return page.locator('#scores table[data-group="main"]:visible thead').get_by_role("button", name=name, exact=True)


def rows(page):
    page.evaluate("document.querySelector('#sheet').scrollIntoView({behavior: 'instant'})")
    page.wait_for_function("document.querySelector('#sheet .row .open, #sheet .nothing')")
    return page.locator("#sheet .row .open").all_text_contents()


def shown_scores(page, name=STAGE1):
    return [float(text) for text in page.locator(f'#sheet figure[data-system="{name}"] b').all_text_contents() if text]


def open_choice(page):
    page.locator("#systems").evaluate("(details) => details.open = true")


def show_all_systems(page):
    open_choice(page)
    for one in page.locator("#systems fieldset > label input").all():
        one.set_checked(True)


def show_all_rows(page):
    """Bring all rows into view, so that they are made."""
    for row in page.locator("#sheet .row").all():
        row.scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('#sheet .row')].every((row) => row.children.length)")


def test_the_same_inputs_give_the_same_bytes(path):
    assert make_page() == path.read_text()


def test_a_table_is_sorted_by_a_metric_both_ways_and_back(page):
    before = column(page, "pixcorr")
    for expected in (sorted(before, reverse=True), sorted(before)):
        heading(page, "PixCorr").click()
        assert column(page, "pixcorr") == expected
    assert heading(page, "PixCorr").locator("xpath=..").get_attribute("aria-sort") == "ascending"
    heading(page, "system").press("Enter")
    assert column(page, "pixcorr") == before
    assert column(page, "pixcorr", "subj01") != sorted(column(page, "pixcorr", "subj01"))


def test_a_lower_is_better_metric_is_sorted_from_its_best_first(page):
    page.get_by_text("Other measures of likeness").first.click()
    page.locator('#scores table[data-group="more"]:visible thead').get_by_role("button", name="LPIPS").click()
    cells = '#scores .wide[data-subject="all"] td[data-metric="lpips"]'
    values = page.locator(cells).evaluate_all("cells => cells.map((cell) => Number(cell.dataset.value))")
    assert values == sorted(values)


def test_the_whole_page_follows_the_choice_of_a_subject(page):
    captions = page.locator('#scores table[data-group="main"]:visible caption')
    assert captions.all_inner_texts() == ["mean over subjects"]
    matrices = page.locator("#differences .matrix:visible")
    assert matrices.count() == 2  # none is over subjects: each subject's are shown
    assert page.locator("#count").inner_text() == "24 of 24 images"
    page.get_by_role("button", name="subj02").click()
    assert captions.all_inner_texts() == ["subj02"]
    assert matrices.count() == 1
    assert page.locator("#count").inner_text() == "12 of 12 images"
    rows(page)
    assert page.locator("#sheet .row .soft").first.text_content() == "subj02"


def test_absent_metrics_stand_ins_and_flags_are_shown(page):
    page.locator("#scores > details").evaluate_all("all => all.forEach((one) => one.open = true)")
    table = page.locator('table[data-group="brain_diffuser"]:visible')
    assert "AlexNet(2) (stand-in)" in table.inner_text()
    assert table.locator("td.absent", has_text="absent").count() >= len(PICTURED)
    notes = page.locator("#scores .note:visible").all_inner_texts()
    assert any("SwAV ↓ is absent: its weights <are> not on this machine." in note for note in notes)
    assert any(note.startswith("Stand-in: AlexNet(2) are not computed") for note in notes)
    assert any("<b>theirs</b>: saw <other> images" in note for note in notes)
    badge = page.locator(f'table[data-group="main"]:visible tr[data-system="{THEIRS}"] .flag')
    assert badge.inner_text() == "flagged"


def test_differences_stand_in_a_matrix_with_sign_and_numbers_on_hover(page):
    matrix = page.locator("#differences .matrix:visible").first
    assert matrix.locator("thead th").all_inner_texts()[1:] == ["PixCorr", "SSIM", "CLIP similarity", "CLIP two-way"]
    first = matrix.locator("tbody tr").first
    assert first.locator("th").inner_text() == "stage 2 − stage 1"
    assert first.locator("td").all_inner_texts() == ["▲", "△", "·", "▲"]
    title = first.locator("td").first.get_attribute("title")
    assert title == "stage 2 − stage 1, PixCorr: +.020 [.010, .030], p .004 (uncorrected .001), n 12"


def test_differences_are_read_out_and_corrected(page):
    page.locator("#differences .numbers > summary").click()
    lines = page.locator("#differences .pair").first.locator("tbody").first.locator("tr").all_inner_texts()
    assert lines[0].split("\t") == ["stage 2 improves PixCorr", "+0.020", "[+0.010, +0.030]", "0.001", "0.004", "12"]
    line = page.locator("#differences .pair summary").first.inner_text()
    assert (
        line == "stage 2 − stage 1 subj01: better in PixCorr, CLIP two-way; no firm difference in SSIM, CLIP similarity"
    )
    assert lines[1].startswith("stage 2 improves SSIM, but not once corrected")
    assert lines[2].startswith("no difference shown in CLIP similarity")


def test_plots_show_every_system_and_the_bottleneck_with_its_line(page):
    first = page.locator("#scores .plot").first
    assert first.locator(".name").all_text_contents() == LABELS
    assert first.locator(".violin").count() == len(LABELS) - 1  # not of the mean image, which is the same for all
    curve = page.locator("#scores .plot", has=page.locator(".full")).first
    assert curve.locator(".mean").count() == 3
    assert "0" in curve.locator(".tick").all_text_contents()
    assert page.locator("#scores .plot").count() == 2 * len(MAIN)
    table = page.locator('#scores table[data-group="main"]:visible')
    assert page.locator("#scores .plot").last.bounding_box()["y"] < table.bounding_box()["y"]
    page.locator("#plots details", has_text="Decoded features").locator("summary").click()
    page.locator('[data-plots="features"] .plot').wait_for()


def test_the_sheet_is_complete_and_constant_controls_are_shown_once(page):
    show_all_systems(page)
    show_all_rows(page)
    assert len(rows(page)) == 2 * N
    heads = page.locator("#sheet .heads span").all_inner_texts()
    assert heads[1:] == ["stimulus", *LABELS[:-1]]
    assert page.locator("#constants figure").count() == 2
    assert page.locator("#sheet .blank").count() == 4  # stage 2 refined two images fewer a subject
    decode = "Promise.all([...document.querySelectorAll('#sheet img')].map((one) => one.decode().then(() => one.alt)))"
    assert len(set(page.evaluate(decode))) == len(LABELS) * N - 2


def box(page, name):
    return page.locator("#systems").get_by_role("checkbox", name=name, exact=True)


def test_the_sheet_shows_the_systems_that_are_chosen(page):
    show_all_systems(page)
    box(page, "Other systems").click()
    box(page, "stage 1").click()
    heads = page.locator("#sheet .heads span")
    assert heads.all_inner_texts()[1:] == ["stimulus", "stage 2", "without z", "ceiling", "shuffled"]
    assert page.locator("#systems summary").inner_text() == "Systems shown: 4 of 7"
    assert not box(page, "Takagi, bundled").is_checked()
    assert page.evaluate("(box) => box.indeterminate", box(page, "Methods").element_handle())
    page.get_by_role("button", name="subj02").click()  # the choice stays
    assert heads.all_inner_texts()[1:] == ["stimulus", "stage 2", "without z", "ceiling", "shuffled"]
    rows(page)
    assert page.locator("#sheet .row").first.locator("figure").count() == 5
    box(page, "Takagi, bundled").click()
    assert page.evaluate("(box) => box.indeterminate", box(page, "Other systems").element_handle())
    page.locator("#sheet .open").first.click()
    assert page.get_by_role("dialog").locator(".large img").count() == len(PICTURED)  # all of them, large


def test_columns_that_do_not_fit_are_scrolled_to_beside_the_stimulus(open_page, path):
    page = open_page(path, viewport={"width": 800, "height": 900})
    show_all_systems(page)
    rows(page)
    first = page.locator("#sheet .row").first.locator("figure")
    stimulus, last = first.first, first.last
    before = stimulus.bounding_box()
    page.evaluate("document.querySelector('#sheet').scrollBy(1000, 0)")
    right = page.locator("#sheet").bounding_box()
    assert stimulus.bounding_box()["x"] == pytest.approx(before["x"], abs=1)
    found = last.bounding_box()
    assert before["x"] + before["width"] < found["x"]
    assert found["x"] + found["width"] <= right["x"] + right["width"]
    heads = page.locator("#sheet .heads span")
    for k, cell in ((1, stimulus), (-1, last)):
        assert heads.nth(k).bounding_box()["x"] == pytest.approx(cell.bounding_box()["x"], abs=1)
    assert page.evaluate("document.documentElement.scrollWidth") == 800
    page.close()


def test_systems_of_several_samples_are_named(page):
    for section in ("#scores", "#images"):
        assert (
            "Takagi, bundled (5)" in page.locator(f"{section} .note:visible", has_text="several pictures").inner_text()
        )


def test_the_papers_numbers_stand_beside_ours(page):
    found = page.locator("#published .beside:visible")
    assert found.locator("thead th").all_inner_texts()[1:3] == ["PixCorr", "(paper)"]
    cells = {row.split("\t")[0]: row.split("\t")[1:] for row in found.locator("tbody tr").all_inner_texts()}
    assert cells["MindDiffuser, stage 2"][1::2] == ["(0.278)", "(0.354)", "(0.765)"]
    assert cells["Ozcelik, bundled"][0::2] == ["–"] * 3  # is not there
    table = page.locator(f'#scores table[data-group="main"]:visible tr[data-system="{STAGE2}"] td').nth(1)
    assert table.inner_text().startswith(cells["MindDiffuser, stage 2"][0])


def test_the_sheet_is_sorted_by_a_metric_of_a_system_both_ways(page):
    page.get_by_role("button", name="subj01").click()
    page.locator("#metric").select_option("lpips")
    page.locator("#system").select_option(CEILING)
    for order, is_reversed in (("best", False), ("worst", True)):  # of LPIPS, lower is better
        page.locator("#order").select_option(order)
        show_all_rows(page)
        values = shown_scores(page, CEILING)
        assert len(values) == N
        assert values == sorted(values, reverse=is_reversed)
    page.locator("#order").select_option("id")
    show_all_rows(page)
    assert rows(page) == [f"NSD {i * 7}" for i in range(N)]


def test_images_without_a_score_come_last(page):
    page.get_by_role("button", name="subj01").click()
    page.locator("#system").select_option(STAGE2)
    for order in ("best", "worst"):
        page.locator("#order").select_option(order)
        show_all_rows(page)
        assert rows(page)[-2:] == ["NSD 70", "NSD 77"]


def test_images_are_found_by_category_by_id_and_by_words_of_a_caption(page):
    page.locator("#category").select_option("dog")
    assert page.locator("#count").inner_text() == "12 of 24 images"
    page.locator("#find").fill("00021")
    assert rows(page) == ["NSD 21", "NSD 21"]
    page.locator("#find").fill("ANOTHER caption of 21")
    assert rows(page) == ["NSD 21", "NSD 21"]
    page.locator("#find").fill("999")
    assert page.locator("#sheet").inner_text().strip().endswith("Clear the words, or choose another category.")
    assert page.locator("#count").inner_text() == "0 of 24 images"


@pytest.mark.parametrize("by", ["click", "keyboard"])
def test_an_image_opens_closes_and_focus_returns(page, by):
    page.locator("#order").select_option("id")
    rows(page)
    opener = page.locator("#sheet .open").nth(2)
    if by == "click":
        page.locator("#sheet .row").nth(2).locator("img").nth(1).click()
    else:
        opener.focus()
        page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading", level=2).inner_text() == "NSD 7"
    assert dialog.locator(".captions li").first.inner_text() == CAPTION
    assert dialog.locator(".tag").all_inner_texts() == ["dog"]
    assert dialog.locator(".large img").count() == len(PICTURED)  # and the stimulus, without the mean image
    assert dialog.locator(".strips figure").count() == len(MAIN)
    assert "better than" in dialog.locator(".strips figure").first.inner_text()
    assert dialog.locator("tbody tr:not(.kind)").count() == len(METRICS)
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    page.wait_for_function("(button) => button === document.activeElement", arg=opener.element_handle())


def test_the_slider_shows_the_way_of_stage_2(page):
    page.locator("#order").select_option("id")
    rows(page)
    page.locator("#sheet .open").first.press("Enter")
    dialog, slider = page.get_by_role("dialog"), page.get_by_role("slider")

    def state():
        marker = dialog.locator(".trajectory circle.marker")
        picture = dialog.locator(".frame img").get_attribute("src")
        return dialog.locator(".reading").inner_text(), picture, float(marker.get_attribute("cx"))

    last = state()
    assert last[0] == "iteration 19, loss 1.05"
    slider.press("Home")
    first = state()
    slider.press("ArrowRight")
    middle = state()
    assert middle[0] == "iteration 10, loss 1.5"
    assert first[0] == "iteration 0, loss 2"
    assert len({last[1], middle[1], first[1]}) == 3
    assert first[2] < middle[2] < last[2]
    assert dialog.get_by_role("heading", level=2).inner_text() == "NSD 0"  # the arrows moved the slider alone


def test_the_viewer_opens_at_the_iteration_whose_picture_is_stage_2s(page):
    page.locator("#find").fill("21")
    rows(page)
    page.locator("#sheet .open").first.click()
    assert page.get_by_role("dialog").locator(".reading").inner_text() == "iteration 10, loss 1.5"


def test_the_sheet_begins_with_the_methods_best_image_by_a_score_that_sees_objects(page):
    page.get_by_role("button", name="subj01").click()
    chosen = [page.locator(f"#{name}").input_value() for name in ("metric", "order", "system")]
    assert chosen == ["clip_similarity", "best", STAGE2]
    heads = page.locator("#sheet .heads span").all_inner_texts()[1:]
    assert heads == ["stimulus", "stage 1", "stage 2", "Takagi, bundled", "ceiling", "shuffled"]
    values = shown_scores(page, STAGE2)
    assert values == sorted(values, reverse=True)


def test_every_view_has_an_address_that_a_reload_keeps(page, open_page, path):
    page.get_by_role("button", name="subj02").click()
    page.locator("#metric").select_option("ssim")
    page.locator("#order").select_option("worst")
    page.locator("#find").fill("another caption of 2")
    open_choice(page)
    box(page, "ceiling").click()
    rows(page)
    page.locator("#sheet .open").first.press("Enter")
    dialog = page.get_by_role("dialog")
    title, heads = dialog.get_by_role("heading", level=2).inner_text(), page.locator("#sheet .heads span")
    texts, address = heads.all_text_contents(), page.evaluate("location.hash")
    page.reload()
    other = open_page(path, address, viewport={"width": 1280, "height": 900})
    for seen in (page, other):
        assert seen.get_by_role("dialog").get_by_role("heading", level=2).inner_text() == title
        assert seen.locator("#sheet .heads span").all_text_contents() == texts
        assert seen.locator("[data-choose][aria-pressed=true]").inner_text() == "subj02"
        assert seen.locator("#metric").input_value() == "ssim"
        assert seen.locator("#find").input_value() == "another caption of 2"
        seen.keyboard.press("Escape")
        seen.wait_for_function("!location.hash.includes('image')")
    assert other.noises == []
    other.close()


@pytest.mark.parametrize("address", ["#image=subj09/1&metric=nothing&subject=nobody&shown=,", "#scores", "#=&="])
def test_an_address_of_nothing_shows_the_page(open_page, path, address):
    page = open_page(path, address)
    assert page.locator("#count").inner_text() == "24 of 24 images"
    assert page.locator("#metric").input_value() == "clip_similarity"
    assert not page.get_by_role("dialog").is_visible()
    assert page.noises == []
    page.close()


def test_verdict_and_strip_are_on_the_first_screen(open_page, path):
    page = open_page(path, viewport={"width": 1440, "height": 900})
    lines = page.locator(".verdict li").all_inner_texts()
    assert len(lines) == 4
    assert "chance 50, shuffled" in lines[0]
    for link in page.locator(".verdict a").all():
        assert page.locator(link.get_attribute("href")).count() == 1
    for part in (".verdict", ".strip"):
        box = page.locator(part).bounding_box()
        assert box["y"] + box["height"] <= 900
    shown = page.locator(".strip-row")
    assert [row.locator("img").count() for row in shown.all()] == [6] * 4
    labels = ["stimulus", "MindDiffuser, stage 2", "Takagi, bundled", "ceiling"]
    assert shown.locator("span").all_inner_texts() == labels
    page.close()


def test_each_heading_has_chance_and_ceiling_and_each_cell_its_dot(page):
    table = page.locator('#scores table[data-group="main"]:visible')
    head = table.locator("thead th").nth(2).inner_text()
    assert "shuffled 0." in head
    assert "ceiling 0." in head
    assert table.locator(".dot").count() == len(PICTURED) * len(MAIN)
    assert table.locator("tr.method th b").all_inner_texts() == ["MindDiffuser, stage 1", "MindDiffuser, stage 2"]


def test_decoding_accuracy_is_drawn_with_its_floor_and_only_the_right_ceiling(page):
    plots = page.locator("#decoding .accuracy").first.locator(".plot")
    captions = plots.locator("figcaption b").all_inner_texts()
    assert captions == ["c: text embedding", "z: latents", "Z_CLIP: layer 2"]
    assert plots.first.locator(".name").all_text_contents() == ["all regions", "V1"]
    assert plots.first.locator(".floor").count() == 2
    assert plots.locator(".full").count() == 0  # the tables of this page have no noise ceiling of what is decoded


def test_what_is_absent_is_listed_once_with_its_reason(page):
    found = page.locator("#absent li").all_inner_texts()
    assert any(text.startswith("SwAV as Brain-Diffuser has it: its weights <are> not") for text in found)
    assert any("Ozcelik, original" in text and "38_reconstruct_ozcelik.py" in text for text in found)
    assert len(found) == len(set(found))


def test_tables_are_linked_and_the_method_is_told_with_its_settings(page):
    links = page.locator('#scores a[href$=".csv"]').evaluate_all("all => all.map((one) => one.getAttribute('href'))")
    assert links == ["summary.csv", "scores.csv", "paired.csv", "spread.csv"]
    text = page.locator("#methods").inner_text()
    assert "ridge regression (penalty 1000)" in text
    assert "10 iterations of Adam" in text


def test_on_paper_controls_are_gone_and_nothing_is_cut(open_page, path):
    page = open_page(path, viewport={"width": 1000, "height": 900})
    rows(page)
    paper = page.pdf(format="A4")
    assert len(paper) > 50_000
    page.emulate_media(media="print")
    assert not page.locator(".bar").is_visible()
    assert not page.locator(".filters").is_visible()
    assert page.locator("#sheet .row:visible").count() == 20
    assert page.locator("#sheet .row:visible img").count() >= 20 * 5
    assert page.noises == []
    page.close()


def test_a_light_page_has_few_images_and_all_scores(open_page, tmp_path):
    path = tmp_path / "light.html"
    path.write_text(make_page(light=3))
    page = open_page(path, viewport={"width": 1280, "height": 900})
    assert page.locator("#count").inner_text() == "6 of 6 images"
    assert "3 test images of each subject" in page.locator("header").inner_text()
    assert len(column(page, "pixcorr")) == len(PICTURED)
    assert page.locator("#scores .violin").count() == 0
    rows(page)
    page.locator("#sheet .open").first.click()
    assert page.get_by_role("slider").count() == 0
    assert page.noises == []
    page.close()


def test_arrow_keys_and_buttons_go_through_the_images_as_they_are_listed(page):
    page.get_by_role("button", name="subj01").click()
    page.locator("#order").select_option("worst")
    show_all_rows(page)
    expected = rows(page)
    page.locator("#sheet .open").first.click()
    title = page.get_by_role("dialog").get_by_role("heading", level=2)
    assert page.get_by_role("button", name="previous image").is_disabled()
    page.keyboard.press("ArrowRight")
    assert title.inner_text() == expected[1]
    page.get_by_role("button", name="next image").click()
    assert title.inner_text() == expected[2]
    page.keyboard.press("ArrowLeft")
    assert title.inner_text() == expected[1]
    page.keyboard.press("Escape")
    page.wait_for_function("(text) => document.activeElement.textContent === text", arg=expected[1])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_scrolls_only_in_its_boxes(open_page, path, scheme):
    page = open_page(path, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page.locator("details").evaluate_all("all => all.forEach((one) => one.open = true)")
    rows(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.locator("#sheet .open").first.click()
    assert page.evaluate("document.querySelector('.viewer-body').scrollWidth <= 360")
    assert page.noises == []
    page.close()


def test_dark_mode_has_its_own_colours_and_both_have_contrast(open_page, path):
    backgrounds = set()
    for scheme in ("light", "dark"):
        page = open_page(path, color_scheme=scheme)
        colours = page.evaluate(
            """["--back", "--text", "--soft", "--accent", "--other", "--warm"].map((name) =>
               getComputedStyle(document.documentElement).getPropertyValue(name).trim())"""
        )
        back, *others = (luminance(colour) for colour in colours)
        for other in others:
            assert (max(back, other) + 0.05) / (min(back, other) + 0.05) > 4.5
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert len(backgrounds) == 2


def luminance(colour):
    """Relative luminance of "#rrggbb", as WCAG has it."""
    channels = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_the_citation_is_copied(browser, path):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(path.as_uri())
    page.get_by_role("button", name="Copy the citation").click()
    said = page.locator("#provenance output").last
    page.wait_for_function("[...document.querySelectorAll('#provenance output')].at(-1).value")
    assert said.inner_text() in ("copied", "selected: copy it with Ctrl+C")
    assert page.evaluate("getSelection().toString()").startswith("@inproceedings{")
    context.close()


def test_one_subject_with_stage_1_alone(open_page, tmp_path):
    path = tmp_path / "index.html"
    path.write_text(make_page(["subj01"], stage2=False))
    page = open_page(path)
    page.locator("#order").select_option("id")
    assert rows(page)[0] == "NSD 0"
    assert page.locator("[data-choose]").count() == 0
    absent = page.locator("#absent").inner_text()
    assert "COCO's instances_*2017.json is not there" in absent
    assert "python feature_decoding/25_accuracy.py" in absent
    assert "No rival without a flag has been run yet" in page.locator(".verdict").inner_text()
    page.locator("#sheet .open").first.click()
    assert page.get_by_role("slider").count() == 0
    assert page.noises == []
    page.close()


def test_trajectories_are_thinned_to_the_budget_of_a_page():
    assert [pictures_per_trajectory(n) for n in (0, 100, 500, 501, 982, 3928)] == [12, 12, 12, 11, 6, 3]


def test_equal_pictures_are_stored_once(path):
    text = path.read_text()
    blocks = re.findall(r'<script type="text/plain".*?>\n(.*?)</script>', text, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.split("\n") if line]
    assert len(lines) == len(set(lines))


def test_photographs_become_small_and_small_pictures_stay_exact():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(thumbnail(Image.fromarray(small))))), small)
    wide = Image.open(io.BytesIO(thumbnail(Image.new("RGB", (640, 320)))))
    assert wide.size == (128, 64)


def cortex_of(page, subject):
    page.locator(f'[data-choose="{subject}"]').click()
    place = page.locator(f'[data-cortex="{subject}"]')
    page.wait_for_function("place => place.querySelector('canvas')?.dataset.shown", arg=place.element_handle())
    return place


def wait_for_map(page, place, shown):
    canvas = place.locator("canvas").element_handle()
    page.wait_for_function("([canvas, shown]) => canvas.dataset.shown === shown", arg=[canvas, shown])


def point_at(page, place, x, y):
    """Move the pointer to a pixel of the flat map, of 60 x 20."""
    canvas = place.locator("canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + (x + 0.5) / 60 * box["width"], box["y"] + (y + 0.5) / 20 * box["height"])
    return place.locator("output").inner_text()


def test_the_cortex_says_region_and_value_under_the_pointer(page):
    place = cortex_of(page, "subj02")
    wait_for_map(page, place, "c: patterns")
    assert point_at(page, place, 10, 5) == "left V1: 0.040"  # grey 41, of 1 to 255, is 40 / 254 of .254
    assert point_at(page, place, 50, 5) == "right hV4: 0.200"
    assert point_at(page, place, 22, 5) == "left no region: no data"
    assert point_at(page, place, 30, 5) == ""
    place.get_by_role("button", name="z", exact=True).click()
    wait_for_map(page, place, "z: patterns")
    assert point_at(page, place, 10, 5) == "left V1: 0.196"
    place.get_by_role("button", name="weights").click()
    wait_for_map(page, place, "z: weights")
    assert point_at(page, place, 10, 5) == "left V1: 0.157"


def test_the_value_on_the_cortex_is_of_the_map_that_is_drawn(page):
    """Until the chosen map is there it is the former's; then it is said anew, though the pointer rests."""
    place = cortex_of(page, "subj02")
    wait_for_map(page, place, "c: patterns")
    page.evaluate(
        """() => {
            const { decode } = HTMLImageElement.prototype;
            const allowed = new Promise((resolve) => { window.allow = resolve; });
            HTMLImageElement.prototype.decode = async function () { await allowed; return decode.call(this); };
        }"""
    )
    place.locator("canvas").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert point_at(page, place, 10, 5) == "left V1: 0.040"
    page.evaluate("window.allow()")
    wait_for_map(page, place, "c less z: ")
    assert place.locator("output").inner_text() == "left V1: −1.740"


def test_keys_on_the_cortex_change_target_and_recipe(page):
    place = cortex_of(page, "subj01")
    wait_for_map(page, place, "c: patterns")
    place.locator("canvas").focus()
    for key, shown in (
        ("ArrowRight", "z: patterns"), ("ArrowUp", "z: weights"), ("ArrowLeft", "c: weights"),
        ("ArrowLeft", "c less z: "),
    ):  # fmt: skip
        page.keyboard.press(key)
        wait_for_map(page, place, shown)
    assert place.get_by_role("button", name="weights").is_disabled()
    assert place.locator(".scale").inner_text().replace("\n", "") == "−2.5402.540"
    assert point_at(page, place, 50, 5) == "right hV4: 1.460"
    colours = place.locator("canvas").evaluate(
        """canvas => {
            const copy = new OffscreenCanvas(120, 40).getContext("2d", { willReadFrequently: true });
            copy.drawImage(canvas, 0, 0);
            return [20, 60, 100].map((x) => [...copy.getImageData(x, 4, 1, 1).data]);
        }"""
    )
    assert colours[1][3] == 0  # nothing between the hemispheres
    assert colours[0][2] > colours[0][0]  # below 0 is blue
    assert colours[2][0] > colours[2][2]


def test_the_cortex_fits_a_phone_and_is_touched(open_page, path):
    page = open_page(path, viewport={"width": 375, "height": 700}, has_touch=True, is_mobile=True)
    place = cortex_of(page, "subj01")
    box = place.locator("canvas").bounding_box()
    assert 250 < box["width"] <= 375
    place.locator("canvas").scroll_into_view_if_needed()
    box = place.locator("canvas").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.5)
    assert place.locator("output").inner_text().startswith("left V1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.noises == []
    page.close()
