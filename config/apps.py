from django.apps import AppConfig


class ConfigConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        # Tasks are sent through our Celery application, in whatever process.
        from config import celery  # noqa: F401
