from django.urls import path

from billing.desk import pages

urlpatterns = [
    path("", pages.desk, name="desk"),
    path("<uuid:reference>/", pages.account, name="desk_account"),
    path("alerts/<int:message_id>/acknowledge/", pages.acknowledge, name="acknowledge"),
]
