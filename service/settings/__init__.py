"""The settings of a deployment: environment variables ``MSR_…``, checked before anything starts."""

from service.settings.environment import read_settings, unknown_variables
from service.settings.settings import DEMO_BUNDLE, ProviderLimit, Settings

__all__ = ["DEMO_BUNDLE", "ProviderLimit", "Settings", "read_settings", "unknown_variables"]
