"""The books: what was booked month by month, and its download. For administrators and finance."""

from datetime import UTC, datetime, time
from typing import Any

from django.contrib import admin
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from billing import money
from billing.books import journal, plaintext
from billing.books.chart import ACCOUNTS
from billing.models import JournalDay, Vendor
from billing.pictures import Picture, picture
from config.admin import ADMIN, FINANCE, FactAdmin, books_of

READERS = frozenset({ADMIN, FINANCE})
MONTHS_SHOWN = 12
CONTENT_TYPES = {"csv": "text/csv; charset=utf-8"}


@admin.register(JournalDay)
class JournalDayAdmin(FactAdmin[JournalDay]):
    book_path = "vendor__book_id"
    viewers = READERS
    list_display = ("day", "vendor", "closed_at")
    list_select_related = ("vendor",)
    ordering = ("-day", "vendor")
    fields = ("day", "vendor", "closed_at", "booked")
    readonly_fields = ("booked",)
    list_before_template = "admin/journal.html"
    purpose = (
        "Each day (UTC) whose books are closed, a minute after its end. A closed day stands: what"
        " is learnt later is booked on the next."
    )

    @admin.display(description="booked")
    def booked(self, closed: JournalDay) -> SafeString:
        rows = [
            (ACCOUNTS[one.account].title, money.text_of(one.amount, one.currency))
            for one in journal.of_day(vendor_id=closed.vendor_id, day=closed.day)
        ]
        return format_html_join("", "<div>{}: {}</div>", rows) or format_html("{}", "nothing")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        context = {"journals": pictures(request), "formats": sorted(plaintext.FORMATS)}
        return super().changelist_view(request, {**(extra_context or {}), **context})

    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(self.export)
        own = [path("export/<int:vendor_id>/<str:kind>/", export, name="billing_journal_export")]
        return own + super().get_urls()

    def export(self, request: HttpRequest, vendor_id: int, kind: str) -> StreamingHttpResponse:
        """The whole journal, or (?month=2026-10) one month of it."""
        own = Vendor.objects.filter(book_id__in=books_of(request, roles=READERS))
        vendor = own.filter(pk=vendor_id).first()
        closed = vendor and journal.closed_days(vendor_id=vendor.pk)
        if vendor is None or not closed or kind not in plaintext.FORMATS:
            raise Http404
        first, last = _month(request.GET.get("month", "")) or closed
        first, last = max(first, closed[0]), min(last, closed[1])
        text = plaintext.text(vendor=vendor, first=first, last=last)
        name = f"{vendor.code}-{first}-{last}.{'journal' if kind == 'hledger' else kind}"
        return StreamingHttpResponse(
            plaintext.FORMATS[kind](text),
            content_type=CONTENT_TYPES.get(kind, "text/plain; charset=utf-8"),
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


def pictures(request: HttpRequest) -> list[Picture]:
    """What the person's vendors earned, month by month; of those whose books they may see."""
    vendors = Vendor.objects.filter(book_id__in=books_of(request, roles=READERS))
    found = (picture(vendor=vendor, months_max=MONTHS_SHOWN) for vendor in vendors.order_by("name"))
    return [one for one in found if one.charts]


def _month(text: str) -> tuple[Any, Any] | None:
    if not text:
        return None
    try:
        begins = datetime.combine(datetime.fromisoformat(f"{text}-01"), time(), UTC).date()
    except ValueError:
        raise Http404 from None
    return begins, journal.last_of_month(begins)
