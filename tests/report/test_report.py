"""The report: what it says, that it says it safely, and that nothing stops it."""

from __future__ import annotations

import json
import re
import shutil
import statistics
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies as st

from desk import ACCURACIES, CLASSES, NASTY, desk, seed_folder
from snnlab.cli import main as cli
from snnlab.errors import UsageError
from snnlab.experiment.statistics import limited, spread_of
from snnlab.report import write as reports
from snnlab.report.found import read
from snnlab.report.statistics import confusion_of

VOID = {"meta", "br", "img"}


class Reader(HTMLParser):
    """Tags of a page, its tables and its text; every tag must be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text: list[str] = []
        self._table: list[list[str]] = []
        self._caption = ""

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._table, self._caption = [], ""
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append("")

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._table

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self._table[-1][-1] += data
        elif self.open and self.open[-1] == "caption":
            self._caption += data


def parsed(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Page and Markdown of the desk, made by the command; no run folder is changed."""
    home, out = tmp_path_factory.mktemp("desk"), tmp_path_factory.mktemp("out") / "page.html"
    runs = desk(home)
    before = contents(home)
    assert cli.main(["report", *map(str, runs), "--out", str(out), "--markdown"]) == 0
    assert contents(home) == before
    assert {p.name for p in out.parent.iterdir()} == {"page.html", "page.md"}
    return out, out.with_suffix(".md")


def test_the_page_says_how_the_runs_differ_then_what_they_found(made: tuple[Path, Path]) -> None:
    page = parsed(made[0])
    (differ, *_), (results, *_) = (
        [c for c in page.tables if c.startswith(words)] for words in ("Options in", "Test acc")
    )
    assert list(page.tables).index(differ) == 0
    columns = page.tables[differ][0]
    rows = {row[0]: dict(zip(columns, row)) for row in page.tables[differ][1:]}
    assert rows["trials"]["method"] == "bptt"
    assert (rows["diag"]["method"], rows["diag"]["lr"]) == (
        "diag",
        "0.25",
    )
    assert "seed" not in columns
    run = {row[0]: row for row in page.tables["Experiments"]}
    assert run["trials"][4:] == ["0, 1, 2, 3", "3 of 4 finished, 1 failed"]
    assert run["diag"][4:] == ["0, 1", "2 of 2 finished"]
    assert run["never"][5] == "not run"
    assert run["going"][5].startswith("interrupted after epoch 2 and 3 batches")
    assert "damaged" in run
    found = {row[0]: row for row in page.tables[results]}["trials"]
    mean, sd = 100 * statistics.fmean(ACCURACIES), 100 * statistics.stdev(ACCURACIES)
    low, high = scipy.stats.t.interval(0.95, 2, mean, sd / 3**0.5)
    assert found[1:6] == [
        "3",
        "1",
        f"{mean:.2f}",
        f"{sd:.2f}",
        f"{low:.2f} to {min(high, 100):.2f}",
    ]
    alone = next(row for row in page.tables[results] if row[0].startswith("<script>"))
    assert alone[1:6] == ["1", "0", "70.00", "-", "60.00 to 80.00 (samples)"]
    text = " ".join(" ".join(page.text).split())
    assert "snnlab run image-classification --method diag --epochs 2 --lr 0.25" in text
    assert "diverged in epoch 2" in text
    for problem in (
        "results.json cannot be read", "metrics.jsonl holds no row", "must be CSV",
        "checkpoint 2-batch-3 is passed over", "Figures that cannot be read",
    ):  # fmt: skip
        assert problem in text
    costs = page.tables["Costs, mean over seeds"]
    assert [row[:3] for row in costs[1:]] == [
        ["synaptic operations", "1,001", "1,000"], ["activation sparsity by layer", "0.5, 0.25",
        "0.5, 0.25"], ["reasons", "not <counted>", "not <counted>"],
    ]  # fmt: skip
    assert "definitions: <i>of a paper</i>" in text
    assert page.tables["Values of the parameters of trials"][1] == [
        "map.weight", "40", "0.5", "0.888", "-1", "2", "2.5%"
    ]  # fmt: skip


def test_the_page_needs_nothing_else_and_escapes_names(made: tuple[Path, Path]) -> None:
    page = parsed(made[0])
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "b", "i"}
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "style"):
            value = attributes.get(name)
            assert value is None or value.startswith(
                "#" if tag == "a" else "data:image/png;base64,"
            )
        assert not [name for name in attributes if name.startswith("on")]
    style = re.search(r"<style>(.*)</style>", made[0].read_text(), re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert NASTY.replace("/", "%")[:30] in " ".join(page.text)
    assert "<b>may|be</b>" in " ".join(page.text)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 4  # of two experiments, one run and the sweep; not the damaged one
    assert all(image["alt"] for image in images)
    assert made[0].stat().st_size < 400_000


def test_the_markdown_is_the_same_in_tables(made: tuple[Path, Path]) -> None:
    text, page = made[1].read_text(), parsed(made[0])
    assert "<script>" not in re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    heads = [line.lstrip("#") for line in text.splitlines() if line.startswith("###")]
    for caption, rows in page.tables.items():
        assert f" {reports.marked(caption)}" in heads
        for row in rows:
            assert f"| {' | '.join(map(reports.marked, row))} |" in text
    images = re.findall(r"\]\(<([^>]+)>\)", text)
    assert images
    assert all((made[1].parent / path.replace("%25", "%")).is_file() or "%" in path
               for path in images)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{run} --out {home}/page.pdf", "must end in .html"),
        ("{run} --out {home}/page.md --markdown", "must end in .html"),
        ("{run} --out {home}/own.html --markdown", "own.md: there is a file that is no report"),
        ("{run} --out {home}/none/page.html", "there is no folder"),
        ("{run} --out {home}/mine.html", "there is a file that is no report"),
        ("{run} --out {home}", "must end in .html"),
        ("{run} --out {home}/folder.html", "is a folder"),
        ("{run} {run} --out {home}/page.html", "is given twice"),
        ("{home}/nothing --out {home}/page.html", "holds no run"),
    ],
)
def test_refusals(tmp_path: Path, arguments: str, words: str) -> None:
    seed_folder(tmp_path / "run", 0, 0.9)
    (tmp_path / "mine.html").write_text("<p>my own")
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "own.md").write_text("# Notes\n")
    before = contents(tmp_path)
    given = arguments.format(run=tmp_path / "run", home=tmp_path).split()
    with pytest.raises(UsageError, match=words):
        cli.main(["report", *given])
    assert contents(tmp_path) == before


def test_without_jinja2_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(reports, "missing", lambda module, extra: f"{module} of the extra {extra}")
    with pytest.raises(UsageError, match="a report needs jinja2 of the extra report"):
        reports.write(["run"], tmp_path / "page.html")


def test_a_report_is_replaced_and_a_folder_of_runs_is_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for seed in (0, 1):
        seed_folder(tmp_path / "runs" / f"run-{seed}", seed, 0.9, exp_name=f"name-{seed}")
    out = tmp_path / "page.html"
    for _ in range(2):
        assert cli.main(["report", str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}  0.")
    assert "is there" not in out.read_text()
    seed_folder(tmp_path / "runs" / "run-2", 1, 0.9, exp_name="name-2")
    text = (tmp_path / "runs" / "run-2" / "config.yaml").read_text()
    (tmp_path / "runs" / "run-2" / "config.yaml").write_text(text.replace("jax: 0.9.2", "jax: 1"))
    assert cli.main(["report", str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert "seed 1 is there 2 times" in out.read_text()
    page = parsed(out)
    assert ["jax", "0.9.2 / 1"] in page.tables["Versions and machine"]
    shutil.rmtree(tmp_path / "runs" / "run-2")
    (one,) = read([str(tmp_path / "runs")])
    assert (len(one.seeds), one.name) == (2, "run")
    seed_folder(tmp_path / "runs" / "sweep" / "lr-1", 0, 0.9, lr=1.0)
    (tmp_path / "runs" / "sweep" / "sweep.yaml").write_text("lr-1: []\n")
    assert [e.name for e in read([str(tmp_path / "runs")])] == ["lr 0.002", "lr-1"]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = ("score", "test_accuracy", "test_loss", "seconds", "epochs", "firing_rates", "warnings",
        "costs", "test_accuracy_by_class", "test_accuracy_wilson95", "test_samples", "seed",
        "n_parameters", "error", "failed", "vmapped")  # fmt: skip


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seed_folder(tmp_path_factory.mktemp("fuzz") / "run", 0, 0.9)


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    results=st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1),
    row=st.dictionaries(st.sampled_from(["loss", "accuracy", "firing_rates", "grad_norm", "balance",
                                         "epoch", "split"]), JSON),
)  # fmt: skip
def test_whatever_files_hold_there_is_a_report(
    one_run: Path, results: dict[str, Any], row: dict[str, Any]
) -> None:
    (one_run / "results.json").write_text(json.dumps(results))
    rows = [{"epoch": 1, "split": "val", **row}, {"epoch": 1, "split": "train", **row},
            {**row, "split": "test", "epoch": 2}]  # fmt: skip
    (one_run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    content = {"command": "", **reports.content_of(read([str(one_run)]))}
    reader = Reader()
    reader.feed(reports.page(content))
    assert reader.open == []
    assert reports.text(content, one_run)


def test_what_a_program_found_in_rows_is_a_table(tmp_path: Path) -> None:
    """A gradient analysis: it is named, its seeds are in one folder, and it has not failed."""
    run = tmp_path / "angles"
    run.mkdir()
    (run / "config.yaml").write_text(
        "analysis:\n  rules: diag,immediate\ndata:\n  data_length: 30\n"
    )
    rows = [{"model": "lif-delta", "rule": rule, "update": 0, "cosine": cosine}
            for rule, cosine in (("diag", 0.85), ("immediate", None))]  # fmt: skip
    (run / "results.json").write_text(json.dumps({"seeds": [3, 4], "agreement": rows}))
    assert cli.main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    page = parsed(tmp_path / "page.html")
    (_, experiment) = page.tables["Experiments"]
    assert experiment[1] == "gradient-analysis"
    assert experiment[4:] == ["3, 4", "finished"]
    assert page.tables["agreement of angles"] == [
        ["rule", "cosine"], ["diag", "0.85"], ["immediate", "-"],
    ]  # fmt: skip
    text = " ".join(page.text)
    assert "The same in all rows: model lif-delta, update 0." in text
    assert "Failures" not in text


def test_spread_and_confusion() -> None:
    assert spread_of([]) is None
    assert spread_of([2.0]) == (1, 2.0, None, None, None)
    values = [1.0, 2.0, 4.0, 8.0]
    found = spread_of(values)
    assert found is not None
    wanted = scipy.stats.t.interval(0.95, 3, np.mean(values), scipy.stats.sem(values))
    np.testing.assert_allclose(found[3:], wanted, rtol=1e-9)
    rows = [{"label": a, "prediction": b} for a, b in ("00", "0x", "x0", "xx", "10", "22")]
    seen = confusion_of(rows, ("0", "x"))
    assert seen.names == ("0", "x", "1", "2")
    assert seen.counts.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert confusion_of([{"label": "10", "prediction": "9"}]).names == ("9", "10")


def test_classes_are_those_of_the_run(made: tuple[Path, Path]) -> None:
    table = parsed(made[0]).tables["Accuracy of each class, trials"]
    assert [row[1] for row in table[1:]] == list(CLASSES)


@pytest.mark.slow
def test_twenty_runs_take_less_than_twenty_seconds(tmp_path: Path) -> None:
    import subprocess
    import sys
    import time

    from run_folders import checkpoint, config_of

    weights = {f"layers.{k}.weight": np.ones((256, 512), np.float32) for k in range(3)}
    for k in range(20):
        path = seed_folder(tmp_path / "runs" / f"run-{k}", k % 5, 0.9, n_rec=10 + k // 5)
        config = config_of("image-classification", n_rec=10 + k // 5)
        checkpoint(path, 2, 0, config, "image-classification", weights)
    command = [sys.executable, "-m", "snnlab", "report", str(tmp_path / "runs"), "--out",
               str(tmp_path / "page.html")]  # fmt: skip
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert time.perf_counter() - began < 20


def test_intervals_end_where_scores_do() -> None:
    wide = spread_of([0.5, 1.0])  # 0.75 +- 3.2
    assert limited(wide, share=True) == (0.0, 1.0)
    assert limited(wide, share=False) == (0.0, pytest.approx(0.75 + 12.7062 * 0.25, abs=1e-3))
    assert limited(spread_of([0.5]), share=True) == limited(None, share=True) == (None, None)
