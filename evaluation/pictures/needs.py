"""What must be there to score and show what was reconstructed of NSD, and what it takes."""

from data.nsd_needs import subjects_of
from evaluation import needs
from evaluation.needs import SCORE_PICTURE
from feature_extraction.needs import known
from minddiffuser.config.takagi import takagi_form
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.rows import Means, Row, Subject, lower_batch
from reconstruction.needs import n_ablated, n_controls, n_refined


def look(findings: Findings, _names: tuple[str, ...]) -> None:
    """Open the networks."""
    needs.networks(findings)


def rows(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 41 to 43 take."""
    scoring, found = needs.scoring(findings), []
    for subject, means in known(findings, names):
        found += [scores(subject, means, *scoring), comparison(subject), page(subject, means)]
    return found


def n_scored(s: Subject, m: Means) -> int:
    """Pictures of all systems."""
    experiment = m.config.experiment
    n_systems = 1 + 4 + n_controls(m)
    if takagi := experiment.takagi:
        n_systems += sum(takagi_form(experiment.sampler, takagi, form).n_samples for form in takagi.forms)
    if experiment.ozcelik:
        n_systems += len(experiment.ozcelik.forms)
    return n_systems * s.n_test + n_refined(s, m) + 2 * n_ablated(s, m)


def scores(s: Subject, m: Means, seconds: float, clip: float) -> Row:
    """41: all systems through the networks that score."""
    evaluation, batch = m.config.experiment.evaluation, m.config.execution.batch_size.score
    share = (evaluation.image_size / 425) ** 2
    networks = 1.8e9 if evaluation.networks == "imagenet" else 0.0
    return Row(
        s.name, "41", "scores", (n_scored(s, m) * 3.5 + s.n_train) * seconds, networks + 5e6 * s.n_test * share,
        clip + networks / 4 + batch * SCORE_PICTURE * share, n_scored(s, m) * 4e3,
        f"{n_scored(s, m)} pictures; CLIP, {seconds:.3g} s each, and as much thrice; {s.n_train} training images",
        lower_batch(m.config, "score"),
    )  # fmt: skip


def comparison(s: Subject) -> Row:
    """42: tables of scores that are there."""
    return Row(s.name, "42", "comparison", 5, 0, 0, 1e5, "a guess")


def page(s: Subject, m: Means) -> Row:
    """43: pictures of all systems, small."""
    page_size = 5e3 * n_scored(s, m)
    one_system = s.n_test * m.config.experiment.detail.image_size**2 * 3
    return Row(
        s.name, "43", "page", n_scored(s, m) * 0.015, 2 * one_system + 3 * page_size, 0, page_size,
        f"{n_scored(s, m)} pictures of 15 ms, a guess",
    )  # fmt: skip


ROOM = Room(subjects_of, rows, look, scripts=("evaluation/41_score.py",))
