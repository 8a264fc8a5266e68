"""README and docs agree with the result files that they are written from, and name only what exists."""

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from docs import film_tables
from evaluation.videos import verdict

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
NAMES = [path.relative_to(REPOSITORY).as_posix() for path in DOCUMENTS]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_tables", REPOSITORY / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results(tables):
    return tables.read(REPOSITORY / "docs")


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of README, docs and their result files."""
    shutil.copy(REPOSITORY / "README.md", tmp_path)
    pictures = shutil.ignore_patterns("*.png", "__pycache__")
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs", ignore=pictures)
    return tmp_path


def anchors(path: Path) -> set[str]:
    """Give the anchors that GitHub makes of the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_tables_and_numbers_are_those_of_the_result_files(tables):
    assert tables.update(REPOSITORY, check=True) == []


def test_every_document_with_results_has_blocks(tables):
    blocks = {name: len(tables.BLOCK.findall((REPOSITORY / name).read_text())) for name in NAMES}
    assert blocks["README.md"] == 1
    assert blocks["docs/results.md"] > 10
    assert blocks["docs/god.md"] > 4
    assert blocks["docs/films_results.md"] > 8
    used = {match[1] for path in DOCUMENTS for match in tables.BLOCK.findall(path.read_text())}
    made = {*tables.TABLES, *film_tables.TEXTS}
    assert made - used == set(), "tables that no document shows"


@pytest.mark.parametrize(
    ("document", "old"),
    [
        ("README.md", r"(\| MindDiffuser, stage 1 \| \d+ \| )\.\d"),
        ("README.md", r"(<!-- n: share minddiffuser/stage1 clip_two_way -->)\d"),
        ("docs/results.md", r"(<!-- n: difference minddiffuser/stage2 minddiffuser/stage1 ssim -->)[+-]\.\d"),
        ("docs/god.md", r"(\| constant label \| \d+ \| )\.\d"),
        ("docs/films.md", r"(\| ceiling \| \**)\.\d"),
        ("docs/films.md", r"(\*\*Is motion decoded\?\*\* .*?)\.\d"),
        ("docs/films.md", r"(<!-- n: hits \w+ \w+ \w+ \w+ \w+ \w+ -->)\d"),
    ],
)
def test_a_changed_number_is_noticed_and_mended(tables, results, document, old):
    right = (REPOSITORY / document).read_text()
    wrong, n = re.subn(old, r"\g<1>x", right, count=1)
    assert n == 1
    mended, stale = tables.rewrite(wrong, results, document)
    assert [line.split(": ")[0] for line in stale] == [document]
    assert mended == right


def test_a_check_changes_nothing_and_the_program_mends(tables, copy):
    path = copy / "README.md"
    right = path.read_text()
    wrong = right.replace("| MindDiffuser, stage 1 | ", "| MindDiffuser, stage 1 | 1")
    path.write_text(wrong)
    assert tables.update(copy, check=True) == ["README.md: readme"]
    assert path.read_text() == wrong
    tables.update(copy)
    assert path.read_text() == right


def test_a_changed_result_makes_documents_stale(tables, copy):
    path = copy / "docs" / "results" / "summary.csv"
    text = path.read_text()
    (row,) = re.findall(r"^all,minddiffuser/stage1,pixcorr,.*$", text, re.MULTILINE)
    cells = row.split(",")
    cells[3] = f"{float(cells[3]) + 0.1:.6f}"
    path.write_text(text.replace(row, ",".join(cells)))
    assert {"README.md: readme", "docs/results.md: scores"} <= set(tables.update(copy, check=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: no_such -->\n<!-- /table -->\n", "no such table"),
        ("It is <!-- n: mean minddiffuser/stage3 pixcorr -->.1<!-- /n -->.", "stage3"),
        ("It is <!-- n: mean minddiffuser/stage1 pixcor -->.1<!-- /n -->.", "pixcor"),
        ("It is <!-- n: median minddiffuser/stage1 pixcorr -->.1<!-- /n -->.", "no such expression"),
        ("It is <!-- n: flow Subject04 control/mover -->.1<!-- /n -->.", "Subject04"),
        ("It is <!-- n: hits Subject01 corrected network small image 11 -->1 %<!-- /n -->.", "hits Subject01"),
        ("It is <!-- n: mean minddiffuser/stage1 pixcorr -->.1.", "not closed"),
        ("It\n<!-- n: mean minddiffuser/stage1 pixcorr -->.1<!-- /n -->.", "begins the line"),
    ],
)
def test_what_cannot_be_made_is_an_error_that_names_it(tables, results, text, message):
    with pytest.raises(ValueError, match=message):
        tables.rewrite(text, results, "page.md")


def test_the_other_direction_of_a_pair_has_the_other_sign(tables, results):
    row = tables.pair(results, "minddiffuser/stage2", "minddiffuser/stage1", "pixcorr")
    turned = tables.pair(results, "minddiffuser/stage1", "minddiffuser/stage2", "pixcorr")
    assert turned["difference"] == -row["difference"]
    assert (turned["ci_low"], turned["ci_high"]) == (-row["ci_high"], -row["ci_low"])
    assert turned["p_holm"] == row["p_holm"]


def test_films_are_bold_where_they_are_shown_to_move_as_the_true_ones_do(results):
    def bold(films) -> set[tuple[str, str]]:
        head, *rows = film_tables.motion(films)
        subjects = [name.split(",")[0] for name in head[1:]]
        cells = ((subject, row[0], cell) for row in rows for subject, cell in zip(subjects, row[1:], strict=True))
        return {(subject, system) for subject, system, cell in cells if cell.startswith("**")}

    rows = results.films["motion"].to_dict("records")
    label = film_tables.CATALOGUE.system
    expected = {(row["subject"], label(row["system"]).label) for row in rows if verdict.is_moving(row)}
    assert ("Subject01", "ceiling") in bold(results.films)
    assert bold(results.films) == expected
    assert bold({**results.films, "motion": results.films["motion"].assign(p_holm=1.0)}) == set()


def test_differences_of_the_claim_are_those_of_the_means(results):
    """Of the mover, which is scored on the same clips in all: within a subject, and between two."""
    films, mover = results.films, "control/mover"
    means = films["motion"].set_index(["subject", "system"])["flow_cosine"]
    within = means["Subject01", mover] - means["Subject01", "control/other_clip"]
    between = means["Subject01", mover] - means["Subject03", mover]
    for other, expected in (("other_clip", within), ("Subject03", between)):
        assert float(film_tables.difference(films, "Subject01", mover, other).split()[0]) == pytest.approx(
            expected, abs=6e-4
        )


def test_hits_are_divided_by_chance(results):
    of = ("Subject01", "corrected", "network", "small", "image", "10")
    share = float(film_tables.hits(results.films, *of).removesuffix(" %")) / 100
    n = results.films["retrieval"].query("gallery == 'small'")["n"].iloc[0]
    assert float(film_tables.times(results.films, *of)) == pytest.approx(share / (10 / n), abs=0.12)


def test_two_rows_of_a_number_are_an_error(results):
    motion = results.films["motion"]
    with pytest.raises(LookupError, match="2 rows"):
        film_tables.flow({"motion": pd.concat([motion, motion])}, "Subject01", "control/mover")


def test_a_run_without_all_result_files_is_refused(tables, tmp_path):
    with pytest.raises(ValueError, match=r"summary\.csv"):
        tables.take(tmp_path, tmp_path / "docs")
    with pytest.raises(ValueError, match=r"Subject03/maps/motion_areas\.csv.*make film-all"):
        tables.take(tmp_path, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 250


def test_result_files_are_small():
    files = [path for path in (REPOSITORY / "docs" / "results").rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_links_and_pictures_exist(name):
    path = REPOSITORY / name
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    for target in targets:
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


@pytest.mark.parametrize("name", NAMES)
def test_scripts_targets_and_configurations_exist(name):
    text = (REPOSITORY / name).read_text()
    paths = re.findall(
        r"(?:python |\b(?=configs/|benchmarks/|evaluation/|feature_decoding/))([\w/]+\.(?:py|yaml))", text
    )
    assert [path for path in paths if not (REPOSITORY / path).is_file()] == []
    makefile = (REPOSITORY / "Makefile").read_text()
    commands = set(re.findall(r"(?:^    |`)make ([a-z0-9-]+)", text, re.MULTILINE))
    assert {command for command in commands if not re.search(rf"^{command}:", makefile, re.MULTILINE)} == set()


def test_every_page_is_named_in_readme():
    readme = (REPOSITORY / "README.md").read_text()
    assert [name for name in NAMES[1:] if f"({name})" not in readme] == []
