"""Reports: complete, offline, whole when files are missing or broken, and deaf to hostile text."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelworks.core.errors import UserError
from modelworks.report import audit as audit_report
from modelworks.report import card, compare, notebook, run

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>{{ 7*7 }}`|*[a](javascript:b)"


class Page(HTMLParser):
    """Collects what a browser would see, and refuses what is not well nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def offline(text: str) -> Page:
    """A page without scripts, handlers or anything fetched."""
    page = Page(text)
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form"), tag
        for key, value in attrs.items():
            assert not key.startswith("on"), (tag, key)
            if key in ("src", "href", "xlink:href", "action", "srcset"):
                assert value is not None
                assert value.startswith(("data:image/", "data:audio/", "#")), (tag, value)
    assert "@import" not in text
    assert not re.search(r"url\(", text)
    return page


@pytest.mark.parametrize("name", ["digits", "reviews", "diabetes", "gan"])
def test_report_is_one_offline_accessible_page(runs: Path, name: str):
    page = offline(run.write(runs / name).read_text("utf-8"))
    for chart in page.of("svg"):
        assert chart["role"] == "img"
        assert chart["aria-label"]
    assert all(image["alt"] for image in page.of("img"))
    for heading in (
        "Data",
        "Learning",
        "Evaluation",
        "Largest errors" if name == "diabetes" else "Most confident mistakes",  # numbers have no confidence
        "Recipe",
        "Environment and data",
    ):
        assert heading in page.text
    ids = {attrs["id"] for _, attrs in page.tags if attrs.get("id")}
    assert {link["href"][1:] for link in page.of("a")} <= ids
    assert not list(runs.glob("**/*.partial"))


def test_report_tells_the_figures_of_the_run(runs: Path):
    page = offline(run.write(runs / "digits").read_text("utf-8"))
    evaluation = json.loads((runs / "digits" / "evaluation.json").read_text())
    accuracy = evaluation["splits"]["test"]["accuracy"]
    assert f"{accuracy['value']:.4f}" in page.text
    assert f"95 % interval {accuracy['low']:.4f} – {accuracy['high']:.4f}" in page.text
    assert f"has {evaluation['baseline']['test']['accuracy']['value']:.4f}" in page.text
    matrix = evaluation["details"]["test"]["confusion"]
    assert f"3 taken for 5: {matrix[3][5]} of {sum(matrix[3])}" in page.text
    pictures = [image["src"] for image in page.of("img")]
    assert base64.b64encode(
        sorted((runs / "digits" / "gallery").iterdir())[0].read_bytes()
    ).decode() in "".join(pictures)
    assert {image["class"] for image in page.of("img")} == {
        "pixel"
    }  # 8 × 8 pixels are enlarged, and stay sharp
    assert all(int(image["width"]) == 128 for image in page.of("img"))
    assert "model: kind: cnn depth: 3" in page.text


def test_texts_sounds_and_samples_are_shown(runs: Path):
    page = offline(run.write(runs / "reviews").read_text("utf-8"))
    marks = page.of("mark")
    assert ("--w:1.0", None) in {(mark["style"], mark.get("class")) for mark in marks}
    assert any(mark.get("class") == "against" for mark in marks)
    assert "rose to" in page.text
    assert "39 % " in page.text or "have the same inputs as a row of train" in page.text
    page = offline(run.write(runs / "gan").read_text("utf-8"))
    assert page.of("audio")[0]["src"].startswith("data:audio/wav;base64,")
    assert "controls" in page.of("audio")[0]
    assert len(page.of("img")) == 12
    assert "step 0" in page.text
    assert "step 2,000" in page.text


def test_empty_folder_says_what_is_missing(tmp_path: Path):
    (tmp_path / "bare").mkdir()
    page = offline(run.write(tmp_path / "bare").read_text("utf-8"))
    for name in (
        "recipe.yaml",
        "metrics.jsonl",
        "evaluation.json",
        "data.json",
        "environment.json",
        "gallery.json",
    ):
        assert f"{name} is not in the folder" in page.text
    assert "not been evaluated" in card.write(tmp_path / "bare").read_text("utf-8")
    with pytest.raises(UserError, match="no such Run folder"):
        run.write(tmp_path / "nowhere")


def test_hostile_text_stays_text(runs: Path, tmp_path: Path):
    """The same hostile string as run name, column, class, text, metric, path and setting."""
    folder = runs / "reviews"
    for name in (
        "recipe.yaml",
        "evaluation.json",
        "data.json",
        "gallery.json",
        "environment.json",
        "metrics.jsonl",
    ):
        path = folder / name
        escaped = json.dumps(HOSTILE)[1:-1]
        text = path.read_text("utf-8")
        if name == "recipe.yaml":
            text = text.replace("评价", '"' + escaped + '"').replace("transformer", '"' + escaped + '"')
        else:
            for word in ("评价", "差评", "正文", "accuracy", "cpu", "物流"):
                text = text.replace(word, escaped)
        path.write_text(text, "utf-8")
    pages = [
        run.write(folder).read_text("utf-8"),
        compare.write([folder, runs / "digits"], tmp_path / "c.html").read_text("utf-8"),
        audit_report.html(json.loads((folder / "data.json").read_text("utf-8"))["audit"]),
        notebook.run_html(folder),
        notebook.audit_html(json.loads((folder / "data.json").read_text("utf-8"))["audit"]),
    ]
    for text in pages:
        page = offline(text)
        assert "alert('x')" in page.text or "alert('x')" in str(page.tags)  # it is shown
        assert "{{ 7*7 }}" in text
    written = card.write(folder).read_text("utf-8")
    assert "<script" not in re.sub(r"`[^`]*`", "", written)  # outside code spans nothing is HTML
    assert not re.search(r"(?<!\\)\[a(?<!\\)\]\(javascript", re.sub(r"`[^`]*`", "", written))
    assert (
        len({line.count("|") - line.count("\\|") for line in written.splitlines() if line.startswith("|")})
        == 1
    )


def test_gallery_reads_nothing_outside_the_run(runs: Path):
    secret = runs / "secret.png"
    secret.write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    (runs / "digits" / "gallery" / "link.png").symlink_to(secret)
    (runs / "digits" / "gallery" / "page.svg").write_text("<svg onload='alert(1)'/>")
    names = [
        "../secret.png",
        str(secret),
        "gallery/link.png",
        "gallery/page.svg",
        "gallery",
        "gallery/none.png",
        "a\0b",
    ]
    rows = [
        {
            "row": i,
            "truth": "a",
            "prediction": "b",
            "confidence": 1,
            "inputs": {"image": {"type": "image", "file": name}},
        }
        for i, name in enumerate(names)
    ]
    (runs / "digits" / "gallery.json").write_text(json.dumps(rows))
    page = offline(run.write(runs / "digits").read_text("utf-8"))
    assert not page.of("img")
    assert base64.b64encode(b"secret").decode()[:6] not in page.text


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS = [
    "primary",
    "splits",
    "baseline",
    "details",
    "test",
    "train",
    "accuracy",
    "value",
    "low",
    "high",
    "labels",
    "confusion",
    "classes",
    "label",
    "truth",
    "hits",
    "predicted",
    "reliability",
    "confidence",
    "rows",
    "roc",
    "pr",
    "points",
    "residuals",
    "audit",
    "columns",
    "findings",
    "severity",
    "message",
    "name",
    "kind",
    "histogram",
    "edges",
    "counts",
    "top",
    "balance",
    "duplicates",
    "near_duplicates",
    "suspicious_labels",
    "examples",
    "inputs",
    "type",
    "file",
    "weights",
    "tokens",
    "row",
    "prediction",
    "cleaning",
    "hashes",
    "step",
    "metrics",
    "loss",
    "split",
]
shaped_values = st.recursive(
    st.one_of(
        st.none(),
        st.integers(-3, 10**20),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(["image", "text", "number", "train"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_json_gives_a_report(tmp_path: Path, data):
    """Whatever the files hold, there is a whole offline page, a card, a fragment and a comparison."""
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    values = st.one_of(json_values, shaped_values)
    for name in ("evaluation.json", "data.json", "gallery.json", "environment.json", "recipe.yaml"):
        (folder / name).write_text(json.dumps(data.draw(values)), "utf-8")
    lines = data.draw(st.lists(values, max_size=4))
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{", "utf-8")
    offline(run.write(folder).read_text("utf-8"))
    offline(notebook.run_html(folder))
    offline(compare.write([folder, folder], tmp_path / "c.html").read_text("utf-8"))
    card.write(folder)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), shaped_values, max_size=8))
def test_any_audit_is_shown(audit):
    from rich.console import Console

    offline(audit_report.html(audit))
    audit_report.terminal(audit, Console(width=80, file=open("/dev/null", "w")))  # noqa: SIM115


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["diabetes", "reviews"])
def test_terminal_audit_fits(made: Path, name: str, width: int):
    """No line is wider than the terminal; every column and finding is there."""
    from rich.cells import cell_len
    from rich.console import Console

    audit = json.loads((made / name / "data.json").read_text("utf-8"))["audit"]
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    audit_report.terminal(audit, console)
    shown = console.export_text()
    assert max(map(cell_len, shown.splitlines())) <= width
    for column in audit["columns"]:
        assert column["name"] in shown
        assert column["kind"] in shown
    flat = "".join(shown.split())
    for finding in audit["findings"]:
        assert "".join(finding["message"].split()) in flat
        assert "".join(finding["remedy"].split()) in flat


def test_comparison_shows_only_what_differs(runs: Path):
    shutil.copytree(runs / "digits", runs / "other")
    recipe = runs / "other" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("width: 32", "width: 8").replace("epochs: 10", "epochs: 20"))
    evaluation = runs / "other" / "evaluation.json"
    worse = json.loads(evaluation.read_text())
    for key in ("value", "low", "high"):
        worse["splits"]["test"]["accuracy"][key] -= 0.3
    evaluation.write_text(json.dumps(worse))
    found = compare.context([runs / "digits", runs / "other"])
    assert dict(found["settings"]) == {"model.width": ["32", "8"], "train.epochs": ["10", "20"]}
    accuracy = found["metrics"][0]
    assert [cell["best"] for cell in accuracy["cells"]] == [True, False]
    loss = next(row for row in found["metrics"] if row["name"] == "log_loss")
    assert not any(cell["best"] for cell in loss["cells"])  # equal: none is best
    assert "do not overlap" in found["sentences"][0]["text"]
    assert found["sentences"][0]["tone"] == "error"
    assert found["same_data"] is True
    with pytest.raises(UserError, match="two Runs"):
        compare.context([runs / "digits"])


def test_card_derives_from_facts(runs: Path):
    text = card.write(runs / "diabetes").read_text("utf-8")
    audit = json.loads((runs / "diabetes" / "data.json").read_text())["audit"]
    age = next(c for c in audit["columns"] if c["name"] == "age")
    assert f"`age` {age['minimum']:.0f} … {age['maximum']:.0f}" in text
    assert "it gives `target` (task: regress, architecture: tabm)" in text
    assert "modelworks predict" in text
    assert audit["fingerprint"] in text
    rmse = json.loads((runs / "diabetes" / "evaluation.json").read_text())["splits"]["test"]["rmse"]
    assert f"| RMSE | {rmse['value']:.2f} ({rmse['low']:.2f} – {rmse['high']:.2f}) |" in text
    assert "warning" in card.write(runs / "reviews").read_text("utf-8")
