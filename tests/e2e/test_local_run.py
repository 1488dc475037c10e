from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.e2e.conftest import ROOT, LocalRun, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("local-run")]


def eventually(get: Callable[[], Any]) -> Any:
    """What `get` gives once it gives something; a failure after 15 seconds."""
    ends_at = time.monotonic() + 15
    while not (value := get()):
        assert time.monotonic() < ends_at, "nothing came within 15 seconds"
        time.sleep(0.1)
    return value


def client(run: LocalRun, service: str) -> Any:
    connect: Any = boto3.session.Session().client
    return connect(
        service,
        endpoint_url=f"http://127.0.0.1:{run.aws_port}",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


def request(run: LocalRun, path: str, *, key: str, method: str = "GET", body: object = None) -> tuple[int, Any]:
    import urllib.error
    import urllib.request

    asked = urllib.request.Request(
        run.site + path,
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"X-API-Key": key, "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as response:
            text = response.read()
            return response.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def logged_events(run: LocalRun, item_key: str) -> list[Any]:
    events = [json.loads(line) for line in run.manage("tail_events --newest 1000").splitlines()]
    return [event for event in events if item_key in json.dumps(event)]


def balance(run: LocalRun, tenant: str) -> int:
    code = f"from tenants.models import TokenAccount; print(TokenAccount.objects.get(tenant__name='{tenant}').balance)"
    return int(run.manage(f'shell --no-imports -v0 -c "{code}"'))


def input_event(key: str, item_key: str) -> dict[str, Any]:
    return {
        "tenant": "petstore_demo",
        "rootSchema": "petstore",
        "operation": "POST",
        "api_key": key,
        "payload": {"id": item_key, "name": "Fluffy", "status": "available"},
    }


def test_it_is_ready_when_it_says_so(local_run: LocalRun) -> None:
    status, body = request(local_run, "/readyz", key="")
    assert (status, body) == (200, {"status": "ok", "database": "ok", "migrations": "ok", "broker": "ok"})


def test_the_commands_that_it_prints_do_what_they_say(local_run: LocalRun) -> None:
    commands: dict[str, Callable[[str], bool]] = {
        "post": lambda line: line.startswith("curl") and "petstore_demo/petstore" in line,
        "tail": lambda line: "tail_events" in line,
        "put": lambda line: "put_events" in line,
        "get": lambda line: line.startswith("curl") and "evented/evented" in line,
        "key": lambda line: "create_api_key" in line,
    }
    printed = {
        name: next(line for line in local_run.pasted() if wanted(line)).replace(".venv/bin/python", sys.executable)
        for name, wanted in commands.items()
    }
    assert "201 Created" in local_run.shell(printed["post"])
    assert eventually(lambda: "petstore.POST" in local_run.shell(printed["tail"]))
    assert "EventId" in local_run.shell(printed["put"])
    assert eventually(lambda: "ergyigyuhwer" in local_run.shell(printed["get"]))
    assert local_run.shell(printed["key"]).startswith("bf_")


def test_a_write_over_http_reaches_the_log_group_and_a_queue_on_the_bus(local_run: LocalRun) -> None:
    sqs, events = client(local_run, "sqs"), client(local_run, "events")
    queue = sqs.create_queue(QueueName=f"subscriber-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule = f"subscriber-{uuid.uuid4().hex[:8]}"
    events.put_rule(Name=rule, EventPattern=json.dumps({"source": ["blockforger-output"]}))
    events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": arn}])
    key, item_key = local_run.key_of("petstore_demo"), uuid.uuid4().hex
    path = f"/api/petstore_demo/petstore/{item_key}"
    pet = {"id": item_key, "name": "Fluffy", "status": "available"}

    assert request(local_run, "/api/petstore_demo/petstore", key=key, method="POST", body=pet) == (201, pet)
    assert request(local_run, path, key=key, method="PUT", body={**pet, "status": "sold"})[0] == 200
    assert request(local_run, path, key=key, method="PATCH", body={"name": "Rex"})[0] == 200
    assert request(local_run, path, key=key, method="DELETE") == (204, None)

    logged = eventually(lambda: len(found := logged_events(local_run, item_key)) == 5 and found)
    received: list[Any] = []
    while len(received) < 5:
        messages = eventually(
            lambda: sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages")
        )
        received += [event for message in messages if item_key in str(event := json.loads(message["Body"]))]
    # a DELETE matches two of the sample's rules, one for the schema and one for all schemas
    in_order = ["petstore.POST", "petstore.PUT", "petstore.PATCH", "petstore.DELETE", "petstore.DELETE"]
    assert [event["detail-type"] for event in logged] == in_order
    assert sorted(event["detail-type"] for event in received) == sorted(in_order)
    assert logged[0]["detail"] == {
        "tenant": "petstore_demo",
        "rootSchema": "petstore",
        "operation": "POST",
        "payload": pet,
    }
    assert [event["detail"]["payload"] for event in logged[2:]] == [
        {"id": item_key, "name": "Rex"},
        {"id": item_key},
        {"id": item_key},
    ]


def test_an_event_put_with_the_aws_cli_becomes_an_item(local_run: LocalRun) -> None:
    if shutil.which("aws") is None:
        reason = "the AWS CLI is not installed"
        pytest.fail(reason) if os.environ.get("BLOCKFORGER_REQUIRE_SERVICES") else pytest.skip(reason)
    key, item_key = local_run.key_of("petstore_demo"), uuid.uuid4().hex
    entries = [
        {
            "Source": "blockforger-input",
            "DetailType": "petstore.POST",
            "EventBusName": "default",
            "Detail": json.dumps(input_event(key, item_key)),
        }
    ]
    assert (
        json.loads(local_run.shell(f"aws events put-events --entries '{json.dumps(entries)}'"))["FailedEntryCount"] == 0
    )
    path = f"/api/petstore_demo/petstore/{item_key}"
    item = eventually(lambda: (answer := request(local_run, path, key=key))[0] == 200 and answer[1])
    assert item == {"id": item_key, "name": "Fluffy", "status": "available"}


def test_a_message_that_comes_twice_makes_one_item_and_one_debit_of_ten(local_run: LocalRun) -> None:
    key, item_key = local_run.key_of("petstore_demo"), uuid.uuid4().hex
    body = json.dumps({"id": str(uuid.uuid4()), "detail-type": "petstore.POST", "detail": input_event(key, item_key)})
    sqs = client(local_run, "sqs")
    queue = sqs.get_queue_url(QueueName="blockforger-input-local")["QueueUrl"]
    before = balance(local_run, "petstore_demo")
    for _ in range(2):
        sqs.send_message(QueueUrl=queue, MessageBody=body)

    def left() -> list[str]:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        return list(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"].values())

    eventually(lambda: left() == ["0", "0"])
    assert balance(local_run, "petstore_demo") == before - 10
    assert len(eventually(lambda: logged_events(local_run, item_key))) == 1
    assert "entries agree" in local_run.manage("audit_ledger")


def test_a_port_that_is_taken_gets_a_sentence(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "deploy.run_local", "--web-port", str(port), "--aws-port", str(free_port())],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Port {port}, for web, is taken. Stop what uses it, or choose another: make run")
    assert "Traceback" not in done.stderr


def test_ctrl_c_stops_everything_and_a_second_run_finds_its_database(environment: dict[str, str]) -> None:
    run = LocalRun(environment)
    run.start()
    run.wait_until_ready()
    assert run.stop() == 0, run.text
    for port in (run.web_port, run.aws_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert "SIGKILL" not in run.text

    run.start()
    run.wait_until_ready()
    assert "The keys were shown at the first run." in run.text
    assert "bf_" not in run.text
    assert run.stop() == 0
