"""Vendors: opened by those who run the installation, named by their own administrators."""

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from billing import customers
from billing.models import Vendor
from config.admin import ADMIN, BookAdmin


@admin.register(Vendor)
class VendorAdmin(BookAdmin[Vendor]):
    editors = frozenset({ADMIN})
    list_display = ("name", "code")
    fields = ("name", "code")
    fixed = ("code",)
    purpose = (
        "A company that sells its software by the run. Opening one opens its book in the ledger;"
        " then let its people in, under Team."
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def save_model(self, request: HttpRequest, obj: Vendor, form: object, change: bool) -> None:
        if change:
            obj.save(update_fields=["name"])
            return
        opened = customers.open_vendor(code=obj.code, name=obj.name, at=timezone.now())
        obj.pk, obj.book_id = opened.pk, opened.book_id
