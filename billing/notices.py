"""Write down what people are to be told about a customer's payments; billing.mail sends it."""

from datetime import datetime

from django.conf import settings

from billing.models import Customer, Notice


def tell(*, customer: Customer, about: str, subject: str, body: str, at: datetime) -> None:
    """Tell the customer's people and its account manager, once: `about` names what happened."""
    Notice.objects.get_or_create(
        about=about,
        defaults={"customer": customer, "subject": subject, "body": body, "written_at": at},
    )


def page(customer: Customer, name: str = "") -> str:
    """The address of a page of the customer's in the portal."""
    return f"{settings.WEB_URL}/portal/{customer.reference}/{name}"
