"""Kill switches: scopes at and below which agents refuse nothing while the switch is on."""
