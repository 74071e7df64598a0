"""Logging: one line an event, as JSON in production and for eyes in development.

Django, Celery and libraries log through the standard library, we through structlog; both end in
the same handler. Local variables are never part of a traceback: they may hold personal data.
"""

import logging.config

import structlog
from structlog.typing import Processor

# What would be a line for each poll, task, call, or connection to a nameless socket.
QUIETER = {
    "celery.app.trace": "WARNING",
    "celery.beat": "WARNING",
    "celery.worker.strategy": "WARNING",
    "kombu.connection": "ERROR",
    "pgmq": "WARNING",
    "psycopg.pool": "ERROR",
    "stripe": "WARNING",  # at DEBUG it logs the bodies, which hold personal data
}


def configure(*, json: bool, level: str) -> None:
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    rendered: list[Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if json
        else [
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "events": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": shared,
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        *rendered,
                    ],
                }
            },
            "handlers": {"events": {"class": "logging.StreamHandler", "formatter": "events"}},
            "root": {"handlers": ["events"], "level": level},
            "loggers": {name: {"level": level} for name, level in QUIETER.items()},
        }
    )
