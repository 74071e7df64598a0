"""What every page of Django's admin shares: whose rows they are, who may change them, how tokens
are typed and shown, and how a refusal comes back to the field it is about.

Three rules hold for every class that is registered:

- A person sees the rows of the books that they are a member of, and no others: in lists, by
  address, in the choices of a field, in autocompletion, in the history.
- What they may do there follows from their role in that row's book, not from Django's permissions.
- Facts are read-only. *Adding a fact is the command*: the add page is its form, and `save_model`
  calls the operation.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.forms.models import BaseInlineFormSet
from django.http import Http404, HttpRequest, HttpResponse
from unfold.decorators import action as unfold_action
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from ledger import access
from ledger.errors import Fault, LedgerError
from ledger.units import from_tokens, to_tokens

if TYPE_CHECKING:  # unfold has no types; its classes are Django's with another look
    from django.contrib.admin import ModelAdmin, TabularInline
else:
    from unfold.admin import ModelAdmin, TabularInline

Row = TypeVar("Row", bound=models.Model)
Parent = TypeVar("Parent", bound=models.Model)

ADMIN, PRICING, FINANCE, ACCOUNT_MANAGER = "admin", "pricing", "finance", "account_manager"
EVERYBODY = frozenset({ADMIN, PRICING, FINANCE, ACCOUNT_MANAGER})


def tokens_shown(microtokens: int | None) -> str:
    """1,234.5; a dash for none."""
    if microtokens is None:
        return "-"
    amount = to_tokens(microtokens)
    return f"{amount.normalize():,f}" if amount else "0"


def tokens_of_text(contents: str) -> str:
    """What a read-only page shows for a column of microtokens."""
    digits = contents.replace(",", "")
    return tokens_shown(int(digits)) if digits.isdecimal() else contents


class TokensField(forms.DecimalField):
    """People type and read tokens; the row holds microtokens."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=16, decimal_places=6, min_value=Decimal(0), **options)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, int):
            amount = to_tokens(value)
            return f"{amount.normalize():f}" if amount else "0"
        return value

    def clean(self, value: Any) -> int | None:
        tokens = super().clean(value)
        return None if tokens is None else from_tokens(tokens)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(super().has_changed(self.prepare_value(initial), data))


def tokens_formfield(db_field: models.Field[Any, Any]) -> TokensField:
    """The field in which a column of microtokens is typed."""
    label = str(db_field.verbose_name).replace("microtokens", "tokens").replace("  ", " ")
    return TokensField(
        label=label[0].upper() + label[1:],
        required=not db_field.blank,
        initial=db_field.get_default() if db_field.has_default() else None,
        help_text=db_field.help_text.replace("1 token = 1,000,000 microtokens.", "").strip(),
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )


class OwnChoices:
    """Fields offer only rows of books in which the person may change this very kind of row."""

    admin_site: admin.AdminSite

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        model: type[models.Model] = self.model  # type: ignore[attr-defined]  # mixed into admin classes
        self.readonly_preprocess_fields = {
            field.name: tokens_of_text
            for field in model._meta.get_fields()
            if field.name.endswith("microtokens")
        }

    def choosers(self) -> frozenset[str]:
        raise NotImplementedError

    def formfield_for_foreignkey(
        self, db_field: models.ForeignKey[Any, Any], request: HttpRequest, **options: Any
    ) -> Any:
        """A book or vendor of which there is only one choice is not asked for."""
        target = self.admin_site._registry.get(db_field.remote_field.model)
        if isinstance(target, PeopleAdmin):  # of all people, one's colleagues
            colleagues = Q(book_members__book_id__in=books_of(request, roles=EVERYBODY))
            options["queryset"] = User.objects.filter(colleagues).distinct()
        if isinstance(target, BookAdmin) and "queryset" not in options:
            rows = target.rows_of(request, roles=self.choosers())
            options["queryset"] = rows
            if db_field.name in ("book", "vendor") and rows.count() == 1:
                options |= {"widget": forms.HiddenInput(), "initial": rows.first()}
        return super().formfield_for_foreignkey(db_field, request, **options)  # type: ignore[misc]  # mixed into admin classes

    def formfield_for_dbfield(
        self, db_field: models.Field[Any, Any], request: HttpRequest, **options: Any
    ) -> Any:
        if db_field.name.endswith("microtokens"):
            return tokens_formfield(db_field)
        return super().formfield_for_dbfield(db_field, request, **options)  # type: ignore[misc]  # mixed into admin classes


class OneBookForm(forms.ModelForm[Row]):
    """Refuses a row that would tie rows of two books together."""

    # The form itself says in words what the table's checks forbid.
    checks_in_words: ClassVar[bool] = False

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        rows = [value for value in cleaned.values() if isinstance(value, models.Model)]
        books = {book_id_of(row) for row in rows} - {None}
        if len(books) > 1:
            raise ValidationError("Its parts belong to different vendors.")
        return cleaned

    def _post_clean(self) -> None:
        """Django would say "Constraint plan_version_term is violated": our own words are better."""
        if not self.checks_in_words:
            super()._post_clean()  # type: ignore[misc]  # Django's, not in its stubs
            return
        facts = vars(self.instance)
        facts["validate_constraints"] = self._validate_unique_constraints
        try:
            super()._post_clean()  # type: ignore[misc]  # Django's, not in its stubs
        finally:
            del facts["validate_constraints"]

    def _validate_unique_constraints(self, exclude: Any = None) -> None:
        for constraint in self.instance._meta.constraints:
            if isinstance(constraint, models.UniqueConstraint):
                constraint.validate(type(self.instance), self.instance, exclude=exclude)


def book_id_of(row: models.Model) -> int | None:
    """The book that a row belongs to; None for a row that no book owns, such as a person."""
    owner = admin.site._registry.get(type(row))
    return owner.book_id_of(row) if isinstance(owner, BookAdmin) else None


def refused(form: type[forms.ModelForm[Row]], refusal: Exception) -> type[forms.ModelForm[Row]]:
    """The same form, saying at its fields why the operation refused."""
    faults = getattr(refusal, "faults", None) or [Fault(field="", rule="", message=str(refusal))]

    class Refused(form):  # type: ignore[misc,valid-type]  # a form made at run time
        def _post_clean(self) -> None:
            super()._post_clean()
            add_faults(self, faults)

    return Refused


def add_faults(form: forms.BaseForm, faults: Iterable[Fault]) -> None:
    """Each fault at its field; what has no field here stands above the form."""
    for fault in faults:
        if fault.field in form.fields:
            form.add_error(fault.field, f"It {fault.message}.")
        else:
            form.add_error(None, fault.message[0].upper() + fault.message[1:] + ".")


class BookAdmin(OwnChoices, ModelAdmin[Row]):
    """Rows of somebody's own books. `book_path` leads from the row to its book's id."""

    book_path: ClassVar[str] = "book_id"
    viewers: ClassVar[frozenset[str]] = EVERYBODY
    editors: ClassVar[frozenset[str]] = frozenset({ADMIN})
    commanders: ClassVar[frozenset[str]] = frozenset()  # of facts: who may add one
    fixed: ClassVar[Sequence[str]] = ()  # typed when the row is added, and never changed
    purpose: ClassVar[str] = ""  # what the list is for, and what to do when it is empty
    refusals: ClassVar[tuple[type[Exception], ...]] = (LedgerError,)
    form: Any = OneBookForm
    compressed_fields = True
    warn_unsaved_form = True
    list_fullwidth = True
    list_before_template = "admin/purpose.html"
    actions = None
    show_full_result_count = False

    def choosers(self) -> frozenset[str]:
        return self.commanders | self.editors

    def rows_of(self, request: HttpRequest, *, roles: frozenset[str]) -> models.QuerySet[Row]:
        """Rows of the books in which the person has one of these roles."""
        own = {f"{self.book_path}__in": books_of(request, roles=roles)}
        return super().get_queryset(request).filter(**own)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Row]:
        return self.rows_of(request, roles=self.viewers)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fixed = () if obj is None else self.fixed
        return (*super().get_readonly_fields(request, obj), *fixed)

    def get_object(self, request: HttpRequest, *given: Any, **options: Any) -> Row:
        """Another vendor's row is as absent as one that never was."""
        found = super().get_object(request, *given, **options)
        if found is None:
            raise Http404
        return found

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Nobody is shown a button that would refuse them."""
        row = self.get_object(request, str(object_id))
        actions = super().get_actions_detail(request, object_id)  # type: ignore[misc]  # unfold's
        return [one for one in actions if self.may(request, one.method.roles, row)]

    def book_id_of(self, row: Row) -> int:
        value: Any = row
        for name in self.book_path.split("__"):
            value = getattr(value, name)
        return int(value)

    def may(self, request: HttpRequest, roles: frozenset[str], row: Any = None) -> bool:
        """Whether the person has one of the roles: in the row's book, or in any."""
        books = books_of(request, roles=roles)
        return bool(books) if row is None else self.book_id_of(row) in books

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.may(request, self.viewers)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may(request, self.viewers, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may(request, self.editors)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may(request, self.editors, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any
    ) -> Any:
        form = super().get_form(request, obj, change, **options)
        refusal = getattr(request, "refusal", None)
        return form if refusal is None else refused(form, refusal)

    def changeform_view(self, request: HttpRequest, *given: Any, **options: Any) -> Any:
        """Save; if the operation refuses, show the form again with the reason at its field."""
        try:
            return super().changeform_view(request, *given, **options)
        except self.refusals as refusal:
            request.refusal = refusal  # type: ignore[attr-defined]  # read by get_form
            return super().changeform_view(request, *given, **options)


class FactAdmin(BookAdmin[Row]):
    """Facts: added by a command, or by nobody here; never changed, never deleted."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may(request, self.commanders)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class PartsInline(OwnChoices, TabularInline[Row, Parent]):
    """Rows that belong to the row on the page: whoever may change that one may change these."""

    form: Any = forms.ModelForm
    formset: Any = BaseInlineFormSet
    extra = 0
    hide_title = True

    def choosers(self) -> frozenset[str]:
        owner = self.admin_site._registry[self.parent_model]
        assert isinstance(owner, BookAdmin)
        return owner.choosers()

    def _may(self, request: HttpRequest, obj: Any) -> bool:
        owner = self.admin_site._registry[self.parent_model]
        return owner.has_change_permission(request, obj)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, obj)


class FactsInline(PartsInline[Row, Parent]):
    """Facts that belong to the row on the page."""

    def _may(self, request: HttpRequest, obj: Any) -> bool:
        return False


def books_of(request: HttpRequest, *, roles: frozenset[str]) -> list[int]:
    """Books in which the person has one of these roles; asked once a request."""
    known: dict[int, str | None] | None = getattr(request, "roles_in_books", None)
    if known is None:
        user = request.user
        staff = user.is_active and user.is_staff
        ids = access.book_ids(user=user) if staff else []
        known = {book_id: access.role(user=user, book_id=book_id) for book_id in ids}
        request.roles_in_books = known  # type: ignore[attr-defined]  # lives as long as the request
    return [book_id for book_id, role in known.items() if role in roles]


Page = Callable[..., HttpResponse]


def page_action(
    *, description: str, url_path: str, roles: frozenset[str], icon: str = ""
) -> Callable[[Page], Page]:
    """A button at the top of a row's page, and the page it leads to.

    The function takes the row itself: its roles have been checked in the row's book.
    """

    def decorate(function: Page) -> Page:
        def page(self: Any, request: HttpRequest, object_id: str) -> HttpResponse:
            row = self.get_object(request, object_id)
            if not self.may(request, roles, row):
                raise Http404
            return function(self, request, row)

        page.__name__ = function.__name__
        page.roles = roles  # type: ignore[attr-defined]  # whoever shows the button asks for them
        decorated: Page = unfold_action(
            description=description, url_path=url_path, icon=icon or None
        )(page)
        return decorated

    return decorate


class PlainAdmin(ModelAdmin[Row]):
    """A page without a book."""


class SuperuserOnly:
    """Rows of the installation rather than of a vendor."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_module_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)


admin.site.index_title = "Home"
admin.site.index_template = "admin/home.html"
admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class PeopleAdmin(SuperuserOnly, UserAdmin[User], ModelAdmin[User]):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupsAdmin(SuperuserOnly, GroupAdmin, ModelAdmin[Group]):
    pass
