from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("billing.portal.urls")),
    path("desk/", include("billing.desk.urls")),
    path("admin/", admin.site.urls),
    path("api/v1/", include("billing.api.urls")),
    # Last, as it answers for every path of the API that is not there.
    path("api/v1/", include("ledger.api.urls")),
]
