from billing.errors import BillingError
from ledger.api.problems import STATUS
from ledger.errors import LedgerError


def all_subclasses(of: type) -> set[type]:
    return {one for sub in of.__subclasses__() for one in {sub, *all_subclasses(sub)}}


def test_every_refusal_of_the_ledger_has_a_status_and_every_refusal_a_code_of_its_own():
    assert set(STATUS) == all_subclasses(LedgerError)
    for base in (LedgerError, BillingError):
        refusals = all_subclasses(base)
        assert len({refusal.code for refusal in refusals}) == len(refusals)
