"""The hooks of an integration, for the sensor over alerts."""

from dataclasses import dataclass

from d365_campaign.alerts import Alert, Message
from d365_campaign.clients.alerts import notifier
from d365_campaign.settings import Settings


@dataclass(frozen=True)
class AlertHooks:
    """Hooks by name. Each reads its own variables when it sends, so that one without them leaves the others alone."""

    settings: Settings

    def send(self, name: str, alert: Alert) -> None:
        """Tell the hook of this *name*. Raises ConfigurationError, or RetriableError when it may be taken later."""
        chosen = self.settings
        hook = next(each for each in chosen.alerts.hooks if each.name == name)
        notifier(hook, chosen.proxy).send(Message(alert, chosen.environment, chosen.alerts.dagster_url))
