"""What must be there to score films, and what it takes."""

import torch

from baselines.mind_animator import recipes
from data import film_needs
from data.film_needs import PART, Recorded, counted, subjects_of
from evaluation import needs
from evaluation.videos.catalogue import has_all_orders, is_scored_as_published
from evaluation.videos.networks import open_networks
from minddiffuser.config import Config
from minddiffuser.needs import models
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.rows import Means, Row

# Seconds of one core at 512 pixels, as measured: of a flow between two frames, of the scores of a clip that need no
# network, and of a clip's scores as published.
FLOW, PIXELS, AS_PUBLISHED = 0.045, 0.7, 5.0
# Operations of a frame in the networks that score, and bytes of their weights, by count: four ViT-B, or the stand-in.
NETWORKS = {"published": (1.6e11, 1.8e9), "scoring_clip": (3e7, 1e7)}
_KEPT = 6e8  # bytes of clips that were seen, and of their flows, that `scoring.Seen` keeps at most


def look(findings: Findings, _names: tuple[str, ...]) -> None:
    """Open the networks, and name those that are absent, which does not stop a run."""
    if film_needs.settings_of(findings.run.config).metrics.networks == "published":
        findings.check("networks that score films", check_networks, findings.run.config)
    else:
        needs.scoring_clip(findings)


def check_networks(config: Config) -> tuple[bool, str]:
    """Open those that are there."""
    absent = open_networks(config, torch.device("cpu")).absent
    return True, f"absent, and so are their scores: {', '.join(absent)}" if absent else "all are there"


def rows(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 44 takes."""
    m = models.means(findings)
    return [scores(findings.run.config, counted(findings, name), m) for name in names]


def scores(config: Config, s: Recorded, m: Means) -> Row:
    """44: flows and networks of each system, and of some what takes longest."""
    settings, systems = film_needs.settings_of(config), recipes.systems(config, s.name)
    clips, own = settings.clips, settings.metrics
    share, n, n_frames = (clips.size / 512) ** 2, len(systems), clips.n_frames
    n_scored, n_sampled = min(own.n_scored or s.n_test, s.n_test), min(own.n_sampled, s.n_test)
    n_ordered, n_published = (sum(map(chosen, systems)) for chosen in (has_all_orders, is_scored_as_published))
    n_flows = 2 * (n_frames - 1) * n * s.n_test + n_frames * (n_frames - 1) * n_ordered * n_sampled
    seconds = share * (n_flows * FLOW + n * n_scored * PIXELS + n_published * n_sampled * AS_PUBLISHED)
    of_frame, weights = NETWORKS[own.networks]
    seconds += (n * n_scored + 4 * n_published * n_sampled) * n_frames * of_frame / m.speed.multiply
    said = s.n_test * n_frames * 2e4  # what networks say of the clips that were seen, at most
    batch = 8 * n_frames * clips.size**2 * 3
    return Row(
        s.name, "44", "scores of films", seconds, min(_KEPT, s.n_test * batch) + said + 12 * batch, weights + 2 * batch,
        n * 4.0 * s.n_test**2, f"{n} folders, {n_flows:,} flows",
    )  # fmt: skip


ROOM = Room(subjects_of, rows, look, part=PART, scripts=("evaluation/44_score_films.py",))
