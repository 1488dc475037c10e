"""A client that a public generator makes of a tenant's document, in use against the server: typed all the way."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from tests.contract.server import Server, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "blockforger_contract_client"
# It reads the generated code and our use of it, as the types of a user's project would be checked.
USE = f"""
from {PACKAGE} import AuthenticatedClient
from {PACKAGE}.api.pets import create_pets, read_pets
from {PACKAGE}.models import Pets, PetsPerson, PetsStatus, Problem

client = AuthenticatedClient("http://localhost", "key")
made = create_pets.sync(client=client, body=Pets(name="Rex", owner=PetsPerson(name="Ann"), status=PetsStatus.SOLD))
if isinstance(made, Pets):
    reveal_type(made.price)
found = read_pets.sync("rex", client=client)
if isinstance(found, Problem):
    print(found.detail)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The generated package."""
    folder = tmp_path_factory.mktemp("client")
    request = Request(f"{server.url}/api/contract/openapi.json", headers={"X-API-Key": server.key})
    with urlopen(request, timeout=30) as response:
        (folder / "openapi.json").write_bytes(response.read())
    generate = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--meta", "none"]
    done = subprocess.run(
        [*generate, "--output-path", PACKAGE], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "use.py").write_text(USE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield importlib.import_module(PACKAGE)


def part(api: Any, name: str) -> Any:
    return importlib.import_module(f"{api.__name__}.{name}")


@pytest.mark.e2e
@pytest.mark.xdist_group("contract")
class TestTheClient:
    def test_it_makes_reads_lists_replaces_changes_and_deletes_items(self, server: Server, api: Any) -> None:
        models = part(api, "models")
        with api.AuthenticatedClient(server.url, server.key) as client:
            owner = models.PetsPerson(name="Ann")
            made = part(api, "api.pets.create_pets").sync(
                client=client, body=models.Pets(name="Tom", owner=owner, status=models.PetsStatus.AVAILABLE)
            )
            assert isinstance(made, models.Pets)
            key = made.id

            assert part(api, "api.pets.read_pets").sync(key, client=client) == made

            page = part(api, "api.pets.list_pets").sync(client=client, filtername="Tom", limit=5)
            assert page.items == [made]

            made.price = 12.5
            answer = part(api, "api.pets.replace_pets").sync_detailed(key, client=client, body=made)
            assert answer.parsed == made

            patch = models.PetsPatch.from_dict({"price": None, "status": "sold"})
            changed = part(api, "api.pets.change_pets").sync(
                key, client=client, body=patch, if_match=answer.headers["ETag"]
            )
            assert (changed.status, changed.name) == (models.PetsStatus.SOLD, "Tom")
            assert isinstance(changed.price, part(api, "types").Unset)

            assert part(api, "api.pets.delete_pets").sync_detailed(key, client=client).status_code == 204
            gone = part(api, "api.pets.read_pets").sync(key, client=client)
            assert isinstance(gone, models.Problem)
            assert gone.code == models.ProblemCode.ITEM_UNKNOWN

    def test_it_makes_many_items(self, server: Server, api: Any) -> None:
        models = part(api, "models")
        with api.AuthenticatedClient(server.url, server.key) as client:
            orders = [models.Orders(number=number, lines=[models.OrdersLine(pet="rex")]) for number in (7, 8)]
            made = part(api, "api.orders.create_orders").sync(client=client, body=orders)
            assert made.items == orders

    def test_its_types_hold_for_a_type_checker(self, api: Any) -> None:
        folder = str(api.__path__[0]).removesuffix(PACKAGE)
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--no-incremental", "use.py"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert 'Revealed type is "float | ' in done.stdout.replace("builtins.", "")
