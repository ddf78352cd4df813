"""Calls to places that callers have named."""

from headway.adapters.webhooks.caller import HttpWebhookCaller

__all__ = ["HttpWebhookCaller"]
