"""What lies in deploy/ agrees with the code; and the compose file's services do their work, each by the command, in the
user, the environment and the mounts that it has there, though no engine is needed."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

import tailer.local
from tailer.cli.service import _parser
from tailer.configfile import ServiceConfig, find_problems, load_config
from tests.containers import Container, Network
from tests.dockerfile import Image, images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "oss-tailer.service"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CLUSTER = {one["kind"]: one for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}
IMAGES = images()
BINARIES = Path(sys.executable).parent
BUILT = {one["image"]: one["build"]["target"] for one in COMPOSE["services"].values() if "build" in one}


class Mount(NamedTuple):
    source: str
    target: str
    is_writable: bool

    @classmethod
    def parse(cls, text: str) -> Mount:
        source, target, *mode = text.split(":")
        return cls(source, target, mode != ["ro"])

    @property
    def is_volume(self) -> bool:
        return not self.source.startswith(".")


class Service:
    """One of the compose file, with what it has from its image."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.said: dict[str, Any] = COMPOSE["services"][name]
        target = BUILT.get(self.said["image"])
        self.image = IMAGES[target] if target else Image()

    @property
    def is_ours(self) -> bool:
        return self.said["image"] in BUILT

    @property
    def command(self) -> list[str]:
        words = [*self.said.get("entrypoint", self.image.entrypoint), *self.said.get("command", self.image.command)]
        return [word.replace("$$", "$") for word in words]

    @property
    def health(self) -> list[str]:
        check = self.said.get("healthcheck", {})
        return check["test"][1:] if "test" in check else [] if "disable" in check else [*self.image.health]

    @property
    def user(self) -> str:
        return str(self.said.get("user", self.image.user))

    @property
    def mounts(self) -> list[Mount]:
        return [Mount.parse(text) for text in self.said.get("volumes", ())]

    @property
    def names(self) -> list[str]:
        return [self.name, *self.said.get("networks", {}).get("default", {}).get("aliases", ())]


SERVICES = {name: Service(name) for name in COMPOSE["services"]}
OURS = [one for one in SERVICES.values() if one.is_ours]


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Service:
    return SERVICES[request.param]


# --- the compose file


def test_nothing_may_more_than_it_needs(service: Service) -> None:
    said = service.said
    assert said["read_only"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+m", said["mem_limit"])
    assert said["pids_limit"] <= 256
    assert not said.keys() & {"privileged", "cap_add", "network_mode", "pid", "devices"}
    assert service.user in (
        ("65532:65532",) if service.is_ours else ("",)
    )  # the others' images have users of their own


def test_nothing_is_reached_from_other_machines(service: Service) -> None:
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in service.said.get("ports", ()))


def test_images_are_built_here_or_pinned(service: Service) -> None:
    if service.is_ours:
        builds = [
            one["build"]
            for one in COMPOSE["services"].values()
            if one["image"] == service.said["image"]
            if "build" in one
        ]
        (build,) = builds  # two that export one image at the same time get in each other's way
        assert (DEPLOY / build["context"]).resolve() == ROOT
    else:
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service.said["image"])


def test_whoever_serves_is_asked_how_it_fares(service: Service) -> None:
    assert bool(service.health) == (service.name != "producer")


def test_mounts_are_there_and_files_of_ours_are_read_only(service: Service) -> None:
    for mount in service.mounts:
        if mount.is_volume:
            assert mount.source in COMPOSE["volumes"]
        else:
            assert (DEPLOY / mount.source).exists()
            assert not mount.is_writable


def test_every_volume_belongs_to_one_service() -> None:
    used = [mount.source for one in SERVICES.values() for mount in one.mounts if mount.is_volume]
    assert sorted(used) == sorted(COMPOSE["volumes"])


def test_grafana_finds_dashboards_and_prometheus_where_they_are() -> None:
    mounts = {mount.target: DEPLOY / mount.source for mount in SERVICES["grafana"].mounts}
    provisioning = mounts["/etc/grafana/provisioning"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "oss-tail.yaml").read_text())["providers"]
    folder = mounts[provider["options"]["path"]]
    environment = SERVICES["grafana"].said["environment"]
    home = Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert json.loads((folder / home.name).read_text())["title"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "$PROMETHEUS_URL"
    host, port = environment["PROMETHEUS_URL"].removeprefix("http://").split(":")
    assert SERVICES[host].said["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_prometheus_scrapes_what_serves_metrics() -> None:
    scrapes = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    targets = {one["job_name"]: one["static_configs"][0]["targets"] for one in scrapes}
    host, port = load_config(DEPLOY / "oss-tail" / "service.toml").server.listen or ("", 0)
    assert host == "0.0.0.0"
    canary = _parser().parse_args(SERVICES["canary"].said["command"])
    assert targets == {
        "oss-tailer": [f"oss-tailer:{port}"],
        "oss-tail-canary": [f"canary:{canary.metrics.partition(':')[2]}"],
    }
    rules = (ROOT / "grafana" / "alerts.yaml").read_text()
    assert set(re.findall(r'job="([^"]+)"', rules)) == set(targets)


def test_the_grace_is_longer_than_what_needs_it() -> None:
    config = load_config(DEPLOY / "oss-tail" / "service.toml")
    assert float(SERVICES["oss-tailer"].said["stop_grace_period"].removesuffix("s")) > config.drain
    waits = _parser().parse_args(SERVICES["canary"].said["command"]).wait
    assert float(SERVICES["canary"].said["stop_grace_period"].removesuffix("s")) >= waits + 10


@pytest.mark.parametrize("name", [one.name for one in OURS if one.command[0] == "oss-tailer"])
def test_commands_are_good(name: str) -> None:
    assert _parser().parse_args(SERVICES[name].command[1:]).run is not None


# --- the compose file's services, at work


class Stack:
    """The services of the compose file, each in a container of its own, over one network."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.running: dict[str, Container] = {}
        self.folder = folder
        self._network = network
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    def volume(self, name: str) -> Path:
        return self.folder / "volumes" / name

    def start(self, name: str, *command: str, user: str | None = None, environment: dict[str, str] | None = None,
              replaced: dict[str, Path] | None = None) -> Container:  # fmt: skip
        """The service `name`, by its own command if none is given. `replaced`: other files for some of its mounts."""
        one = SERVICES[name]
        user = user or one.user
        mounts = {}
        for mount in one.mounts:
            source = self.volume(mount.source) if mount.is_volume else (DEPLOY / mount.source).resolve()
            if mount.is_volume:
                source.mkdir(parents=True, exist_ok=True)
                shutil.chown(source, *map(int, user.split(":")))
            source = (replaced or {}).get(mount.target, source)
            mounts[mount.target] = f"{source}:{'rw' if mount.is_writable else 'ro'}"
        path = {"PATH": f"{BINARIES}:/usr/local/bin:/usr/bin:/bin"}
        variables = path | one.image.environment | one.said.get("environment", {}) | (environment or {})
        words = [*(command or one.command)]
        container = self._network.container(name, words, user=user, environment=variables, mounts=mounts)
        self.running[name] = self._stack.enter_context(container)
        return self.running[name]

    def await_health(self, name: str) -> None:
        container, check = self.running[name], SERVICES[name].health
        wait_for(lambda: container.run(*check).returncode == 0, container)

    def get(self, name: str, url: str) -> Any:
        """What the container gets from there, which is JSON."""
        fetch = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())"
        done = self.running[name].run("python", "-c", fetch, url)
        return json.loads(done.stdout) if done.returncode == 0 else None


def wait_for(is_so: Callable[[], object], *containers: Container, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail("\n".join(f"--- {one.name}\n{one.log}" for one in containers) or "not so in time")
        time.sleep(0.05)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    names = [name for one in SERVICES.values() for name in one.names]
    with Network(tmp_path, names) as network:
        stack = Stack(network, tmp_path)
        try:
            yield stack
        finally:
            stack.close()


def mirrored(stack: Stack) -> dict[str, bytes]:
    """All mirrors below the service's folder, by the keys of their objects."""
    folder = stack.volume("state") / "mirror"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.log")}


def lines_in(mirrors: dict[str, bytes]) -> int:
    return sum(data.count(b"\n") for data in mirrors.values())


@pytest.mark.timeout(180)
def test_all_parts_work_together(stack: Stack) -> None:
    """Healthy by their own checks; lines arrive in the mirror, also behind a stop of the service and a start from its
    volume; the canary is well; each ends as it should."""
    stack.start("oss-local")
    stack.await_health("oss-local")
    for name in ("producer", "oss-tailer", "canary"):
        stack.start(name)
    for name in ("oss-tailer", "canary"):
        stack.await_health(name)
    running = stack.running
    wait_for(lambda: lines_in(mirrored(stack)) > 5, *running.values())
    wait_for(lambda: stack.get("oss-tailer", "http://127.0.0.1:9465/status.json")["ready"], running["oss-tailer"])
    if (prometheus := shutil.which("prometheus")) is not None:
        check_prometheus(stack, prometheus)
    assert running["oss-tailer"].stop() == 0, running["oss-tailer"].log
    before = lines_in(mirrored(stack))
    stack.start("oss-tailer")
    wait_for(lambda: lines_in(mirrored(stack)) > before, *running.values())
    assert running["canary"].stop(60) == 0, running["canary"].log
    assert " 0 missing, 0 duplicate, 0 disordered," in running["canary"].log.splitlines()[-1]
    assert running["oss-tailer"].stop() == 0, running["oss-tailer"].log
    running["producer"].kill()
    for key, data in mirrored(stack).items():
        (path,) = (stack.volume("objects") / "logs").rglob(Path(key).name)
        assert path.read_bytes().startswith(data)
        assert re.fullmatch(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ request \d+ took \d\d ms\n)+", data)
    assert running["oss-local"].stop() == 128 + signal.SIGTERM, running["oss-local"].log
    assert "Traceback" not in "".join(one.log for one in running.values())


def check_prometheus(stack: Stack, program: str) -> None:
    """Prometheus on the same files finds both, and has the rules; four seconds instead of two scrapes of 15 s."""
    one = SERVICES["prometheus"]
    config = stack.folder / "prometheus.yaml"
    config.write_text((DEPLOY / "prometheus.yaml").read_text().replace("15s", "1s"))
    container = stack.start(
        "prometheus", program, *one.command, user="65534:65534", replaced={"/etc/prometheus/prometheus.yaml": config}
    )

    def value(query: str) -> list[float]:
        found = stack.get("oss-tailer", f"http://prometheus:9090/api/v1/query?query={query}")
        return [] if found is None else [float(series["value"][1]) for series in found["data"]["result"]]

    wait_for(lambda: value("up") == [1.0, 1.0], container)
    wait_for(lambda: value("oss_tail_delivered_bytes_total") > [0.0], container)
    wait_for(lambda: value("oss_tail_canary_received_total") > [0.0], container)
    rules = stack.get("oss-tailer", "http://prometheus:9090/api/v1/rules")["data"]["groups"]
    assert sum(len(group["rules"]) for group in rules) > 10


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say(tmp_path: Path) -> None:
    for mount in SERVICES["prometheus"].mounts:
        if not mount.is_volume:
            shutil.copy(DEPLOY / mount.source, tmp_path / Path(mount.target).name)
    done = subprocess.run(
        ["promtool", "check", "config", "--lint=all", tmp_path / "prometheus.yaml"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# --- configurations


def configurations() -> dict[str, str]:
    return {
        "compose": (DEPLOY / "oss-tail" / "service.toml").read_text(),
        "kubernetes": CLUSTER["ConfigMap"]["data"]["service.toml"],
    }


@pytest.mark.parametrize("where", configurations())
def test_configurations_are_good(where: str, tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    path.write_text(configurations()[where])
    assert [str(one) for one in find_problems(path) if not one.warning] == []


# --- docs/running.md


PAGE = (ROOT / "docs" / "running.md").read_text()


def blocks(language: str, mark: str = "") -> list[str]:
    """The blocks of code in that language, those that are marked so, or all others of it."""
    before = f"<!-- {mark} -->\n" if mark else r"(?<!-->\n)"
    return re.findall(rf"{before}```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.timeout(180)
def test_the_page_can_be_followed_word_by_word(tmp_path: Path) -> None:
    """Every part by hand on one machine, and then what is asked of them is answered."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("deploy", "grafana"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    scrapes = folder / "deploy" / "prometheus.yaml"
    scrapes.write_text(scrapes.read_text().replace("15s", "1s"))
    for path in [folder, *folder.rglob("*")]:
        shutil.chown(path, 65532, 65532)
    until_it_serves = "until curl --silent --output answer http://127.0.0.1:9000/; do sleep 0.1; done"
    first, server, *others = blocks("sh", "runs")
    (asks,) = blocks("sh", "asks")
    answered = asks.strip().replace("\n", " && ")
    # A second passes before the first commit.
    answer = f"({answered}) > answer 2>&1 && grep --quiet '^web ' answer"
    ends = f"until {answer}; do sleep 0.2; done; cat answer; echo THE END; exec sleep 1000"
    script = "\n".join(["set -eu", "cd /checkout", first, server, until_it_serves, *others, ends])
    with Network(tmp_path, []) as network:
        environment = {"PATH": f"{BINARIES}:/usr/local/bin:/usr/bin:/bin", "HOME": "/checkout", "LC_ALL": "C.UTF-8"}
        mounts = {"/checkout": f"{folder}:rw"}
        with network.container(
            "page", ["sh", "-c", script], user="65532:65532", environment=environment, mounts=mounts
        ) as page:
            wait_for(lambda: "THE END" in page.log, page)
            up = "http://127.0.0.1:9090/api/v1/query?query=count(up)"
            if shutil.which("prometheus") is not None:
                wait_for(lambda: '"2"' in page.run("curl", "--silent", up).stdout, page)
            said = page.log
    assert "data/service.toml: good" in said
    assert re.search(r"^web +\d+ .* oss://logs/web/\d{4}/\d\d/\d\d/app-000000.log$", said, re.MULTILINE)
    assert re.search(r"^oss_tail_canary_received_total \d+", said, re.MULTILINE)
    assert "Traceback" not in said


@pytest.mark.parametrize("block", blocks("sh"), ids=lambda text: " ".join(text.split()[:3]))
def test_other_commands_are_good_for_a_shell_and_name_what_is_there(block: str) -> None:
    assert subprocess.run(["bash", "-n"], input=block, text=True, check=False, timeout=30).returncode == 0
    for name in re.findall(r"\b(?:deploy|examples)/[\w./-]+\w", block):
        assert (ROOT / name).exists()


def test_the_configuration_of_the_page_is_good(tmp_path: Path, unit: configparser.ConfigParser) -> None:
    (text,) = blocks("toml")
    path = tmp_path / "service.toml"
    path.write_text(text)
    assert [str(one) for one in find_problems(path) if not one.warning] == []
    folder = f"/var/lib/{unit['Service']['StateDirectory']}/"
    assert all(place.startswith(folder) for place in re.findall(r"(?:checkpoint|path) = \"(.*)\"", text))
    credentials = re.findall(r"^LoadCredential=([\w-]+):", UNIT.read_text(), re.MULTILINE)
    assert re.findall(rf"/run/credentials/{UNIT.name}/([\w-]+)", text) == credentials


@pytest.mark.parametrize("name", ["running", "canary"])
def test_links_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / "docs" / f"{name}.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


# --- systemd


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of systemd are mixed case
    parser.read(UNIT)
    return parser


def test_systemd_understands_the_unit_and_finds_it_safe(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/oss-tail/bin", str(BINARIES)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False, timeout=60
    )
    assert [line for line in done.stderr.splitlines() if UNIT.name in line] == []
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", path],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:]


def system_calls(name: str) -> set[str]:
    """The members of a set of systemd's, with those of the sets in it."""
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True, timeout=60
    )
    words = [line.strip() for line in done.stdout.splitlines()[1:]]
    names = {word for word in words if word and not word.startswith(("#", "@"))}
    return names.union(*(system_calls(word) for word in words if word.startswith("@")))


def test_the_service_asks_for_no_system_call_that_the_unit_refuses(
    unit: configparser.ConfigParser, tmp_path: Path
) -> None:
    if shutil.which("systemd-analyze") is None or shutil.which("strace") is None:
        pytest.skip("systemd-analyze or strace is not installed")
    assert unit["Service"]["SystemCallErrorNumber"] == "EPERM"
    allowed, *refused = re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert (allowed, refused) == ("@system-service", ["~@privileged"])
    config, used = tmp_path / "service.toml", tmp_path / "used"
    config.write_text(
        """checkpoint = "state.db"
        server.listen = "127.0.0.1:0"
        sinks.mirror = { type = "file", path = "mirror", fsync = "1s" }
        groups.all = { objects = ["oss://logs/"], sink = "mirror" }"""
    )
    with tailer.local.running(["logs"]) as server:
        server.store.append("logs", "log", 0, b"one\n")
        with subprocess.Popen(
            ["strace", "-f", "-qq", "-c", "-o", used, BINARIES / "oss-tailer", "run", config],
            env={"PATH": os.environ["PATH"], **server.environment()}, stderr=subprocess.PIPE, text=True,
        ) as tracer:  # fmt: skip
            wait_for(lambda: tracer.poll() is not None or (tmp_path / "mirror" / "logs" / "log").exists())
            (child,) = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()
            os.kill(int(child), signal.SIGTERM)
            assert tracer.wait(60) == 0
    calls = set(re.findall(r"^ *\d.* (\w+)$", used.read_text(), re.MULTILINE)) - {"total"}
    assert "openat" in calls
    # SQLite, and only for root, gives its files to the owner of the database.
    assert calls - (system_calls("@system-service") - system_calls("@privileged")) <= {"fchown"}


def test_the_unit_and_the_command_agree(unit: configparser.ConfigParser) -> None:
    said = unit["Service"]
    program, *words = said["ExecStart"].split()
    assert Path(program).name == "oss-tailer"
    assert _parser().parse_args(words).run is not None
    assert said["Type"] == "notify"
    assert float(said["TimeoutStopSec"]) > ServiceConfig.__dataclass_fields__["drain"].default
    assert float(said["WatchdogSec"]) >= 30
    assert said["RestartPreventExitStatus"] == "2"


# --- Kubernetes


def pod() -> dict[str, Any]:
    return dict(CLUSTER["StatefulSet"]["spec"]["template"]["spec"])


def test_a_group_has_one_owner() -> None:
    spec = CLUSTER["StatefulSet"]["spec"]
    assert spec["replicas"] == 1
    assert spec["serviceName"] == CLUSTER["Service"]["metadata"]["name"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == CLUSTER["Service"]["spec"]["selector"] == labels


def test_the_pod_is_as_the_image_and_the_configuration_want_it(tmp_path: Path) -> None:
    (container,) = pod()["containers"]
    image = IMAGES["oss-tailer"]
    path = tmp_path / "service.toml"
    path.write_text(CLUSTER["ConfigMap"]["data"]["service.toml"])
    config = load_config(path)
    assert config.server.listen is not None
    host, port = config.server.listen
    assert host == "0.0.0.0"
    assert container["ports"] == [{"name": "http", "containerPort": port}]
    annotations = CLUSTER["StatefulSet"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port)
    assert CLUSTER["Service"]["spec"]["ports"][0]["port"] == port
    assert f"{pod()['securityContext']['runAsUser']}:{pod()['securityContext']['runAsGroup']}" == image.user
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    command = _parser().parse_args([*image.entrypoint[1:], *container["args"]])
    assert command.run is not None
    assert str(Path(container["args"][-1]).parent) in mounts
    assert set(CLUSTER["ConfigMap"]["data"]) == {Path(container["args"][-1]).name}
    written = [config.checkpoint, *(one.path for one in config.sinks.values())]
    assert all(one is not None and str(one).startswith(f"{image.folder}/") for one in written)
    assert mounts[image.folder] == CLUSTER["StatefulSet"]["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    secret = config.oss.access_key_secret
    assert secret is not None
    assert any(str(secret).find(f"{folder}/") >= 0 for folder in mounts)
    assert pod()["terminationGracePeriodSeconds"] > config.drain


def test_the_pod_may_do_nothing_more_than_it_needs() -> None:
    (container,) = pod()["containers"]
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert {"memory"} <= container["resources"]["limits"].keys()
    assert [one["httpGet"]["path"] for one in (container["readinessProbe"], container["livenessProbe"])] == [
        "/readyz", "/livez",
    ]  # fmt: skip
