"""``ratectl demo``: the whole of ratectl at work, in a quarter of a minute."""
