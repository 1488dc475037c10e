"""Every URL of the product."""

from django.contrib import admin
from django.urls import include, path

from blockforger import health
from blockforger.backend import descriptions

admin.site.site_url = None  # there are no pages beside it

urlpatterns = [
    path("api/", include("eventing.urls")),  # before the backend's, which take every other name for a schema's
    path("api/", include("blockforger.backend.urls")),
    path("admin/", admin.site.urls),
    path(
        "openapi.json",
        descriptions.OpenApiOfAnyTenantViewSet.as_view({"get": "retrieve"}),
        name="openapi-of-any-tenant",
    ),
    path("docs", descriptions.docs),
    path("livez", health.livez),
    path("readyz", health.readyz),
]

handler400 = "blockforger.backend.api.bad_request"
handler404 = "blockforger.backend.api.page_not_found"
handler500 = "blockforger.backend.api.server_error"
