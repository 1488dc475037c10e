from django.apps import AppConfig
from django.db.backends.signals import connection_created


class BackendConfig(AppConfig):
    """The backend API: schemas, items and the one path that every operation takes."""

    name = "blockforger.backend"
    label = "backend"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from blockforger.backend import (
            checks,  # noqa: F401 - they register themselves
            sqlite_functions,
        )

        connection_created.connect(sqlite_functions.install)
