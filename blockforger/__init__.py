"""Blockforger: a multi-tenant backend API with two-way Amazon EventBridge integration."""

from blockforger.celery import app as celery_app

__all__ = ["celery_app"]
