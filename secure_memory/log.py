"""Operational logging: structlog events over the standard logger `secure_memory`.

Silent until the program configures logging: the standard logger has a NullHandler, and we never use structlog's default
configuration, which prints to standard output. An event has a name, ids and counts; never content, a key or a token.
The fields travel as the record's `extra`, so that any formatter, JSON or text, can show them.
"""

from __future__ import annotations

import logging
from typing import cast

import structlog

logging.getLogger("secure_memory").addHandler(logging.NullHandler())


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The event logger of a module, below `secure_memory`."""
    return cast(
        structlog.stdlib.BoundLogger,
        structlog.wrap_logger(
            logging.getLogger(name),
            wrapper_class=structlog.stdlib.BoundLogger,
            processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        ),
    )
