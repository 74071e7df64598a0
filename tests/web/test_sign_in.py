"""The door: who comes in, and where a person goes from there."""

import re

from django.core import mail
from django.test import Client
from django.views.defaults import server_error

from tests import builders
from tests.web.conftest import Company, text_of


def test_each_person_comes_to_the_place_of_their_work(ours: Company, signed_in) -> None:
    for user, place in (
        (ours.account_manager, "/desk/"),
        (ours.admin, "/desk/"),
        (ours.pricing, "/admin/"),
        (ours.buyer, "/portal/"),
    ):
        assert signed_in(user).get("/")["Location"] == place


def test_a_person_of_nothing_reads_what_to_do(signed_in, db: None) -> None:
    client = signed_in(builders.person())
    assert "nobody has added you" in text_of(client.get("/"))
    assert "nobody has added you" in text_of(client.get("/portal/"))


def test_a_wrong_password_is_told_and_nothing_more(ours: Company, client) -> None:
    for name in (ours.buyer.username, "nobody@nowhere.example"):
        response = client.post("/sign-in/", {"username": name, "password": "wrong"})
        assert "do not go together" in text_of(response)


def test_signing_in_leads_where_one_wanted_to_go_but_not_elsewhere(ours: Company, client) -> None:
    typed = {"username": ours.buyer.username, "password": "secret"}
    wanted = f"/portal/{ours.customer.reference}/invoices/"
    assert client.post("/sign-in/", typed | {"next": wanted})["Location"] == wanted
    client.logout()
    assert client.post("/sign-in/", typed | {"next": "https://evil.example"})["Location"] == "/"


def test_signing_out_ends_it(ours: Company, signed_in) -> None:
    client = signed_in(ours.buyer)
    assert client.post("/sign-out/")["Location"] == "/sign-in/"
    assert client.get("/portal/").status_code == 302


def test_a_forgotten_password_is_chosen_anew_by_mail(ours: Company, client) -> None:
    for address in (ours.buyer.email, "nobody@nowhere.example"):
        sent = client.post("/sign-in/new-password/", {"email": address}, follow=True)
        assert "If we know this address" in text_of(sent)
    [letter] = mail.outbox
    [path] = re.findall(r"/sign-in/new-password/\S+", str(letter.body))
    form = client.get(path, follow=True).redirect_chain[-1][0]
    password = {"new_password1": "a tall green door", "new_password2": "a tall green door"}
    assert client.post(form, password)["Location"] == "/"
    assert "does not work any more" in text_of(client.get(path, follow=True))


def test_what_is_not_there_not_allowed_or_broken_is_told_plainly(
    ours: Company, signed_in, rf
) -> None:
    missing = signed_in(ours.buyer).get("/nowhere/")
    assert missing.status_code == 404
    assert "There is nothing here" in missing.content.decode()
    forger = Client(enforce_csrf_checks=True)
    forged = forger.post("/sign-in/", {"username": "a", "password": "b"})
    assert forged.status_code == 403
    assert "Please send it again" in forged.content.decode()
    broken = server_error(rf.get("/"))
    assert broken.status_code == 500
    assert "Something went wrong on our side" in broken.content.decode()
