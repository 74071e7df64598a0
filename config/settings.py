"""Settings. Everything that differs between installations comes from the environment.

`environment.py` says how it is read and when a missing variable is refused; docs/operations.md
lists every variable.
"""

import os
import sys
from typing import Any

import django_stubs_ext

from config import broker, environment, logs, schedule
from config.embedded import places
from ledger.units import SHARDS

# Lets ModelAdmin[Lot], QuerySet[Lot] and friends be written at run time.
django_stubs_ext.monkeypatch()

if not __debug__:
    raise RuntimeError("assertions are part of the ledger's safety: do not run python -O")

BASE_DIR = environment.CHECKOUT
HOME = environment.home()
DEVELOPMENT = environment.development()
SERVICES_UP = environment.services_up() if DEVELOPMENT else {}

# A page that shows variables to whoever provokes an error is asked for, never a default.
DEBUG = DEVELOPMENT and environment.flag("DEBUG", default=False)
SECRET_KEY = environment.required(
    "SECRET_KEY",
    in_development=environment.kept_secret("secret_key") if DEVELOPMENT else "",
    purpose="It signs sessions and links: give it 50 or more random characters and keep it.",
)
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS") or (
    ["localhost", "127.0.0.1", "[::1]"] if DEVELOPMENT else []
)
if not ALLOWED_HOSTS:
    raise environment.SettingMissing(
        "ALLOWED_HOSTS", "List the host names under which people reach Runledger."
    )
WEB_URL = environment.required(
    "RUNLEDGER_WEB_URL",
    in_development=SERVICES_UP.get("web", "http://127.0.0.1:8000"),
    purpose="It is where mails and Checkout send people back to, such as https://tokens.example.",
).rstrip("/")
CSRF_TRUSTED_ORIGINS = [WEB_URL]

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = "config.formats"
STATIC_URL = "static/"
# Where collectstatic gathers for production; development serves what the apps contain.
STATIC_ROOT = None if DEVELOPMENT else BASE_DIR / "staticfiles"
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# A batch of 10,000 runs, and the largest that LiteLLM sends, fit; config/chunked.py caps by it too.
DATA_UPLOAD_MAX_MEMORY_SIZE = 32 * 1024 * 1024

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "djmoney",
    "rest_framework",
    "config",
    "ledger",
    "billing",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.machines.Sessions",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "config.machines.SigningIn",
    "config.machines.Messages",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Development serves what the apps contain; production what collectstatic gathered.
WHITENOISE_USE_FINDERS = DEVELOPMENT
WHITENOISE_AUTOREFRESH = DEBUG
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEVELOPMENT
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

DATABASE_URL = os.environ.get("DATABASE_URL", "")
if not DATABASE_URL and not DEVELOPMENT:
    raise environment.SettingMissing("DATABASE_URL", "Name a PostgreSQL 15 or later.")
database: dict[str, Any] = (
    environment.database_from_url(DATABASE_URL) if DATABASE_URL else places.settings(HOME)
)
# Kept and looked after: a restart of the database costs a reconnection, not an error.
database["CONN_HEALTH_CHECKS"] = True
database["CONN_MAX_AGE"] = None
# Statements that ask for it are prepared, and no others however often they come. None: none are.
database["OPTIONS"]["prepare_threshold"] = (
    sys.maxsize if environment.flag("DATABASE_PREPARES", default=True) else None
)
if pool_size := environment.number("DATABASE_POOL_SIZE", default=0):
    # For the web alone: its threads come and go, and a task's process has one connection.
    database["OPTIONS"]["pool"] = {"min_size": 1, "max_size": pool_size, "timeout": 20}
    database["CONN_MAX_AGE"] = 0
DATABASES = {"default": database}

# In how many of the ledger's shards new accounts are opened; those that are there stay.
SHARDS_IN_USE = environment.power_of_two("RUNLEDGER_SHARDS", default=32, most=SHARDS)

LOGIN_URL = "sign_in"
LOGIN_REDIRECT_URL = "front"
LOGOUT_REDIRECT_URL = "sign_in"

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Runledger",
    "SITE_HEADER": "Runledger",
    "SITE_SUBHEADER": "Pricing and tokens",
    "SITE_SYMBOL": "toll",
    "SITE_URL": "/",
    "SHOW_VIEW_ON_SITE": False,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "config.sidebar.icon"}],
    "STYLES": ["config.sidebar.stylesheet"],
    "DASHBOARD_CALLBACK": "billing.admin.home.with_steps",
    "SIDEBAR": {"navigation": "config.sidebar.navigation"},
    "COLORS": {
        "primary": {
            "50": "oklch(97% .018 180)",
            "100": "oklch(94% .04 180)",
            "200": "oklch(88% .07 181)",
            "300": "oklch(80% .1 182)",
            "400": "oklch(70% .11 183)",
            "500": "oklch(60% .105 184)",
            "600": "oklch(50% .09 185)",
            "700": "oklch(44% .078 187)",
            "800": "oklch(38% .064 188)",
            "900": "oklch(33% .052 189)",
            "950": "oklch(25% .04 190)",
        }
    },
}

CURRENCIES = ("EUR", "USD", "GBP", "CHF", "JPY", "KWD")

REST_FRAMEWORK = {
    "EXCEPTION_HANDLER": "ledger.api.problems.exception_handler",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
}

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL") or "pgmq://"
CELERY_BROKER_TRANSPORT_OPTIONS = broker.transport_options(
    CELERY_BROKER_URL, database=database, embedded=not DATABASE_URL
)
CELERY_BROKER_CONNECTION_TIMEOUT = broker.CONNECTED_SECONDS_MAX
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a broker that is away comes back: for ever
# A worker announces itself by queues of its own; on pgmq each would be a table nobody drops.
CELERY_WORKER_ENABLE_REMOTE_CONTROL = not broker.is_pgmq(CELERY_BROKER_URL)
# A message only says "look now" (docs/decisions): it may come twice, and leaves no result.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_BACKEND = None
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Whoever asks for work has committed it: it must not wait for a broker that is away.
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 2,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.4,
}
# Celery would close the connection after each task; config/celery.py checks it instead.
CELERY_DB_REUSE_MAX = 1_000_000_000
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE_FILENAME = str(HOME / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = schedule.SCHEDULE

STRIPE_SECRET_KEY = environment.required(
    "STRIPE_SECRET_KEY",
    in_development=environment.SIMULATED_STRIPE_KEY,
    purpose="It is on Stripe's dashboard, under Developers, API keys.",
)
if DEVELOPMENT and "_live_" in STRIPE_SECRET_KEY:
    raise environment.SettingInvalid(
        "STRIPE_SECRET_KEY", "a live key would charge real people from a development installation."
    )
STRIPE_WEBHOOK_SECRETS = environment.words("STRIPE_WEBHOOK_SECRET") or [
    environment.required(
        "STRIPE_WEBHOOK_SECRET",
        in_development=f"whsec_{environment.kept_secret('stripe_webhook')}" if DEVELOPMENT else "",
        purpose="It is shown beside the webhook endpoint on Stripe's dashboard.",
    )
]
# Without a key of one's own, Stripe is the simulator that `manage.py up` runs.
STRIPE_SIMULATED = environment.SIMULATED_STRIPE_KEY == STRIPE_SECRET_KEY
STRIPE_API_BASE: str | None = (
    os.environ.get("STRIPE_API_BASE")
    or (SERVICES_UP.get("stripe") if STRIPE_SIMULATED else None)
    or ("http://127.0.0.1:9" if STRIPE_SIMULATED else None)  # nobody: never Stripe by mistake
)
STRIPE_TAX = os.environ.get("STRIPE_TAX") == "on"

DEFAULT_FROM_EMAIL = os.environ.get("DEFAULT_FROM_EMAIL") or "Runledger <runledger@localhost>"
SERVER_EMAIL = DEFAULT_FROM_EMAIL
globals().update(
    environment.mail_from_url(
        environment.required(
            "EMAIL_URL",
            in_development=f"file://{HOME / 'mail'}",
            purpose="Alerts go by mail: smtp+tls://user:password@host:587, or console: to print.",
        )
    )
)

LOGGING_CONFIG = None  # logs.configure does it: one format for Django, Celery and ourselves
logs.configure(json=not DEVELOPMENT, level=os.environ.get("LOG_LEVEL") or "INFO")

X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SECURE_REFERRER_POLICY = "same-origin"
if not DEVELOPMENT:
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = environment.flag("SECURE_SSL_REDIRECT", default=True)
    SECURE_HSTS_SECONDS = environment.number("SECURE_HSTS_SECONDS", default=3600)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = environment.flag("SECURE_HSTS_SUBDOMAINS", default=False)
    SECURE_HSTS_PRELOAD = environment.flag("SECURE_HSTS_PRELOAD", default=False)
    if environment.flag("BEHIND_PROXY", default=False):
        # Only where a proxy in front sets or removes this header itself.
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
