"""New rows are those that their models make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from blockforger.backend.models import Item, OperationRecord
from eventing.models import OutboxEvent
from tenants.models import LedgerEntry
from tenants.new_rows import NewRows

if TYPE_CHECKING:
    from django.db.models import Model

GIVEN: dict[type[Model], dict[str, Any]] = {
    Item: {"payload": {"n": 1}, "schema_id": 7},
    LedgerEntry: {"account_id": 7, "amount": -10},
    OperationRecord: {"schema_name": "petstore", "tenant_id": 7},
    OutboxEvent: {"schema_name": "petstore", "tenant_id": 7},
}


@pytest.mark.parametrize("model", GIVEN, ids=lambda model: model.__name__)
def test_a_row_is_made_as_the_model_makes_it(model: type[Model]) -> None:
    given = GIVEN[model]
    made, made_too, own = [*(NewRows(model)(**given) for _ in range(2)), model(**given)]
    assert list(made.__dict__) == list(own.__dict__)
    for field in model._meta.concrete_fields:
        values = [getattr(row, field.attname) for row in (made, made_too, own)]
        if field.attname not in given and field.has_default() and callable(field.default):
            assert values[0] is not values[1]
            assert type(values[0]) is type(values[2])
        else:
            assert values[0] == values[1] == values[2]
    assert (made._state.adding, made._state.db) == (own._state.adding, own._state.db) == (True, None)
    assert made._state.fields_cache == {}


@pytest.mark.parametrize("model", GIVEN, ids=lambda model: model.__name__)
def test_no_row_has_a_column_that_its_model_lacks(model: type[Model]) -> None:
    with pytest.raises(KeyError, match="nonsense"):
        NewRows(model)(nonsense=1)


@pytest.mark.django_db
def test_a_row_is_saved_as_the_models_own() -> None:
    given = {"origin": "event", "idempotency_key": "k", "operation": UUID(int=1), "request_hash": "0" * 64}
    record = NewRows(OperationRecord)(**given, status=201)
    record.save(force_insert=True)
    assert OperationRecord.objects.get() == record
