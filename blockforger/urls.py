"""Every URL of the product."""

from django.contrib import admin
from django.urls import include, path

from blockforger import health
from blockforger.backend import descriptions, item_urls

urlpatterns = [
    *item_urls.urlpatterns,  # first, because nearly every request is for items
    path("api/", include("eventing.urls")),
    path("api/", include("blockforger.backend.urls")),
    *item_urls.unknown,
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
