from django.apps import AppConfig


class EventingConfig(AppConfig):
    """Events out (rules, outbox, publisher) and events in (SQS consumer)."""

    name = "eventing"
    default_auto_field = "django.db.models.BigAutoField"
