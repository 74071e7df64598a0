"""Bars, drawn without a style of their own, so that the page's policy can forbid such."""

from typing import Any

from django import template

register = template.Library()


@register.inclusion_tag("pages/bar.html")
def bar(percent: int, label: str = "", kind: str = "") -> dict[str, Any]:
    """`kind`: warning, alarm or nothing; `label` is what is read out."""
    return {"percent": max(0, min(100, percent)), "label": label, "kind": kind}


@register.filter
def left_percent(lot: Any) -> int:
    """How much of a lot is left; something left is never shown as nothing."""
    share = lot.remaining_microtokens * 100 // lot.granted_microtokens
    return max(1, int(share)) if lot.remaining_microtokens else 0


@register.filter
def level(percent: int) -> str:
    """How a share of the allotment is marked."""
    if percent >= 90:
        return "alarm"
    return "warning" if percent >= 70 else ""
