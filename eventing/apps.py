import gc

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class EventingConfig(AppConfig):
    """Events out (rules, outbox, publisher) and events in (SQS consumer)."""

    name = "eventing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from blockforger.backend import openapi
        from blockforger.backend.signals import event_settled, item_written, rows_committed
        from eventing import checks, feedback, lanes, outbox, rules
        from eventing.openapi import paths

        checks.register()
        post_migrate.connect(lanes.create_all, sender=self)
        rules.connect()
        openapi.more_paths.append(paths)
        item_written.connect(outbox.events_of, dispatch_uid="eventing.outbox")
        event_settled.connect(feedback.events_of, dispatch_uid="eventing.feedback")
        rows_committed.connect(outbox.nudge, dispatch_uid="eventing.nudges")
        # All apps are loaded, and stay: to look through them for garbage takes up to a tenth of the time of a process
        # that handles rows by the thousand.
        gc.freeze()
