"""Settings under test: a development installation, whatever database it is given."""

import os

os.environ.setdefault("RUNLEDGER_DEVELOPMENT", "1")
# A message is only a wake-up: tests run what it would wake, and tests/faults runs real workers.
os.environ.setdefault("CELERY_BROKER_URL", "memory://")

from config.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
