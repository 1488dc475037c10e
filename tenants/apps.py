from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """Who may call and who pays."""

    name = "tenants"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from tenants import browsers

        browsers.connect()
