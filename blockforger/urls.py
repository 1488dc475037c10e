"""Every URL of the product."""

from django.contrib import admin
from django.urls import include, path

from blockforger import health

urlpatterns = [
    path("api/", include("eventing.urls")),  # before the backend's, which take every other name for a schema's
    path("api/", include("blockforger.backend.urls")),
    path("admin/", admin.site.urls),
    path("livez", health.livez),
    path("readyz", health.readyz),
]

handler400 = "blockforger.backend.api.bad_request"
handler404 = "blockforger.backend.api.page_not_found"
handler500 = "blockforger.backend.api.server_error"
