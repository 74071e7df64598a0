from billing.errors import BillingError
from ledger.api.problems import STATUS
from ledger.errors import LedgerError


def test_every_refusal_of_the_ledger_has_a_status_and_every_refusal_a_code_of_its_own():
    assert set(STATUS) == set(LedgerError.__subclasses__())
    for refusals in (LedgerError.__subclasses__(), BillingError.__subclasses__()):
        assert len({refusal.code for refusal in refusals}) == len(refusals)
