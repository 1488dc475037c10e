"""manage.py test_rule: what a rule's bus says to a sample event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.management.base import BaseCommand, CommandError

from blockforger.backend import json_texts
from eventing import rule_tests, rules
from tenants.models import Tenant

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = (
        "Send a sample of a rule's events to its bus, and print AWS's answer, with the remedy if it is a refusal. The "
        "sample is marked: its second resource begins with urn:blockforger:test. Nothing is stored, billed or tried "
        "again. The exit code is 0 if the bus accepted the sample, else 1."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="Name of the tenant.")
        parser.add_argument("rule", type=int, help="Id of the rule, as explain_rules shows it.")

    def handle(self, *_args: object, tenant: str, rule: int, **_options: object) -> None:
        owner = Tenant.objects.filter(name=tenant).first()
        if owner is None:
            raise CommandError(f"There is no tenant '{tenant}'.")
        found = rules.find(owner, rule)
        if found is None:
            raise CommandError(f"The tenant has no rule with the id {rule}.")
        sent = rule_tests.send(found, owner)
        self.stdout.write(json_texts.readable(sent.event.entry))
        if not sent.is_accepted:
            told = [f"{sent.answer.code}: {sent.answer.message}", sent.hint]
            told += [json_texts.readable(sent.policy)] if sent.policy else []
            raise CommandError("\n".join(filter(None, told)))
        self.stdout.write(f"Accepted as {sent.answer.event_id}. {sent.hint}".rstrip())
