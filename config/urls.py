from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    # Most requests by far are the API's.
    path("api/v1/", include("billing.api.urls")),
    # After it, as it answers for every path of the API that is not there.
    path("api/v1/", include("ledger.api.urls")),
    path("", include("billing.portal.urls")),
    path("desk/", include("billing.desk.urls")),
    path("admin/", admin.site.urls),
]
