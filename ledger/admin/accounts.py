"""Accounts and lots, as they stand. Facts: they are changed by runs, grants and expiry alone."""

from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone

from config.admin import FactAdmin, books_of, tokens_shown
from ledger import parking, queries
from ledger.models import Account, Lot, Standing

RUNS_SHOWN_MAX = 50


class AccountsPage(ChangeList):
    """A page of accounts, each with its balance: all are read at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        account_ids = [account.id for account in self.result_list]
        balances = queries.balances(account_ids=account_ids, at=timezone.now())
        for account in self.result_list:
            account.balance = balances[account.id]


@admin.register(Account)
class AccountAdmin(FactAdmin[Account]):
    list_display = ("name", "code", "runs_count", "available")
    search_fields = ("name", "code")
    ordering = ("name",)
    fields = (
        *("name", "code", "opened_at", "default_cost_centre", "time_zone"),
        *("runs_count", "available", "owed"),
    )
    readonly_fields = ("runs_count", "available", "owed")
    change_form_template = "admin/ledger/account/change_form.html"
    purpose = (
        "What holds tokens. An account is opened with its customer; its runs name it by its code."
    )

    def rows_of(self, request: HttpRequest, *, roles: frozenset[str]) -> QuerySet[Account]:
        """With how many runs each has had."""
        standing = Standing.objects.filter(shard=OuterRef("shard"), account_id=OuterRef("id"))
        rows = super().rows_of(request, roles=roles)
        return rows.annotate(runs_now=Subquery(standing.values("runs_count")))

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        return AccountsPage

    def _balance(self, account: Any) -> queries.Balance:
        if hasattr(account, "balance"):  # of a page
            return cast(queries.Balance, account.balance)
        return queries.balances(account_ids=[account.id], at=timezone.now())[account.id]

    @admin.display(description="runs", ordering="runs_now")
    def runs_count(self, account: Any) -> str:
        return f"{account.runs_now:,}"

    @admin.display(description="available (tokens)")
    def available(self, account: Account) -> str:
        return tokens_shown(self._balance(account).available_microtokens)

    @admin.display(description="owed (tokens)")
    def owed(self, account: Account) -> str:
        return tokens_shown(self._balance(account).debt_microtokens)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *given: Any, **options: Any
    ) -> Any:
        account: Account = options["obj"]
        lots = queries.lots(account_ids=[account.id])
        context["lots"] = [lot for lot in lots if lot.kind == "prepaid" or lot.out_microtokens]
        waits = parking.waits_of_accounts(account_ids=[account.id])
        context["waits"] = waits.get(account.id, [])
        context["runs"] = queries.runs(account_id=account.id, runs_max=RUNS_SHOWN_MAX)
        return super().render_change_form(request, context, *given, **options)


@admin.register(Lot)
class LotAdmin(FactAdmin[Lot]):
    list_display = ("id", "account", "origin", "granted", "remaining", "expires_at")
    ordering = ("-issued_at", "-id")
    fields = (
        "account",
        "kind",
        "source",
        "priority",
        "issued_at",
        "effective_at",
        "expires_at",
        "closes_at",
        "granted",
        "remaining",
        "price",
    )
    readonly_fields = ("account", "granted", "remaining", "price")
    change_form_template = "admin/ledger/lot/change_form.html"
    purpose = (
        "Tokens granted together: one price paid, one expiry, one priority. Smaller priorities are"
        " used first, then what expires sooner."
    )

    def rows_of(self, request: HttpRequest, *, roles: frozenset[str]) -> QuerySet[Lot]:
        """With what is out now: of the lot in use its account's standing knows."""
        accounts = Account.objects.filter(book_id__in=books_of(request, roles=roles))
        in_use = Standing.objects.filter(
            shard=OuterRef("shard"),
            account_id=OuterRef("account_id"),
            in_use_lot_id=OuterRef("id"),
        )
        return Lot.objects.filter(account_id__in=accounts.values("id")).annotate(
            out_now=Coalesce(Subquery(in_use.values("in_use_out_microtokens")), "out_microtokens"),
            account_name=Subquery(
                accounts.filter(shard=OuterRef("shard"), id=OuterRef("account_id")).values("name")
            ),
        )

    def book_id_of(self, row: Lot) -> int:
        return Account.objects.get(shard=row.shard, id=row.account_id).book_id

    @admin.display(description="account")
    def account(self, lot: Any) -> str:
        return str(lot.account_name)

    @admin.display(description="source", ordering="source")
    def origin(self, lot: Lot) -> str:
        return lot.source.replace("_", " ")

    @admin.display(description="granted (tokens)", ordering="granted_microtokens")
    def granted(self, lot: Lot) -> str:
        return tokens_shown(lot.granted_microtokens) if lot.kind == "prepaid" else "as needed"

    @admin.display(description="remaining (tokens)")
    def remaining(self, lot: Any) -> str:
        if lot.kind != "prepaid":
            return f"{tokens_shown(lot.out_now)} used"
        return tokens_shown(lot.granted_microtokens - lot.out_now)

    @admin.display(description="price paid")
    def price(self, lot: Lot) -> str:
        if not lot.price_micros:
            return "nothing"
        return f"{lot.currency} {tokens_shown(lot.price_micros)}"

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *given: Any, **options: Any
    ) -> Any:
        context["movements"] = queries.movements(lot_id=options["obj"].id)
        return super().render_change_form(request, context, *given, **options)
