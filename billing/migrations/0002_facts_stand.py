"""What has been written stays as it was written; the database itself refuses anything else."""

from django.db import migrations

FORBID = """
    -- Refuses every UPDATE and DELETE but those that touch only the columns named as arguments.
    CREATE FUNCTION billing_fact_stands() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND TG_NARGS > 0
           AND to_jsonb(NEW) - TG_ARGV[0:TG_NARGS - 1] = to_jsonb(OLD) - TG_ARGV[0:TG_NARGS - 1]
        THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION '% of % is forbidden: facts are corrected by new facts',
            TG_OP, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
    END $$;

    -- The same, from the moment a row of the catalog has been published.
    CREATE FUNCTION billing_published_stands() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.published_at IS NOT NULL
           AND (TG_OP = 'DELETE' OR to_jsonb(NEW) - 'retired_at' <> to_jsonb(OLD) - 'retired_at')
        THEN
            RAISE EXCEPTION '% of % is forbidden: it is published', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN coalesce(NEW, OLD);
    END $$;

    -- Rows that belong to a row of the catalog (its table and the column that names it are the
    -- arguments) are frozen with it. Whoever changes one waits for whoever publishes the whole,
    -- and then sees it published.
    CREATE FUNCTION billing_published_parts_stand() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        whole_ids bigint[];
        is_published boolean;
    BEGIN
        whole_ids := ARRAY[(to_jsonb(NEW) ->> TG_ARGV[1])::bigint,
                           (to_jsonb(OLD) ->> TG_ARGV[1])::bigint];
        EXECUTE format('SELECT FROM %I WHERE id = ANY ($1) FOR SHARE', TG_ARGV[0])
            USING whole_ids;
        EXECUTE format('SELECT EXISTS (SELECT FROM %I'
                       ' WHERE id = ANY ($1) AND published_at IS NOT NULL)', TG_ARGV[0])
            USING whole_ids INTO is_published;
        IF is_published THEN
            RAISE EXCEPTION '% of % is forbidden: what it belongs to is published',
                TG_OP, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN coalesce(NEW, OLD);
    END $$;

    CREATE TRIGGER published_stands BEFORE UPDATE OR DELETE ON billing_planversion
        FOR EACH ROW EXECUTE FUNCTION billing_published_stands();
    CREATE TRIGGER published_stands BEFORE UPDATE OR DELETE ON billing_topuppack
        FOR EACH ROW EXECUTE FUNCTION billing_published_stands();
    CREATE TRIGGER published_stands BEFORE INSERT OR UPDATE OR DELETE ON billing_planprice
        FOR EACH ROW
        EXECUTE FUNCTION billing_published_parts_stand('billing_planversion', 'version_id');
    CREATE TRIGGER published_stands BEFORE INSERT OR UPDATE OR DELETE ON billing_sizeoption
        FOR EACH ROW
        EXECUTE FUNCTION billing_published_parts_stand('billing_planversion', 'version_id');
    CREATE TRIGGER published_stands BEFORE INSERT OR UPDATE OR DELETE ON billing_overagetier
        FOR EACH ROW
        EXECUTE FUNCTION billing_published_parts_stand('billing_planversion', 'version_id');

    CREATE TRIGGER published_stands BEFORE INSERT OR UPDATE OR DELETE ON billing_packprice
        FOR EACH ROW
        EXECUTE FUNCTION billing_published_parts_stand('billing_topuppack', 'pack_id');
    CREATE TRIGGER published_stands BEFORE INSERT OR UPDATE OR DELETE ON billing_topuppack_plans
        FOR EACH ROW
        EXECUTE FUNCTION billing_published_parts_stand('billing_topuppack', 'topuppack_id');

    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_vendor
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands(
            'name', 'dunning_retry_days', 'dunning_grace_days');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_customer
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands(
            'name', 'email', 'time_zone', 'account_manager_id', 'payment_days',
            'stripe_payment_method_id', 'stripe_customer_id', 'sync_token', 'asked_at');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_paymentmethod
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands(
            'kind', 'brand', 'last4', 'expires_year', 'expires_month', 'detached_at');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_paymentmethodchoice
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_cardsetup
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands(
            'stripe_session_id', 'url', 'opened_at', 'expired_at', 'method_id', 'saved_at',
            'sync_token');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_subscription
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands('cancelled_at');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_period
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands('ends_at');
    -- A period may end sooner than it was to, never later.
    CREATE TRIGGER period_ends_no_later BEFORE UPDATE OF ends_at ON billing_period
        FOR EACH ROW WHEN (NEW.ends_at > OLD.ends_at) EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_periodsettlement
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_periodclosing
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_invoice
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands('sync_token');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_invoiceline
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_invoicefinalization
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_invoicepayment
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_invoicepaymentfailure
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_dunningstep
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_restriction
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands('lifted_at');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_invoicecarried
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_invoicegivenup
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_overagestep
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_credit
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_credituse
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_planchange
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_perioduse
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_paidallotment
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_gift
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_topup
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands('sync_token');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_topupsession
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands(
            'completed_at', 'failed_at', 'expired_at');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_topupcharge
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands(
            'minor_units', 'stripe_payment_intent_id', 'failed_at', 'code', 'message', 'ended_at');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_autotopup
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands('turned_off_at', 'turned_off_by_id');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_autotopuppause
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands('resumed_at', 'resumed_by_id');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_autotopupwithheld
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_notice
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands(
            'tries', 'next_try_at', 'leased_until', 'sent_at', 'parked_at', 'error');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_topuppayment
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_topupfulfilment
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_refund
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_refundatstripe
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_refundsuccess
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_refundfailure
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_dispute
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_disputestatus
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_topupreversal
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_creditnote
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_creditnoteline
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_creditnoteissued
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_creditnoterefused
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_creditnotevoided
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_alertmessage
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands(
            'tries', 'next_try_at', 'leased_until', 'sent_at', 'parked_at', 'error',
            'acknowledged_at', 'acknowledged_by_id');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_alert
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands('rearmed_at');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_stripecall
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands(
            'tries', 'first_sent_at', 'next_try_at', 'leased_until', 'request_digest', 'done_at',
            'refused_at', 'parked_at', 'stripe_id', 'stripe_request_id', 'http_status',
            'error_code', 'error_message');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_stripeevent
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands(
            'tries', 'next_try_at', 'leased_until', 'done_at', 'ignored_at', 'parked_at', 'error');
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_journalday
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();
    CREATE TRIGGER fact_stands BEFORE UPDATE OR DELETE ON billing_journalline
        FOR EACH ROW EXECUTE FUNCTION billing_fact_stands();

    -- A day of the journal is written by one statement, and balances in each currency.
    CREATE FUNCTION billing_journal_balances() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM added GROUP BY day_id, currency
            HAVING sum(amount) <> 0 OR sum(micros) <> 0
        ) THEN
            RAISE EXCEPTION 'the lines of a day of the journal do not balance'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        IF (SELECT count(*) FROM added) <> (
            SELECT count(*) FROM billing_journalline
            WHERE day_id IN (SELECT day_id FROM added)
        ) THEN
            RAISE EXCEPTION 'the day is closed: what is learnt later is booked on an open day'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER journal_balances AFTER INSERT ON billing_journalline
        REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION billing_journal_balances();
"""

ALLOW = """
    DROP FUNCTION billing_fact_stands() CASCADE;
    DROP FUNCTION billing_published_stands() CASCADE;
    DROP FUNCTION billing_published_parts_stand() CASCADE;
    DROP FUNCTION billing_journal_balances() CASCADE;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [migrations.RunSQL(FORBID, ALLOW)]
