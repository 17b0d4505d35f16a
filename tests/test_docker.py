"""The images, as far as that can be shown without an engine: the linter agrees, and every step of the build runs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.dockerfile import Image, images, of

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
READ_ONLY = stat.S_IRUSR | stat.S_IXUSR | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH


def test_the_linter_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint is not to be had for this machine")
    done = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_is_pinned_and_nobody_is_root() -> None:
    bases = {base.split()[0] for base in of("FROM")} - {"installed"}
    assert [re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base) is not None for base in bases] == [True]
    assert of("USER") == ["65532:65532"]


def test_all_that_is_copied_is_let_in() -> None:
    """Nothing else is: no key or checkpoint that lies about gets into an image."""
    copied = {name for line in of("COPY") for name in line.split()[:-1]}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two RUN steps make of what is copied, in a virtual environment instead of an image."""
    base = tmp_path_factory.mktemp("image")
    source, wheels, python = base / "src", base / "wheels", base / "venv" / "bin" / "python"
    source.mkdir()
    for name in (name for line in of("COPY") for name in line.split()[:-1]):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", base / "venv"], check=True, timeout=120)
    for step in of("RUN"):
        command = re.sub(r"^--mount=\S+ ", "", step).partition(" && install --directory")[0]
        command = command.replace("/wheels", str(wheels)).replace("python -", f"{python} -")
        environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run(
            command, shell=True, cwd=source, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
    return base


@pytest.mark.timeout(600)
def test_both_images_do_their_work_where_nothing_can_be_written(image: Path, tmp_path: Path) -> None:
    """Their entry points, from an installation that cannot be changed: both are found healthy, and are used."""
    for folder, _, _ in os.walk(image / "venv"):
        os.chmod(folder, READ_ONLY)
    binaries = image / "venv" / "bin"
    environment = {"PATH": str(binaries), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path)}
    server, service = images()["oss-local"], images()["oss-tailer"]
    command = [*server.entrypoint, *server.command]
    arguments = ["127.0.0.1" if word == "0.0.0.0" else str(tmp_path) if word == "/data" else word for word in command]
    arguments[arguments.index("9000")] = "0"
    with subprocess.Popen(
        [str(binaries / arguments[0]), *arguments[1:]],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        exported = {}
        for line in iter(running.stdout.readline, ""):
            if line.startswith("unset"):
                break
            name, _, value = line.removeprefix("export ").rstrip().partition("=")
            exported[name] = value
        check = healthy(server, binaries, exported["OSS_ENDPOINT"].rpartition(":")[2])
        assert check(environment) == 0
        given = {**environment, **exported}
        address = "oss://demo/log"
        subprocess.run([binaries / "oss-append", address], input=b"one\n", env=given, check=True, timeout=60)
        mirror_by_the_service(service, binaries, tmp_path, given)
        (copy,) = (tmp_path / "mirror").rglob("log")
        verify = [str(binaries / service.entrypoint[0]), "verify", str(copy), address]
        assert subprocess.run(verify, env=given, check=False, timeout=60).returncode == 0
        running.terminate()
    assert check(environment) != 0
    assert (tmp_path / "demo" / "log").read_bytes() == b"one\n"


def mirror_by_the_service(service: Image, binaries: Path, folder: Path, environment: dict[str, str]) -> None:
    """Run the image's command on a configuration until it is healthy and has the object, then stop it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "service.toml"
    config.write_text(
        f"""checkpoint = "state.db"
        server.listen = "127.0.0.1:{port}"
        sinks.mirror = {{ type = "file", path = "mirror" }}
        groups.all = {{ objects = ["oss://demo/"], sink = "mirror" }}"""
    )
    command = [str(config) if word.endswith(".toml") else word for word in (*service.entrypoint, *service.command)]
    check = healthy(service, binaries, str(port))
    with subprocess.Popen([str(binaries / command[0]), *command[1:]], env=environment) as running:
        deadline = time.monotonic() + 60
        while check(environment) != 0 or not [*(folder / "mirror").rglob("log")]:
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.05)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
            assert b"</html>" in page.read()
        running.terminate()
        assert running.wait(60) == 0


def healthy(image: Image, binaries: Path, port: str) -> Callable[[dict[str, str]], int]:
    """The image's health check, at another port."""
    command = [re.sub(r"(?<=127\.0\.0\.1:)\d+", port, word) for word in image.health]
    return lambda environment: (
        subprocess.run(
            [str(binaries / command[0]), *command[1:]], env=environment, capture_output=True, check=False, timeout=60
        ).returncode
    )
