"""`secmem audit`: the ledger: who did what, whether it is whole, and its anchors."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from secure_memory.cli import times
from secure_memory.cli.options import BadUsage, Group, Settings
from secure_memory.cli.output import Cell, aligned, console, json_document, json_line, note, on_terminal, say, table, visible
