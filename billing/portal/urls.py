from django.contrib.auth.views import LogoutView
from django.urls import path

from billing.portal import (
    auto_top_up,
    buying,
    development,
    pages,
    paying,
    plan,
    sign_in,
    statements,
)

urlpatterns = [
    path("", sign_in.front, name="front"),
    path("sign-in/", sign_in.SignIn.as_view(), name="sign_in"),
    path("sign-out/", LogoutView.as_view(), name="sign_out"),
    path("sign-in/new-password/", sign_in.AskForLink.as_view(), name="ask_for_link"),
    path("sign-in/new-password/sent/", sign_in.LinkSent.as_view(), name="link_sent"),
    path(
        "sign-in/new-password/<uidb64>/<token>/",
        sign_in.ChoosePassword.as_view(),
        name="choose_password",
    ),
    path("portal/", pages.portal, name="portal"),
    path("portal/top-ups/<uuid:top_up_id>/", buying.top_up, name="top_up"),
    path("portal/top-ups/<uuid:top_up_id>/state/", buying.top_up_state, name="top_up_state"),
    path("portal/<uuid:reference>/", pages.overview, name="overview"),
    path("portal/<uuid:reference>/runs/", pages.runs, name="runs"),
    path("portal/<uuid:reference>/plan/", plan.plan, name="plan"),
    path("portal/<uuid:reference>/invoices/", pages.invoices, name="invoices"),
    path(
        "portal/<uuid:reference>/invoices/<uuid:invoice_id>/statement/",
        statements.statement,
        name="statement",
    ),
    path(
        "portal/<uuid:reference>/invoices/<uuid:invoice_id>/statement.csv",
        statements.statement_csv,
        name="statement_csv",
    ),
    path("portal/<uuid:reference>/buy/", buying.buy, name="buy"),
    path("portal/<uuid:reference>/auto-top-up/", auto_top_up.auto_top_up, name="auto_top_up"),
    path("portal/<uuid:reference>/payment/", paying.payment, name="payment"),
    path("portal/<uuid:reference>/payment/add/", paying.add_card, name="add_card"),
    path("portal/<uuid:reference>/payment/choose/", paying.choose_card, name="choose_card"),
    path("portal/<uuid:reference>/payment/remove/", paying.remove_card, name="remove_card"),
    path("portal/<uuid:reference>/payment/stripe/", paying.stripe_page, name="stripe_page"),
    path("portal/card-setups/<uuid:card_setup_id>/", paying.card_setup, name="card_setup"),
    path("development/mail/", development.mail, name="development_mail"),
    path("development/mail/<str:name>/", development.one_mail, name="development_one_mail"),
]
