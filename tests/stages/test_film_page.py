"""The section of films in a real browser: films play and stop, one slider moves all, and what is chosen is shown."""

import shutil

import numpy as np
import pandas as pd
import pytest
import test_page

from baselines.mind_animator.recipes import settings_of
from evaluation.page.album import Album
from evaluation.page.shell import page as page_of
from evaluation.pictures import section as of_pictures
from evaluation.videos import section as of_films
from evaluation.videos.catalogue import CATALOGUE, CEILING, CORRECTED, MOVER, OTHER_CLIP, STATIC
from evaluation.videos.shown import Clip, SubjectFilms, choose_clips, number_of_clips, strip
from evaluation.videos.verdict import errors, moving, shuffled, verdict
from minddiffuser.config import REPOSITORY, load

SUBJECTS, BLIND = ("Subject01", "Subject03"), "Subject03"
THEIRS = "others/<b>theirs</b>"
SYSTEMS = (CORRECTED, CEILING, MOVER, OTHER_CLIP, STATIC, THEIRS)
N, N_FRAMES = 12, 8
BY = ("image", "text")
METRICS = ("flow_cosine", "epe", "epe_still", "ssim")
CAPTION = 'a </script><script>window.hacked = true</script> & "quoted" <i>dog</i>'
CONFIG = load(REPOSITORY / "configs" / "miniature.yaml", None)


def ids():
    return [101001 + k for k in range(N)]


def speeds():
    return {key: 0.05 if k < 2 else 0.1 * k for k, key in enumerate(ids())}


def film(rng, is_still=False):
    frames = rng.integers(0, 255, (N_FRAMES, 16, 16, 3), dtype=np.uint8)
    return np.repeat(frames[:1], N_FRAMES, axis=0) if is_still else frames


def score_table(rng):
    rows = []
    for subject in SUBJECTS:
        for name in SYSTEMS:
            for key in ids() if name != THEIRS else ids()[1:]:
                values = {name: rng.uniform(0, 0.5) for name in METRICS} | {"epe_still": speeds()[key]}
                rows += [(subject, name, key, metric, value) for metric, value in values.items()]
    return pd.DataFrame(rows, columns=["subject", "system", "stimulus_id", "metric", "value"]).round(6)


def motion_table():
    """The mover moves for the subject who tells directions apart, and Mind-Animator for neither."""
    rows = []
    for subject in SUBJECTS:
        for name in (CEILING, MOVER, CORRECTED, OTHER_CLIP, STATIC):
            cosine, p = {CEILING: (0.9, 0.001), MOVER: (0.17, 0.002)}.get(name, (0.01, 0.4))
            if name == MOVER and subject == BLIND:
                cosine, p = 0.02, 0.35
            rows.append((subject, name, cosine, cosine - 0.05, cosine + 0.05, p, p, 1.02, 0.8))
    columns = ["subject", "system", "flow_cosine", "ci_low", "ci_high", "p", "p_holm", "epe", "epe_still"]
    others = ("others", "flow_cosine_reversed", "direction_cosine", "speed_ratio")
    return pd.DataFrame(rows, columns=columns).assign(**dict.fromkeys(others, 0.0))


def shuffle_table(p_other=2.5e-5):
    rows = [(s, name, 1.0, 1.2, p) for s in SUBJECTS for name, p in ((CORRECTED, 2.5e-5), (OTHER_CLIP, p_other))]
    others = ("p_other_clip", "p_sampled", "p_bootstrap_wilcoxon", "p_sign_flip")
    table = pd.DataFrame(rows, columns=["subject", "system", "epe", "shuffled", "p"])
    return table.assign(**dict.fromkeys(others, p_other))


def claim_table(p=0.3):
    """Mind-Animator less another clip's recording, and less the brain without directions."""
    rows = [("Subject01", CORRECTED, "Subject01", OTHER_CLIP, 0.02, 0.01, 0.03, p)]
    rows += [("Subject03", CORRECTED, "Subject03", OTHER_CLIP, 0.02, -0.01, 0.03, 0.5)]
    rows += [("Subject01", CORRECTED, "Subject03", CORRECTED, 0.02, -0.01, 0.03, 0.3)]
    columns = ["subject", "system", "other_subject", "baseline", "difference", "ci_low", "ci_high", "p_holm"]
    return pd.DataFrame(rows, columns=columns)


def make_tables(rng):
    scores = score_table(rng)
    summary = scores.groupby(["subject", "system", "metric"], sort=False)["value"].agg(["mean", "size"]).reset_index()
    summary = summary.rename(columns={"size": "n"}).assign(ci_low=0.1, ci_high=0.4)
    pairs = [(s, CORRECTED, STATIC, metric, 0.02, 0.01, 0.03, 0.001, 0.004, N) for s in SUBJECTS for metric in METRICS]
    columns = ["subject", "system", "baseline", "metric", "difference", "ci_low", "ci_high", "p", "p_holm", "n"]
    decoded = [
        (s, "corrected", target, system, 0.6, 0.5, 0.7, difference, difference - 0.01, difference + 0.01, p)
        for s in SUBJECTS
        for target in ("c", "z1")
        for system, difference, p in (("network", np.nan, np.nan), ("ridge", 0.02, 0.01), ("mean", 0.02, 0.2))
    ]
    published = summary[summary["metric"] == "ssim"].assign(metric="as_published/ssim")
    return {
        "scores": scores,
        "summary": summary,
        "paired": pd.DataFrame(pairs, columns=columns),
        "motion": motion_table(),
        "claim": claim_table(),
        "shuffle": shuffle_table(),
        "decoded": pd.DataFrame(
            decoded,
            columns=[
                *("subject", "form", "target", "system", "r_by_clip", "ci_low", "ci_high"),
                *("difference", "difference_low", "difference_high", "p_holm"),
            ],
        ),
        "velocity": pd.DataFrame(
            [(s, "corrected", component, 0.4, 0.3, 0.5, 0.001) for s in SUBJECTS for component in ("x", "y", "both")],
            columns=["subject", "form", "component", "r", "ci_low", "ci_high", "p"],
        ),
        "retrieval": pd.DataFrame(
            [
                (s, "corrected", "network", by, N, k, 0.5, 0.4, 0.6, k / N)
                for s in SUBJECTS
                for by in BY
                for k in (1, 10)
            ],
            columns=["subject", "form", "system", "by", "n", "k", "hits", "ci_low", "ci_high", "chance"],
        ),
        "as_published": published,
    }


def make_section(album):
    rng = np.random.default_rng(0)
    tables = make_tables(rng)
    clips = [
        Clip(key, f"test1_{key - 101000}", CAPTION if key == 101001 else f"a ball {key}", speed, strip(film(rng)))
        for key, speed in speeds().items()
    ]
    subjects = [
        SubjectFilms(
            name,
            N,
            {
                system: {key: strip(film(rng, system == STATIC)) for key in ids() if system != THEIRS or key != 101001}
                for system in SYSTEMS
            },
            {system: {"fingerprint": "0123456789abcdef"} for system in SYSTEMS},
        )
        for name in SUBJECTS
    ]
    record = {"absent": {"vifi": "its weights <are> not on this machine"}, "settings": {"gate": 0.6}}
    return of_films.section(CONFIG, subjects, clips, tables, record, album)


def make_page():
    album = Album()
    return page_of(CONFIG, [make_section(album)], album)


def make_page_with_pictures():
    rng, album = np.random.default_rng(0), Album()
    tables, subject = test_page.make_tables(rng), test_page.make_subject("subj01", rng)
    record = {"absent": {}, "settings": {}}
    pictures = of_pictures.section(CONFIG, [subject], tables, record, album)
    return page_of(CONFIG, [pictures, make_section(album)], album)


# The verdict, without a browser.


def test_the_verdict_follows_the_numbers():
    claims = dict(claim[:2] for claim in verdict(motion_table(), claim_table(p=0.01), shuffle_table(), [BLIND]))
    assert claims["Is motion decoded?"] == (
        "The films of the mover move as the true ones do, by the flow cosine, for Subject01 (.170 [.120, .220], p .002)"
        "; this is not shown for Subject03 (whose brain tells no directions apart: .020 [-.030, .070], p .35)"
    )
    assert "are not shown to move as the true ones do" in claims["Does Mind-Animator decode it?"]
    numbers = "that of another clip's recording in 1 of 2 and that of a brain without directions in 0 of 1 comparisons"
    assert claims["Does Mind-Animator decode it?"].endswith(f"Its flow cosine is firmly above {numbers}")
    assert claims["What does the paper's shuffle test say?"].endswith("and not whose motion it is")
    assert claims["And its end-point error?"].startswith("A film that does not move has a lower one than 4 of 4")


def test_a_high_p_or_an_interval_that_meets_zero_shows_no_motion():
    table = motion_table()
    row = (table["system"] == CORRECTED) & (table["subject"] == "Subject01")
    for cosine, low, p, moves in ((0.1, 0.05, 0.01, True), (0.1, 0.05, 0.06, False), (0.1, -0.01, 0.01, False)):
        table.loc[row, ["flow_cosine", "ci_low", "p_holm"]] = cosine, low, p
        assert ("move as the true ones do, by the flow cosine, for" in moving(table, CORRECTED)) == moves


def test_the_shuffle_test_is_not_blamed_where_the_control_fails_it():
    text = shuffled(shuffle_table(p_other=0.3))
    assert "does not pass it (p .3)" in text
    assert "neighbouring" not in text


def test_what_has_no_numbers_is_left_out():
    none = motion_table()[:0]
    assert verdict(none, claim_table()[:0], shuffle_table()[:0]) == []
    assert moving(none, MOVER) == ""
    assert errors(none, [MOVER]) == ""


def test_clips_are_chosen_by_their_true_speed_and_as_many_as_fit():
    scores = score_table(np.random.default_rng(0))
    assert choose_clips(scores, N) == pytest.approx(speeds())
    few = choose_clips(scores, 3)
    assert list(few) == sorted(few)
    assert {min(speeds().values()), max(speeds().values())} <= set(few.values())
    settings = settings_of(CONFIG)
    n = number_of_clips(settings, 49)
    assert n * 49 * 64 * 64 * 8 <= 64_000_000 < (n + 1) * 49 * 64 * 64 * 8
    assert number_of_clips(settings, 10**9) == 1


def test_what_is_decoded_is_marked_where_the_network_is_firmly_better():
    tables = make_tables(np.random.default_rng(0))
    (title, rows), _ = of_films.decoded_rows(tables["decoded"])
    assert title == "Subject01, corrected"
    assert [row[1] for row in rows[1:]] == [".600 [.500, .700]", ".600 [.500, .700] ▼", ".600 [.500, .700]"]
    assert of_films.velocity_rows(tables["velocity"])[1][0] == "Subject01, corrected"
    heads, first, *_ = of_films.retrieval_rows(tables["retrieval"])
    assert heads[1:] == ["first 1 of 12 (chance .083)", "first 10 of 12 (chance .833)"]
    assert first == ["Subject01, corrected, network, by image", ".500 [.400, .600]", ".500 [.400, .600]"]


# In the browser.

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / "index.html"
    path.write_text(make_page())
    return path


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, path):
    """Open a page; at the end of a test it must not have complained, nor asked for anything but itself."""
    opened = []

    def open_one(path=path, **settings):
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **settings})
        page.set_default_timeout(5000)
        noises = []
        page.on("console", lambda message: noises.append(message.text))
        page.on("pageerror", lambda error: noises.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("data:", path.as_uri())) or noises.append(r.url))
        page.goto(path.as_uri())
        opened.append((page, noises))
        return page

    yield open_one
    for page, noises in opened:
        assert noises == []
        assert page.evaluate("window.hacked") is None
        page.close()


@pytest.fixture
def page(open_page):
    return open_page()


FRAMES = """(root) => Promise.all([...root.querySelectorAll('.film img')].map(async (image) => {
    await image.decode();
    const shown = new DOMMatrix(getComputedStyle(image).transform).m42 / image.getBoundingClientRect().height;
    return image.classList.contains('still') ? null : Math.round(-shown * 8);
}))"""


def frames(locator):
    """Frames that the windows show, but those of films of one frame."""
    return {frame for frame in locator.evaluate(FRAMES) if frame is not None}


def row(page, number=0):
    return page.locator("#film-sheet .clip").nth(number)


def names(page):
    return page.locator("#film-sheet .clip").evaluate_all("all => all.map((one) => one.ariaLabel.split(':')[0])")


def wait_for_another_frame(page, locator, before=0):
    page.wait_for_function(
        "([row, before]) => Number(getComputedStyle(row).getPropertyValue('--frame')) !== before",
        arg=[locator.element_handle(), before],
    )


@in_browser
def test_the_same_inputs_give_the_same_bytes(path):
    assert make_page() == path.read_text()


@in_browser
def test_the_page_begins_with_the_verdict_and_the_table_of_motion(page):
    assert page.locator("h1").inner_text() == "Films reconstructed from brain activity"
    assert page.locator(".verdict li").count() == 4
    assert "Subject01: 12 test clips" in page.locator(".kicker").inner_text()
    table = page.locator("table.motion")
    mover = table.locator("tr", has_text="mover").first
    assert mover.locator("td.moves").count() == 1
    assert "0.170" in mover.locator("td").first.inner_text()
    assert table.bounding_box()["y"] < page.locator("#film-sheet").bounding_box()["y"]
    assert "its weights <are> not on this machine" in page.locator("#absent").inner_text()
    assert page.locator("#film-published ~ details").count() >= 10


@in_browser
def test_one_slider_moves_the_same_frame_in_all_films(page):
    sheet, slider = page.locator("#film-sheet"), page.get_by_role("slider")
    assert frames(sheet) == {0}
    slider.fill("5")
    assert frames(sheet) == {5}
    slider.press("ArrowRight")
    assert frames(sheet) == {6}
    assert page.locator("#film-time").inner_text() == "frame 7 of 8"
    still = page.locator(f'#film-sheet [data-film="{STATIC}"] img').first
    assert still.evaluate("(image) => getComputedStyle(image).transform") == "none"


@in_browser
def test_a_clip_plays_under_the_pointer_and_no_other(page):
    first = row(page)
    first.hover()
    wait_for_another_frame(page, first)
    assert len(frames(first)) == 1
    assert frames(row(page, 1)) == {0}
    page.locator("h1").hover()
    page.wait_for_function("!document.querySelector('.clip.plays')")
    assert frames(first) == {0}


@in_browser
def test_a_clip_plays_while_the_keyboard_is_on_it(page):
    page.locator("#film-play").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "clip plays"
    wait_for_another_frame(page, row(page))
    page.keyboard.press("Tab")
    wait_for_another_frame(page, row(page, 1))
    assert frames(row(page)) == {0}


@in_browser
def test_all_films_play_and_pause(page):
    button, slider = page.locator("#film-play"), page.get_by_role("slider")
    button.click()
    assert button.inner_text() == "Pause"
    page.wait_for_function("document.querySelector('#film-frame').value > 1")
    button.click()
    assert button.inner_text() == "Play all"
    frame = int(slider.input_value())
    page.wait_for_timeout(400)
    assert int(slider.input_value()) == frame
    assert frames(page.locator("#film-sheet")) == {frame}
    button.click()
    slider.fill("2")  # whoever moves it wants it to stay
    assert button.inner_text() == "Play all"


@in_browser
def test_nothing_plays_by_itself_where_less_motion_is_asked_for(open_page):
    page = open_page(reduced_motion="reduce")
    row(page).hover()
    row(page).focus()
    page.wait_for_timeout(400)
    assert frames(page.locator("#film-sheet")) == {0}
    page.locator("#film-play").click()  # but where it is told to
    page.wait_for_function("document.querySelector('#film-frame').value > 0")


@in_browser
def test_clips_are_filtered_by_motion_and_by_caption(page):
    assert len(names(page)) == N
    page.locator("#film-kind").select_option("still")
    still = names(page)
    page.locator("#film-kind").select_option("moves")
    moving_clips = names(page)
    mean = np.mean(list(speeds().values()))
    assert still == [f"test1_{k + 1}" for k, speed in enumerate(speeds().values()) if speed < mean / 3]
    assert sorted(still + moving_clips) == sorted(f"test1_{k + 1}" for k in range(N))
    page.locator("#film-kind").select_option("")
    page.locator("#film-find").fill("BALL 101007")
    assert names(page) == ["test1_7"]
    assert page.locator("#film-count").inner_text() == "1 of 12 clips"
    page.locator("#film-find").fill("zebra")
    assert page.locator("#film-sheet").inner_text().startswith("Nothing matches")


@in_browser
def test_clips_are_sorted_by_speed_and_by_a_score_of_a_system(page):
    page.locator("#film-order").select_option("speed")
    assert names(page)[0] == f"test1_{N}"
    page.locator("#film-metric").select_option("epe")  # of which the lower is the better
    page.locator("#film-system").select_option(MOVER)
    scores = score_table(np.random.default_rng(0))
    of_mover = scores[(scores["system"] == MOVER) & (scores["metric"] == "epe")]
    for subject in SUBJECTS:
        page.locator("#film-subject").select_option(subject)
        assert page.locator("#film-system").input_value() == MOVER
        values = of_mover[of_mover["subject"] == subject].set_index("stimulus_id")["value"]
        page.locator("#film-order").select_option("best")
        assert names(page) == [f"test1_{key - 101000}" for key in values.sort_values().index]
        page.locator("#film-order").select_option("worst")
        assert names(page) == [f"test1_{key - 101000}" for key in values.sort_values(ascending=False).index]


@in_browser
def test_the_sheet_shows_the_systems_that_are_chosen(page):
    shown = row(page).locator("figcaption span")
    assert shown.all_inner_texts() == ["seen", "corrected", "ceiling", "mover", "other clip's fMRI", "static"]
    page.locator("#film-systems summary").click()
    page.get_by_role("checkbox", name="<b>theirs</b>").check()
    page.get_by_role("checkbox", name="static").uncheck()
    assert "<b>theirs</b>" in shown.all_inner_texts()
    assert "static" not in shown.all_inner_texts()
    assert row(page).locator(".blank").count() == 1  # they lack the first clip
    assert row(page, 1).locator(".blank").count() == 0
    assert page.locator("#film-systems summary").inner_text() == "Systems shown: 5 of 6"


@in_browser
def test_films_stand_below_pictures_and_neither_disturbs_the_other(open_page, tmp_path):
    path = tmp_path / "index.html"
    path.write_text(make_page_with_pictures())
    page = open_page(path)
    assert page.locator("h1").inner_text() == "Images reconstructed from brain activity"
    assert page.locator("nav a", has_text="Another dataset").get_attribute("href") == "#films"
    assert page.locator("#films .callout p").count() == 4
    assert len(names(page)) == N
    page.locator("#film-frame").fill("3")
    assert frames(page.locator("#film-sheet")) == {3}
    page.locator("#film-kind").select_option("moves")
    assert page.locator("#count").inner_text() == "12 of 12 images"
    page.locator("#order").select_option("id")
    assert len(names(page)) < N


@in_browser
def test_tables_name_the_method(page):
    rows = page.locator('#films table.scores[data-group="films-pixels"]').first.locator("tbody th[scope=row]")
    assert rows.first.inner_text() == "Mind-Animator, corrected"


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_scrolls_only_in_its_boxes(open_page, scheme):
    page = open_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page.locator("details").evaluate_all("all => all.forEach((one) => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@in_browser
def test_paper_has_three_frames_of_each_film_and_no_controls(page):
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert frames(row(page)) == {0, 4, 7}
    assert not page.locator("#film-player").is_visible()
    assert page.locator("#film-sheet .clip:visible").count() == 10
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert frames(row(page)) == {0}


def test_the_catalogue_names_what_the_section_shows_at_first():
    assert set(of_films._SHOWN) <= set(CATALOGUE.systems)
