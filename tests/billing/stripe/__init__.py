"""What must work with Stripe, each item with the tests that prove it.

Against the simulator, over HTTP, by the official SDK. `test_acceptance` holds this list against
the tests: one that is renamed must be renamed here.

Delivery of events
    twice, also at once             test_webhook: ten_deliveries_and_ten_buyers_pages_at_once_grant
    in reverse order                test_acceptance: whatever_the_order_and_number_of_events
    before our commit               test_top_ups: comes_before_the_session_is_written_down
    after our endpoint failed       test_webhooks: what_is_not_accepted_comes_again
    and failed after it was kept    test_top_ups: seen_is_not_done
    beside the page one returns to  test_top_ups: page_the_buyer_comes_back_to_and_the_webhook
    of another event of the payment test_top_ups: and_another_event_of_the_same_payment
    never                           test_top_ups: whose_webhook_never_came
    of an older API version         test_acceptance: rendered_for_an_older_version
    of the other mode               test_webhook: events_that_do_not_concern_us
    while a secret is replaced      test_webhook: either_of_two_secrets
Calls
    answer lost, at every POST      test_acceptance: every_answer_is_lost
    worker killed at every step     test_acceptance: killed_at_any_step
    invoices, killed at every step  test_invoices_at_stripe: killed_anywhere_in_the_chain
    slowed down by 429              test_invoices_at_stripe: asks_us_to_slow_down
    a key that remembers a 500      test_invoices_at_stripe: key_that_remembers_a_fault
    a key that is too old           test_invoices_at_stripe: first_sent_20_hours_ago
    a key, forgotten after a day    test_idempotency: forgotten_after_a_day
    a key with other parameters     test_idempotency: other_parameters_or_another_address
    a buyer who clicks twice        test_top_ups: impatient_buyer
Payments
    declined, then another card     test_top_ups: declined_card_grants_nothing_and_a_good_one
    delayed, succeeded              test_top_ups: takes_days_grants_when_it_succeeds
    delayed, failed                 test_top_ups: fails_after_days_grants_nothing
    expired beside paid             test_acceptance: said_to_have_expired_and_was_paid
    UGX, ISK, JPY, KWD              test_refunds: currencies_have_their_own_smallest_part
    tokens for the price, not tax   test_refunds: tax_goes_back_in_proportion
Refunds
    three parts, to the whole       test_refunds: three_parts_come_to_the_whole
    part of a part-used pack        test_refunds: part_used_pack_goes_back_at_its_own_price
    failed after it succeeded       test_refunds: fails_days_later
    failed, then voided: once       test_acceptance: a_refund_that_fails_and_a_void
    made in the Dashboard           test_refunds: made_at_stripe_takes_its_share_once
    of what is used: a debt         test_refunds: forced_and_leaves_a_debt
    while a run is voided           test_refunds: voided_while_a_refund_is_under_way
Disputes
    opened: frozen                  test_disputes: freezes_what_is_left
    won                             test_disputes: won_the_tokens_thaw
    lost                            test_disputes: lost_the_tokens_go
    won, then refunded              test_disputes: won_and_then_refunded
    before the payment is known     test_disputes: heard_of_before_the_payment
Invoices
    at most 250 lines               test_invoice_life: at_most_250_lines
    no negative lines               test_invoice_life: negative_lines_and_automatic_tax
    no place for tax, then mended   test_acceptance: no_place_to_tax
    too small: carried              test_carrying: less_than_stripe_charges_is_carried
    credited to the cent            test_credit_notes: four_credit_notes_come_to_the_invoice
"""
