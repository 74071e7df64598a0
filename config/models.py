from django.db import models


class Heartbeat(models.Model):
    """When a worker last did what was asked of it, by who asked: beat, or a doctor's question.

    A recent one proves in one row that the asker, the broker and a worker are all well.
    """

    asker = models.CharField(max_length=40, unique=True)
    done_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.asker}, {self.done_at:%Y-%m-%d %H:%M:%S}"
