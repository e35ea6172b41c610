"""Resolution of the policy in force at a scope: inheritance, overrides, exceptions and caps."""
