"""Cost of a decision: ratectl, other libraries and floors, each as the body of one loop."""
