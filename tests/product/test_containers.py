"""What deploy/Dockerfile and deploy/compose.yaml tell the product, it understands. (No Docker is needed here.)"""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import yaml
from celery.bin.celery import celery
from django.core.management import get_commands, load_command_class
from django.urls import resolve
from django.utils.module_loading import import_string
from docker.utils.build import exclude_paths
from granian.cli import cli as granian
from packaging.requirements import Requirement

from blockforger import health
from blockforger import settings as product_settings
from deploy import local_aws
from eventing.management.commands import consume_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click import Command

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
SECTION = re.search(r"\n## In containers\n(.*?)\n## ", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
READ_BY_SETTINGS = set(re.findall(r'env\.\w+\(\s*"(\w+)"', Path(product_settings.__file__).read_text(encoding="utf-8")))
# boto3 is asked below what it makes of them.
READ_BY_BOTO3 = {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
READ_BY_GRANIAN = {f"GRANIAN_{parameter.name}".upper() for parameter in granian.params}
NOT_OURS = {"postgres", "redis"}


def filled_in(value: Any, environment: dict[str, str]) -> Any:
    """As Compose fills in ${NAME:-default}, ${NAME-default} and ${NAME:?message}, one within another."""
    if isinstance(value, dict):
        return {key: filled_in(member, environment) for key, member in value.items()}
    if isinstance(value, list):
        return [filled_in(member, environment) for member in value]
    return filled_in_text(value, environment) if isinstance(value, str) else value


def filled_in_text(text: str, environment: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, operator, default = match.groups()
        given = environment.get(name)
        if given or (given is not None and not operator.startswith(":")):
            return given
        if operator.endswith("?"):
            raise LookupError(default)
        return str(default)

    while (after := re.sub(r"\$\{(\w+)(:?[-?])([^{}]*)\}", value, text)) != text:
        text = after
    return text


def services(**environment: str) -> dict[str, dict[str, Any]]:
    """The services of compose.yaml, for what .env sets besides the secret."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
    return {name: filled_in(service, {"SECRET_KEY": "a secret"} | environment) for name, service in found.items()}


def ours(**environment: str) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in services(**environment).items() if name not in NOT_OURS}


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage of the Dockerfile, those of the stage that it begins with included."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in filter(None, text.splitlines()):
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            found[name] = list(found.get(base, []))
        elif name:
            found[name].append((instruction, arguments))
    return found


def last(stage: str, instruction: str) -> str:
    return [arguments for name, arguments in stages()[stage] if name == instruction][-1]


def command_of(service: dict[str, Any]) -> list[str]:
    """What a service runs: its own command, or that of the stage from which its image is made."""
    command = service.get("command") or yaml.safe_load(last(service["build"]["target"], "CMD"))
    return shlex.split(command) if isinstance(command, str) else [str(word) for word in command]


def parse(command: Sequence[str]) -> None:
    """Have the command parsed, as it would be when it starts. Raises for what there is not."""
    match command:
        case ["python", "manage.py", name, *options]:
            found = get_commands()[name]
            loaded = load_command_class(found, name) if isinstance(found, str) else found
            loaded.create_parser("manage.py", name).parse_args(options)
        case ["python", "-W", "ignore", "-m", "deploy.local_aws", *options]:
            local_aws.parser().parse_args(options)
        case ["celery", "--quiet", "-A", "blockforger", name, *options]:
            parse_by_click(celery.commands[name], options)
        case ["granian", *options, application]:
            parse_by_click(granian, [*options, application])
            import_string(application.replace(":", "."))
        case _:
            raise AssertionError(f"no command of ours: {command}")


def parse_by_click(command: Command, options: Sequence[str]) -> None:
    # Celery's own parsing needs a running application.
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {option for option in options if option.startswith("-")} <= known


@pytest.mark.parametrize("name", ours())
def test_each_service_runs_a_command_that_there_is_with_options_that_it_has(name: str) -> None:
    parse(command_of(ours()[name]))


def test_every_process_that_operations_md_names_is_a_service() -> None:
    commands = {" ".join(command_of(service)[:6]) for service in ours().values()}
    for start in ("granian --interface wsgi", "python manage.py migrate", "python manage.py publish_events",
                  "python manage.py consume_events", "celery --quiet -A blockforger worker",
                  "celery --quiet -A blockforger beat"):  # fmt: skip
        assert [command for command in commands if command.startswith(start)], start


def test_the_commands_of_the_documentation_are_there() -> None:
    assert SECTION
    found = re.findall(r"docker compose (?:exec|run --rm --no-deps) (\w+) (python manage\.py [^\n)]+)", SECTION[1])
    assert len(found) == 6
    for service, command in found:
        assert service in ours()
        parse(shlex.split(command))


def test_every_variable_is_one_that_is_read() -> None:
    assert SECTION
    # Compose takes a comment after an empty value for the value.
    assert re.findall(r"^    \w+=.* #.*", SECTION[1], re.MULTILINE) == []
    documented = set(re.findall(r"^    ([A-Z_0-9]+)=", SECTION[1], re.MULTILINE))
    by_compose = set(re.findall(r"\$\{(\w+)", COMPOSE))
    for name, service in ours().items():
        assert set(service["environment"]) <= READ_BY_SETTINGS | READ_BY_BOTO3, name
    assert by_compose - set(services()["web"]["environment"]) == {"POSTGRES_PASSWORD", "WEB_PORT", "AWS_PORT"}
    assert documented - READ_BY_SETTINGS - READ_BY_BOTO3 - READ_BY_GRANIAN == {"KEY", "POSTGRES_PASSWORD"}
    for stage, instructions in stages().items():
        set_there = {pair.partition("=")[0] for name, pairs in instructions if name == "ENV" for pair in pairs.split()}
        assert set_there <= READ_BY_SETTINGS | {"PATH", "PYTHONUNBUFFERED"}, stage


@pytest.mark.parametrize(
    ("environment", "endpoint", "key"),
    [
        pytest.param({}, "http://aws:4566", "trial", id="for a trial"),
        pytest.param(
            {"AWS_ENDPOINT_URL": "", "AWS_ACCESS_KEY_ID": "AKIAX"},
            "https://events.us-east-1.amazonaws.com",
            "AKIAX",
            id="set to nothing, AWS itself",
        ),
        pytest.param(
            {"AWS_ENDPOINT_URL": "", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "https://events.us-east-1.amazonaws.com",
            None,
            id="with the credentials of a role",
        ),
    ],
)
def test_boto3_finds_the_aws_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], endpoint: str, key: str | None
) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in READ_BY_BOTO3:
        monkeypatch.setenv(name, services(**environment)["publisher"]["environment"][name])
    session = boto3.session.Session()
    found = session.get_credentials()
    assert session.client("events").meta.endpoint_url == endpoint
    assert (found.access_key if found else None) == key


def test_the_aws_in_memory_is_for_trials_alone_and_never_deploys_to_another() -> None:
    production = {"AWS_ENDPOINT_URL": "", "AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "of production"}
    aws = services(**production)["aws"]
    assert aws["profiles"] == ["trial"]
    assert aws["environment"]["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert "of production" not in aws["environment"].values()
    assert [name for name, service in services().items() if "profiles" in service] == ["aws"]


def test_nothing_starts_without_a_secret_key_and_none_is_in_a_file() -> None:
    with pytest.raises(LookupError, match=r"deploy/\.env"):
        services(SECRET_KEY="")
    assert re.findall(r"SECRET_KEY.*", DOCKERFILE) == []
    assert set(re.findall(r"(?<!_)SECRET_KEY: (.*)", COMPOSE)) == {
        '${SECRET_KEY:?set it in deploy/.env, see "In containers" in docs/operations.md}'
    }


def test_ports_are_open_to_this_machine_alone() -> None:
    ports = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert ports == {"web": ["127.0.0.1:8000:8000"], "aws": ["127.0.0.1:4566:4566"]}


@pytest.mark.parametrize("name", sorted(set(ours()) - {"migrate", "aws"}))
def test_processes_wait_for_the_migrations_and_are_started_again_and_given_time(name: str) -> None:
    service = ours()[name]
    assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert service["restart"] == "unless-stopped"
    assert int(service["stop_grace_period"].removesuffix("s")) > consume_events._STOP_SECONDS


def test_web_is_asked_whether_it_is_ready_where_it_listens() -> None:
    web = ours()["web"]
    assert last("blockforger", "EXPOSE") == "8000"
    assert {parameter.name: parameter.default for parameter in granian.params}["port"] == 8000
    (url,) = re.findall(r"http://127.0.0.1:8000(/\w+)", " ".join(web["healthcheck"]["test"]))
    assert resolve(url).func is health.readyz


def test_live_tails_leave_the_web_server_threads() -> None:
    command = command_of(ours()["web"])
    assert int(command[command.index("--blocking-threads") + 1]) > product_settings.BLOCKFORGER_LIVE_TAILS


def test_the_image_has_the_python_that_we_ask_for() -> None:
    (tag,) = re.findall(r"^ARG PYTHON_TAG=(\S+)$", DOCKERFILE, re.MULTILINE)
    python = tag.partition("-")[0]
    assert PYPROJECT["project"]["requires-python"] == f">={python}"
    assert f"You need Python {python} " in (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^FROM (\S*:\S+)", DOCKERFILE, re.MULTILINE)) == {"python:${PYTHON_TAG}"}


def test_what_is_installed_is_requirements_txt_and_no_other() -> None:
    (product,) = [arguments for name, arguments in stages()["packages"] if name == "RUN" and "install" in arguments]
    assert product.endswith("--only-binary :all: --requirement requirements.txt")
    assert ("COPY", "--from=packages /venv /venv") in stages()["blockforger"]
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert {name: version(name) for name in pinned} == pinned


def test_moto_has_the_version_of_the_tests() -> None:
    (moto,) = set(stages()["packages-with-moto"]) - set(stages()["packages"]) - {("COPY", "requirements-dev.txt .")}
    assert "--constraint requirements-dev.txt" in moto[1]
    assert Requirement(shlex.split(moto[1])[-1]).extras == {"server"}
    assert re.search(r"^moto==", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize("stage", ["blockforger", "aws"])
def test_processes_are_not_root(stage: str) -> None:
    uid = last(stage, "USER")
    assert int(uid) > 0
    assert f"--uid {uid} " in next(arguments for name, arguments in stages()[stage] if "useradd" in arguments)


def test_stages_that_are_named_are_there_and_the_product_is_what_is_built_by_default() -> None:
    assert {service["build"]["target"] for service in ours().values()} == {"blockforger", "aws"} <= set(stages())
    assert list(stages())[-1] == "blockforger"


WANTED = [
    "manage.py",
    "requirements.txt",
    "requirements-dev.txt",
    "deploy/cloudformation.yaml",
    "deploy/local_aws.py",
    "templates/admin/base.html",
    "schemas/evented/tenant.properties",
    *(f"{package}/__init__.py" for package in PYPROJECT["tool"]["importlinter"]["root_packages"]),
]
UNWANTED = [
    *(
        ".env",
        "deploy/.env",
        "deploy/.env.old",
        ".git/config",
        ".venv/bin/python",
        "var/secret_key",
        "dump.sql",
        ".coverage",
    ),
    *("tests/conftest.py", "docs/api.md", "benchmarks/report.py", "eventing/__pycache__/rules.cpython-311.pyc"),
]


def test_the_image_gets_what_runs_and_nothing_else(tmp_path: Path) -> None:
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in (*WANTED, *UNWANTED):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    rules = [line for line in patterns if line and not line.startswith("#")]
    kept = {path for path in exclude_paths(str(tmp_path), rules) if (tmp_path / path).is_file()}
    # What builds the image is always sent to the builder.
    assert kept - {"Dockerfile", ".dockerignore"} == set(WANTED)
    assert [name for name in WANTED if "/" not in name and not (ROOT / name).exists()] == []
