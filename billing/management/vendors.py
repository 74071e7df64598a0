"""Which vendor a command is about."""

from django.core.management.base import CommandError

from billing.models import Vendor


def vendor_of(code: str | None) -> Vendor:
    """The vendor of this code; without one, the only vendor there is."""
    vendors = Vendor.objects.order_by("code")
    codes = ", ".join(vendors.values_list("code", flat=True))
    known = codes or "none yet (run `make demo`, or add a vendor in the admin)"
    if code is None:
        if vendors.count() != 1:
            raise CommandError(f"say which vendor with --vendor: {known}")
        return vendors.get()
    found = vendors.filter(code=code).first()
    if found is None:
        raise CommandError(f"there is no vendor {code!r}; there are: {known}")
    return found
