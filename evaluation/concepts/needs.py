"""What must be there to score labels and their pictures, of Generic Object Decoding, and what it takes."""

from baselines.semantic_brain_decoding.needs import PART, counted, n_pictures, subjects_of
from data.god_needs import Counts
from evaluation import needs
from evaluation.needs import SCORE_PICTURE
from minddiffuser.config import Config
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.rows import Row, lower_batch


def look(findings: Findings, _names: tuple[str, ...]) -> None:
    """Open the networks."""
    needs.networks(findings)


def rows(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 40 takes."""
    scoring = needs.scoring(findings)
    return [scores(findings.run.config, counted(findings, name), *scoring) for name in names]


def scores(config: Config, counts: Counts, seconds: float, clip: float) -> Row:
    """40: as 41."""
    n, share = n_pictures(config, counts), (config.experiment.evaluation.image_size / 425) ** 2
    on_device = clip + config.execution.batch_size.score * SCORE_PICTURE * share
    return Row(
        counts.name, "40", "scores of labels", n * 3.5 * seconds, 1.8e9 * share + 5e6 * counts.n_test * share,
        on_device, n * 4e3, f"{n} pictures", lower_batch(config, "score"),
    )  # fmt: skip


ROOM = Room(subjects_of, rows, look, part=PART, scripts=("evaluation/40_score_concepts.py",))
