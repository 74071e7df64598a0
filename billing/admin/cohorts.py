"""Pilots: who is in a cohort, and what it is offered."""

from django.contrib import admin

from billing.models import Cohort, CohortMember, CohortOffer
from config.admin import ACCOUNT_MANAGER, ADMIN, PRICING, BookAdmin, OneBookForm, PartsInline


class CohortForm(OneBookForm[Cohort]):
    class Meta:
        model = Cohort
        fields = ("vendor", "name")


class CohortMemberForm(OneBookForm[CohortMember]):
    class Meta:
        model = CohortMember
        fields = ("customer",)


class CohortOfferForm(OneBookForm[CohortOffer]):
    class Meta:
        model = CohortOffer
        fields = ("plan", "from_at", "until_at")


class MembersInline(PartsInline[CohortMember, Cohort]):
    model = CohortMember
    form = CohortMemberForm
    verbose_name_plural = "customers in it"


class OffersInline(PartsInline[CohortOffer, Cohort]):
    model = CohortOffer
    form = CohortOfferForm
    verbose_name_plural = "plans that it is offered"


@admin.register(Cohort)
class CohortAdmin(BookAdmin[Cohort]):
    form = CohortForm
    book_path = "vendor__book_id"
    editors = frozenset({ADMIN, PRICING, ACCOUNT_MANAGER})
    list_display = ("name", "customers_count", "plans")
    list_select_related = ("vendor",)
    search_fields = ("name",)
    ordering = ("name",)
    fixed = ("vendor",)
    inlines = (MembersInline, OffersInline)
    purpose = (
        "Customers who try a plan before others do. A plan that is offered to cohorts is for their"
        " customers alone, while the offer lasts; whoever is on it keeps it."
    )

    @admin.display(description="customers")
    def customers_count(self, cohort: Cohort) -> int:
        return cohort.members.count()

    @admin.display(description="offered")
    def plans(self, cohort: Cohort) -> str:
        offers = cohort.offers.select_related("plan")
        return ", ".join(sorted(one.plan.name for one in offers)) or "-"
