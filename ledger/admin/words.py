"""What a token is, what is measured, what does the work and what is executed."""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from django.contrib import admin
from django.db import models
from django.http import HttpRequest

from config.admin import ADMIN, PRICING, BookAdmin
from ledger import catalog
from ledger.models import Engine, Meter, Unit, Workflow

Word = TypeVar("Word", bound=models.Model)


class WordAdmin(BookAdmin[Word]):
    """A name that runs and rates refer to by its code."""

    editors = frozenset({ADMIN, PRICING})
    list_display: tuple[str, ...] = ("name", "code")
    search_fields = ("name", "code")
    ordering = ("name",)
    fixed: ClassVar[Sequence[str]] = ("book", "code")
    readonly_fields: ClassVar[tuple[str, ...]] = ("vendor",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Whose it is, is chosen once and then a name: a book's own page is not for everybody."""
        fields = super().get_fields(request, obj)
        return fields if obj is None else ["vendor" if one == "book" else one for one in fields]

    @admin.display(description="vendor")
    def vendor(self, row: Any) -> str:
        return str(row.book)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        catalog.changed(book_id=obj.book_id)


@admin.register(Unit)
class UnitAdmin(WordAdmin[Unit]):
    list_display = ("name", "sentence")
    fields = ("book", "name", "code", "sentence")
    prepopulated_fields = {"code": ("name",)}  # noqa: RUF012 - as Django declares it
    purpose = (
        "What is one token? A unit says it in one sentence that a buyer understands."
        " It is the first thing to define: rate cards and plans count in it."
    )

    def get_prepopulated_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return {} if obj else super().get_prepopulated_fields(request, obj)


@admin.register(Meter)
class MeterAdmin(WordAdmin[Meter]):
    list_display = ("name", "code", "part_of")
    list_select_related = ("part_of",)
    fields = ("book", "name", "code", "part_of")
    # What is part of what decides what published rates ask.
    fixed = ("book", "code", "part_of")
    purpose = (
        "What your software measures in a run: executions, rows, documents, input_tokens."
        " Runs name a meter by its code."
    )


@admin.register(Engine)
class EngineAdmin(WordAdmin[Engine]):
    fields = ("book", "name", "code")
    purpose = (
        "The models and algorithms that do the work. A rate may name one, so that the same"
        " measure costs more on a dearer engine."
    )


@admin.register(Workflow)
class WorkflowAdmin(WordAdmin[Workflow]):
    list_display = ("name", "code", "default_cost_centre")
    fields = ("book", "name", "code", "default_cost_centre")
    purpose = (
        "What your customers execute. A run may name a workflow that is not listed; listing it"
        " gives it a name to read and a cost centre to fall back on."
    )
