"""Vendors: opened by those who run the installation, named by their own administrators."""

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from billing import customers
from billing.models import Vendor
from config.admin import ADMIN, BookAdmin

CHANGING = ("name", "dunning_retry_days", "dunning_grace_days")


class VendorForm(forms.ModelForm[Vendor]):
    class Meta:
        model = Vendor
        fields = ("code", *CHANGING)

    def clean_dunning_retry_days(self) -> list[int]:
        days: list[int] = self.cleaned_data["dunning_retry_days"]
        if days != sorted(set(days)):
            raise forms.ValidationError("The days must ascend, each once: 1,3,5,7.")
        return days


@admin.register(Vendor)
class VendorAdmin(BookAdmin[Vendor]):
    form = VendorForm
    editors = frozenset({ADMIN})
    list_display = ("name", "code")
    fieldsets = (
        (None, {"fields": ("name", "code")}),
        ("When a payment fails", {"fields": ("dunning_retry_days", "dunning_grace_days")}),
    )
    fixed = ("code",)
    purpose = (
        "A company that sells its software by the run. Opening one opens its book in the ledger;"
        " then let its people in, under Team."
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def save_model(self, request: HttpRequest, obj: Vendor, form: object, change: bool) -> None:
        if change:
            obj.save(update_fields=CHANGING)
            return
        opened = customers.open_vendor(code=obj.code, name=obj.name, at=timezone.now())
        opened.dunning_retry_days = obj.dunning_retry_days
        opened.dunning_grace_days = obj.dunning_grace_days
        opened.save(update_fields=CHANGING)
        obj.pk, obj.book_id = opened.pk, opened.book_id
