"""Moving in and out: configurations of other rate limiters as policies, and policies as theirs."""
