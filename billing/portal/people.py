"""Who may open which page of the portal: people of the customer, and what their role lets them."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, cast

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from billing import customers
from billing.models import Customer, CustomerMember

BUYERS: Final = frozenset({CustomerMember.Role.ADMIN, CustomerMember.Role.BUYER})


def of_customer(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The view takes the customer that the address names; to anyone else's people it is absent."""

    @login_required
    @wraps(view)
    def page(request: HttpRequest, *, reference: str, **address: Any) -> HttpResponse:
        own = customers.of_person(user=request.user).select_related("vendor")
        return view(request, customer=get_object_or_404(own, reference=reference), **address)

    return page


def may_buy(*, request: HttpRequest, customer: Customer) -> bool:
    return customer.members.filter(user=cast(User, request.user), role__in=BUYERS).exists()
