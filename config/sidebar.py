"""What stands in the sidebar of Django's admin, and its stylesheet."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

from billing.pages import desk_books


def _page(title: str, model: str, icon: str) -> dict[str, Any]:
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{model.replace('.', '_')}_changelist"),
        "permission": _may_see(model),
    }


def _may_see(model: str) -> Any:
    def may_see(request: HttpRequest) -> bool:
        rows = next(row for row in admin.site._registry if row._meta.label_lower == model)
        return admin.site._registry[rows].has_module_permission(request)

    return may_see


def _group(title: str, *items: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "separator": True, "items": list(items)}


NAVIGATION = [
    {
        "items": [
            {"title": "Home", "icon": "home", "link": reverse_lazy("admin:index")},
            {
                "title": "Desk",
                "icon": "support_agent",
                "link": reverse_lazy("desk"),
                "permission": lambda request: bool(desk_books(request.user)),
            },
        ]
    },
    _group(
        "What work costs",
        _page("Units", "ledger.unit", "toll"),
        _page("Meters", "ledger.meter", "speed"),
        _page("Engines", "ledger.engine", "memory"),
        _page("Workflows", "ledger.workflow", "account_tree"),
        _page("Rate cards", "ledger.ratecard", "request_quote"),
    ),
    _group(
        "What you sell",
        _page("Plans", "billing.plan", "sell"),
        _page("Plan versions", "billing.planversion", "history_edu"),
        _page("Pilots", "billing.cohort", "science"),
        _page("Top-up packs", "billing.topuppack", "add_shopping_cart"),
    ),
    _group(
        "Customers",
        _page("Customers", "billing.customer", "apartment"),
        _page("Their people", "billing.customermember", "group"),
        _page("Subscriptions", "billing.subscription", "event_repeat"),
        _page("Invoices", "billing.invoice", "receipt_long"),
        _page("Top-ups", "billing.topup", "shopping_bag"),
        _page("Journal", "billing.journalday", "menu_book"),
        _page("Alerts", "billing.alertmessage", "notifications"),
    ),
    _group(
        "Tokens",
        _page("Accounts", "ledger.account", "account_balance_wallet"),
        _page("Lots", "ledger.lot", "inventory"),
    ),
    _group(
        "Your company",
        _page("Team", "ledger.bookmember", "badge"),
        _page("API keys", "ledger.apikey", "key"),
        _page("Vendor", "billing.vendor", "storefront"),
    ),
    _group(
        "Installation",
        _page("All people", "auth.user", "person"),
        _page("Calls to Stripe", "billing.stripecall", "outbox"),
        _page("Events from Stripe", "billing.stripeevent", "inbox"),
    ),
]


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups in which the person may see something."""
    return [group for group in NAVIGATION if any(_seen(item, request) for item in group["items"])]


def _seen(item: dict[str, Any], request: HttpRequest) -> bool:
    permission = item.get("permission")
    return permission is None or bool(permission(request))


def stylesheet(request: HttpRequest) -> str:
    return static("billing/admin.css")


def icon(request: HttpRequest) -> str:
    return static("billing/icon.svg")
