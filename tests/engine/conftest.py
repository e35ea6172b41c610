"""Loads the profile of property tests."""

import profiles  # noqa: F401 - importing it is what loads the profile
