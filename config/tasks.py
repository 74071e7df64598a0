"""Celery's way in, for the installation itself."""

from celery import shared_task
from django.utils import timezone

from config.models import Heartbeat


@shared_task
def heartbeat(asker: str) -> None:
    """Every 15 seconds, and when the doctor asks."""
    Heartbeat.objects.update_or_create(asker=asker, defaults={"done_at": timezone.now()})
