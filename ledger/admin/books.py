"""The book itself, and the people who work in it."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminEmailInputWidget

from config import people
from config.admin import ADMIN, BookAdmin, OneBookForm, SuperuserOnly
from ledger import access
from ledger.models import Book, BookMember


@admin.register(Book)
class BooksAdmin(SuperuserOnly, BookAdmin[Book]):
    """Shown to those who run the installation; a vendor sees its name instead."""

    book_path = "id"
    list_display = ("name", "code")
    fixed = ("code",)
    purpose = "One tenant's accounts, units and prices. A vendor's book is opened with the vendor."

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class MemberForm(OneBookForm[BookMember]):
    email = forms.EmailField(
        widget=UnfoldAdminEmailInputWidget,
        help_text="Whoever is new gets a mail with a link to choose a password.",
    )

    class Meta:
        model = BookMember
        fields = ("book", "email", "role")

    def clean(self) -> dict[str, Any]:
        """Finds or invites the person, so that the row's rules can be checked."""
        cleaned = super().clean() or {}
        if not self.errors and self.instance.pk is None:
            known = BookMember.objects.filter(
                book=cleaned["book"], user__username=people.username(cleaned["email"])
            )
            if known.exists():
                self.add_error("email", "This person is a member already: change their role.")
        return cleaned


@admin.register(BookMember)
class BookMemberAdmin(BookAdmin[BookMember]):
    list_display = ("person", "role")
    list_select_related = ("user",)
    fixed = ("book", "person")
    purpose = (
        "People of your company, and what each may do: an administrator everything, a pricing"
        " owner units, rates, plans and packs, finance and account managers customers and"
        " subscriptions."
    )

    @admin.display(description="person", ordering="user__username")
    def person(self, member: BookMember) -> str:
        return member.user.get_username()

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("book", "email", "role") if obj is None else ("person", "role")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any
    ) -> Any:
        if obj is None:
            options["form"] = MemberForm
        return super().get_form(request, obj, change, **options)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A person leaves by being taken off the list; nobody removes themselves."""
        itself = obj is not None and obj.user_id == request.user.pk
        return self.may(request, frozenset({ADMIN}), obj) and not itself

    def save_model(self, request: HttpRequest, obj: BookMember, form: Any, change: bool) -> None:
        if not change:
            obj.user = people.invite(email=form.cleaned_data["email"], staff=True)
        access.add_member(book_id=obj.book_id, user=obj.user, role=obj.role)
        obj.pk = BookMember.objects.get(book_id=obj.book_id, user=obj.user).pk
