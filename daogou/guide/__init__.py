"""A trained run to answers, each a JSON-ready document."""

from daogou.guide.guide import Guide

__all__ = ["Guide"]
