"""deploy/: what its files name exists, and what can read them reads them."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from modelworks.core.names import own
from modelworks.stages import export, serve

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def test_the_container_copies_and_asks_for_what_exists() -> None:
    text = (DEPLOY / "Containerfile").read_text("utf-8")
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', text)
    declared = (ROOT / "pyproject.toml").read_text("utf-8")
    assert all(re.search(rf"^{extra} = \[", declared, re.MULTILINE) for extra in extras.split(","))
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    command = yaml.safe_load(entry)
    parser = argparse.ArgumentParser()
    serve.arguments(parser)
    args = parser.parse_args([*command[2:], "titanic"])
    assert (command[:2], args.host, args.port) == (["modelworks", "serve"], "0.0.0.0", 8080)
    assert "/v2/health/live" in text


def test_vllm_opens_what_export_writes() -> None:
    script = (DEPLOY / "vllm.sh").read_text("utf-8")
    (flags,) = re.findall(r"modelworks export \"\$run\" (.*)", script)
    parser = argparse.ArgumentParser()
    export.arguments(parser)
    assert parser.parse_args(["RUN", *flags.replace('"', "").split()]).format == "hf"
    assert subprocess.run(["sh", "-n", str(DEPLOY / "vllm.sh")], check=False).returncode == 0
    deployment, service = yaml.safe_load_all((DEPLOY / "vllm.yaml").read_text("utf-8"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == service["spec"]["ports"][0]["targetPort"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]


def test_nginx_reads_its_file(tmp_path: Path) -> None:
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("nginx is not installed")
    command = [nginx, "-t", "-p", str(tmp_path), "-c", str(DEPLOY / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "syntax is ok" in done.stderr


def test_the_page_names_every_format() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    assert all(f"| `{name}` |" in page for name in own("engine/export"))
