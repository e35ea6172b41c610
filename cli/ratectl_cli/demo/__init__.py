"""``ratectl demo``: a demonstration of policies, agents and traffic in about 15 seconds."""
