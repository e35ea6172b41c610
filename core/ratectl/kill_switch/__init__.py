"""The kill switch: scopes below which agents refuse nothing for a while."""
